"""Losses, heads, the inner loop and the gradient-based meta-learners."""
