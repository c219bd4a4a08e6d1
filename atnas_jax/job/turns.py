"""Timing in turns, so that what disturbs the machine disturbs all that is compared."""

import time
from collections.abc import Callable, Mapping
from typing import Any


def in_rounds(runs: Mapping[Any, Callable[[], Any]], rounds: int) -> dict[Any, list[float]]:
    """Time every run `rounds` times, one after the other in each round.

    Args:
        runs: name -> a call that returns once its result is there.
        rounds: how often each is timed.

    Returns:
        name -> seconds, one number a round.
    """
    taken: dict[Any, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - began)
    return taken
