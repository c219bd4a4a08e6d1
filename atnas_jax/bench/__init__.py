"""What the library costs: works of known size, timed against a peak and a peer in one run."""
