"""One genotype trained alone, as the control is, inside the program of the supernet: one compilation serves them all.

A masked-out weight has neither value nor gradient, and neither clipping nor the outer optimiser lets it reach another
one, so what the mask shows takes the steps that the plain network of the genotype takes (`tests/run/test_alone.py`).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.data.episodes import fixed_episodes
from atnas_jax.devices import AXIS
from atnas_jax.evaluate import score_each
from atnas_jax.evidence.choose import chunks_of
from atnas_jax.job.build import Parts
from atnas_jax.job.compiled import compiled
from atnas_jax.job.config import chunk_of
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.plain import as_plain
from atnas_jax.rng import stream
from atnas_jax.run.steps import make_train
from atnas_jax.space.slots import mask_of
from atnas_jax.types import MetaState, Params

FIRST = 1 << 20  # number of the first meta_valid episode that scores; a search has seen those from 0 on
NAME = "alone"  # of the keys


class Alone(NamedTuple):
    """How one genotype int32 [E] is trained alone, on the host.

    start(genotype, seed) -> MetaState with the weights that its plain network would start from
    train(meta, genotype, seed, note) -> (meta, curve): all outer steps; the curve is the mean training loss of every
        chunk, float; note(chunks done, chunks) is told of each
    """

    start: Callable[..., MetaState]
    train: Callable[..., tuple[MetaState, list[float]]]


def alone_config(config: ConfigDict, steps: int) -> ConfigDict:
    """Return the config of a run as it is for so many outer steps alone: the schedule ends with them, nobody teaches.

    Raises:
        ValueError: the learner freezes its kernels later than that.
    """
    if config.learner.name == "mtl" and config.learner.freeze_after >= steps:
        raise ValueError(f"steps={steps}: learner.freeze_after is {config.learner.freeze_after}; type more --steps")
    alone = config.copy_and_resolve_references()
    alone.train.update({"steps": steps, "chunk": math.gcd(steps, chunk_of(config)), "distill": 0.0})
    return alone


def make_alone(
    config: ConfigDict, parts: Parts, steps: int, clock: dict[str, float], note: Callable[[str], None] | None = None
) -> Alone:
    """Return how genotypes are trained alone under the learner and the recipe of a run.

    Genotypes of one seed share the episodes and the draw of their weights, so that luck does not tell them apart.

    Args:
        config, parts: of the run.
        steps: outer steps of each.
        clock, note: see `compiled`.
    """
    alone, space = alone_config(config, steps), parts.space
    train, table, root = alone.train, parts.dataset.table, stream(0, NAME)
    learner = evaluation_learner(
        alone, space, parts.image_shape, train.ways, inner_steps=alone.learner.inner_steps, tolerance=0.0
    )
    step, init = make_train(alone, parts, learner), jax.jit(learner.init)

    def train_alone(meta, genotype, seed, table):
        mask = mask_of(space, genotype)
        masks = jnp.broadcast_to(mask, (train.chunk, train.tasks, *mask.shape))
        return step(meta, masks, table, stream(root, "episodes", seed))

    program = compiled(train_alone, clock, donate=(0,), mesh=parts.mesh, note=note, by_core=parts.by_core)

    def start(genotype, seed):
        meta = init(stream(root, "init", seed))
        return meta._replace(params=as_plain(space, genotype, meta.params, parts.image_shape))

    def run(meta, genotype, seed, told=lambda done, number: None):
        curve, chunks = [], steps // train.chunk
        for done in range(chunks):
            meta, found = program(meta, jnp.asarray(genotype), jnp.int32(seed), table)
            curve.append(float(found["loss"]))
            told(done + 1, chunks)
        return meta, curve

    return Alone(start, run)


def make_scores(
    config: ConfigDict, parts: Parts, episodes: int, clock: dict[str, float], note: Callable[[str], None] | None = None
) -> Callable[[Params, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return scores(params, genotype int32 [E]) -> accuracy and loss float32 [episodes], on the same episodes always.

    The episodes are of meta_valid, and of those that no search has scored on.
    """
    learner = evaluation_learner(config, parts.space, parts.image_shape, config.protocol.ways)
    source, statistics = parts.dataset.fingerprint, parts.normalise

    def score_alone(params, genotype, index, table):
        drawn = fixed_episodes(
            source, "meta_valid", config.protocol.seed, index, table, parts.test_spec, statistics
        )  # fmt: skip
        mask = mask_of(parts.space, genotype)
        return score_each(learner, params, jnp.broadcast_to(mask, (*index.shape, *mask.shape)), drawn, axis=AXIS)

    program = compiled(score_alone, clock, mesh=parts.mesh, note=note, by_core=parts.by_core)

    def scores(params, genotype):
        found = [
            program(params, jnp.asarray(genotype), jnp.asarray(FIRST + index), parts.dataset.table)
            for index in chunks_of(episodes)
        ]
        accuracy, loss = (np.concatenate([np.asarray(part) for part in column])[:episodes] for column in zip(*found))
        return accuracy, loss

    return scores
