"""Search spaces: slots, genotype <-> mask <-> text, exact costs, Pareto ranks."""
