"""Timing of several programs in turns, so that what disturbs the machine disturbs them all."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from atnas_jax.compiler import compile_on
from atnas_jax.devices import make_mesh, replicated


class Program(NamedTuple):
    """A compiled JAX program with its arguments."""

    run: Callable[[], Any]  # returns once the result is there
    compile_s: float  # lowering and compiling, seconds
    temp_mb: float  # scratch memory that XLA plans, megabytes


def compile_program(function: Callable, args: tuple, devices: int = 1) -> Program:
    """Compile `function` for these arguments and bind them; more than one of the devices share by the axis `AXIS`."""
    began = time.perf_counter()
    mesh = make_mesh(devices)
    program = compile_on(mesh, function, args)
    seconds = time.perf_counter() - began
    args = jax.device_put(args, replicated(mesh))
    plan = program.memory_analysis()
    return Program(
        lambda: jax.block_until_ready(program(*args)), seconds, plan.temp_size_in_bytes / 1e6 if plan else float("nan")
    )


def in_turns(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Time every run `rounds` times, one after the other in each round, after one call each that is not timed.

    Args:
        runs: name -> a call that returns once its result is there.
        rounds: how often each is timed.

    Returns:
        name -> seconds, one number a round.
    """
    for run in runs.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - began)
    return taken


def ratio(taken: dict[str, list[float]], slow: str, fast: str) -> float:
    """Return how many times faster `fast` is than `slow`: the median over rounds of their ratio in that round."""
    return float(np.median(np.asarray(taken[slow]) / np.asarray(taken[fast])))
