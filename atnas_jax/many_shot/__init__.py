"""From a meta-network to a data set with many images a class."""
