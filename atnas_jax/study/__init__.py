"""Experiments over searches and tables: seeds, rank correlation, strategies compared, traffic."""
