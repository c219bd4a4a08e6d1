"""Timing of several programs in turns, so that what disturbs the machine disturbs them all."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from atnas_jax.compiler import compile_on
from atnas_jax.devices import make_mesh, replicated
from atnas_jax.job.turns import in_rounds


class Program(NamedTuple):
    """A compiled JAX program with its arguments."""

    run: Callable[[], Any]  # returns once the result is there
    compile_s: float  # lowering and compiling, seconds
    temp_mb: float  # scratch memory that XLA plans, megabytes


def compile_program(function: Callable, args: tuple, devices: int = 1, by_core: bool = False) -> Program:
    """Compile `function` for these arguments and bind them; more than one of the devices share by the axis `AXIS`.

    `by_core` is as of `options_for`.
    """
    began = time.perf_counter()
    mesh = make_mesh(devices)
    program = compile_on(mesh, function, args, by_core=by_core)
    seconds = time.perf_counter() - began
    args = jax.device_put(args, replicated(mesh))
    plan = program.memory_analysis()
    return Program(
        lambda: jax.block_until_ready(program(*args)), seconds, plan.temp_size_in_bytes / 1e6 if plan else float("nan")
    )


def in_turns(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return what `in_rounds` does, after one call of each run that is not timed."""
    for run in runs.values():
        run()
    return in_rounds(runs, rounds)


def ratio(taken: dict[str, list[float]], slow: str, fast: str) -> float:
    """Return how many times faster `fast` is than `slow`: the median over rounds of their ratio in that round."""
    return float(np.median(np.asarray(taken[slow]) / np.asarray(taken[fast])))
