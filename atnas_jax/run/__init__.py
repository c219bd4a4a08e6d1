"""The search itself: the units of a run, its generations, checkpoints between them, and what it writes."""
