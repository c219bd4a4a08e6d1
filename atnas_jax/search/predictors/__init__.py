"""Predictors: regressions from genotypes to fitness that guide a search."""
