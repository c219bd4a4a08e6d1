"""Searches over genotypes (ask and tell) and samplers of the genotypes that train a supernet."""
