"""What devices send each other in a run, counted from its config; `docs/scaling.md` says what follows from it.

A device that gathers n shares of s bytes receives (n-1)*s; a sum over n devices of s bytes is counted as the ring
all-reduce, in which each receives 2*(n-1)/n*s (Patarasuk & Yuan 2009, "Bandwidth optimal all-reduce algorithms for
clusters of workstations", section 4). Links and hosts are not modelled.
"""

import math
from typing import Any

import jax
from ml_collections import ConfigDict

from atnas_jax.devices import LANES, POPULATION, TASKS
from atnas_jax.job.budget import rows_of, rungs_of
from atnas_jax.job.build import Parts
from atnas_jax.job.config import chunk_of
from atnas_jax.types import PyTree


def gather_of(share: int, devices: int) -> int:
    """Return the bytes that each device receives when all gather a share of so many bytes of each."""
    return (devices - 1) * share


def sum_of(size: int, devices: int) -> int:
    """Return the bytes that each device receives in a ring all-reduce of arrays of so many bytes."""
    return 2 * (devices - 1) * size // devices


def gradient_lanes(rows: int, devices: int) -> int:
    """Return how many partial sums of a gradient are gathered, see `devices.sum_rows`; 0 where they are all-reduced."""
    if devices > LANES:
        return 0
    lanes = math.gcd(rows, LANES)
    return devices if lanes % devices else lanes


def traffic(
    config: ConfigDict, parts: Parts, tasks: int | None = None, population: int | None = None
) -> dict[str, Any]:
    """Return the bytes that each device of a mesh receives from others, by when.

    Args:
        config: of the run, of a strategy that asks and tells.
        parts: of the run.
        tasks, population: devices along the axes; default: those of the mesh of the parts. A number of tasks that does
            not divide the episodes of a step stands for as many episodes as it takes.

    Returns:
        parameters: of the supernet, all ops together.
        gradient_bytes, state_bytes: of one gradient with its metrics; of parameters and optimiser with the metrics.
        outer_step: bytes received, the gradients; with train.warp the episodes besides.
        chunk: bytes received once per train.chunk steps, for lines of the population axis to agree.
        generation: bytes received in a generation: the scores, once a rung.
        steps, chunks, generations: of the whole search, without the control.
        search: bytes received in all of it.
    """
    tasks = tasks or parts.mesh.shape[TASKS]
    population = population or parts.mesh.shape[POPULATION]
    rows = rows_of(config)
    rows = rows if rows % tasks == 0 else tasks
    state = jax.eval_shape(parts.learner.init, jax.random.key(0))
    metrics = 4 * 3  # loss, accuracy and the norm of the gradient, which is no part of the sum
    gradient, whole = bytes_of(state.params) + metrics - 4, bytes_of(state) + metrics
    lanes = gradient_lanes(rows, tasks)
    step = gather_of(lanes // tasks * gradient, tasks) if lanes else sum_of(gradient, tasks)
    if config.train.warp:
        step += gather_of(-(-config.train.tasks // tasks) * episode_bytes(parts), tasks)
    chunk = sum_of(whole, population)
    rungs = len(rungs_of(config, config.search.episodes))
    scores = rungs * sum_of(4 * config.search.population * config.search.episodes, tasks * population)
    steps, chunks, generations = config.train.steps, config.train.steps // chunk_of(config), config.search.generations
    return {
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params)),
        "gradient_bytes": gradient,
        "state_bytes": whole,
        "outer_step": step,
        "chunk": chunk,
        "generation": scores,
        "steps": steps,
        "chunks": chunks,
        "generations": generations,
        "search": steps * step + chunks * chunk + generations * scores,
    }


def episode_bytes(parts: Parts) -> int:
    """Return the bytes of one training episode on the device: float32 images and int32 labels."""
    spec = parts.train_spec
    return 4 * spec.ways * (spec.shots + spec.queries) * (math.prod(parts.image_shape) + 1)


def bytes_of(tree: PyTree) -> int:
    """Return the bytes of all arrays, or shapes, of a tree."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
