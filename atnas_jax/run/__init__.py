"""The host loops around the pure functions: search, checkpoints, metrics, progress, results."""
