"""A novel task: a meta-network adapts to a few labelled images, from Python, from a folder, or as an estimator."""
