"""The programs of the across-task search, each compiled once and called for every chunk, genotype and generation."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from atnas_jax.data.episodes import fixed_episodes, sample_episodes
from atnas_jax.evaluate import evaluate
from atnas_jax.rng import stream
from atnas_jax.run.build import Parts
from atnas_jax.run.state import RunState
from atnas_jax.search.samplers import mixed, strictly_fair, uniform
from atnas_jax.space.cost import cost_model
from atnas_jax.space.slots import mask_of

SAMPLERS = {"fair": strictly_fair, "uniform": uniform}


class Programs(NamedTuple):
    """Compiled programs.

    train(meta, genotypes [chunk,T,E], table) -> (meta, metrics of the chunk); donates meta
    draw(search, step, share) -> genotypes int32 [chunk,T,E] to train with
    fitness(params, genotypes [P,E], first episode, table) -> (fitness [P,M], accuracy [P,T])
    compile_s: seconds spent on lowering and compiling
    """

    train: Callable
    draw: Callable
    fitness: Callable
    compile_s: float


def compile_programs(config: ConfigDict, parts: Parts, state: RunState, scorer) -> Programs:
    """Compile the programs of a run ahead of time, so that none can be compiled again later.

    Args:
        config: of the run.
        parts: of the run.
        state: gives shapes.
        scorer: the `MetaLearner` that adapts to meta_valid episodes.
    """
    train, search, space = config.train, config.search, parts.space
    table, statistics = parts.dataset.table, parts.normalise
    sampler = SAMPLERS[search.sampler]
    chunk = min(train.chunk, train.steps)

    def train_chunk(meta, genotypes, table):
        def one(meta, genotypes):
            key = stream(config.seed, "train", meta.step)
            episodes = sample_episodes(key, table, table.meta_train, parts.train_spec, train.tasks, statistics)
            return parts.learner.step(meta, mask_of(space, genotypes), episodes)

        meta, metrics = jax.lax.scan(one, meta, genotypes)
        return meta, jax.tree.map(jnp.mean, metrics)

    def draw(search, step, share):
        key = stream(config.seed, "masks", step)
        rows = mixed(key, space, chunk * train.tasks, search.population, search.fitness[:, 0], share, sampler)
        return rows.reshape(chunk, train.tasks, space.num_slots)

    def fitness(params, genotypes, first, table):
        index = first + jnp.arange(search.episodes)
        episodes = fixed_episodes(
            parts.dataset.fingerprint, "meta_valid", config.protocol.seed, index, table, parts.test_spec, statistics
        )
        found = evaluate(scorer, params, mask_of(space, genotypes), episodes, batch=search.batch)
        return jnp.concatenate([found.fitness, -costs(genotypes)], 1), found.accuracy

    cost = cost_model(space, parts.image_shape, config.net.readout, config.protocol.ways)
    wanted = [("params", "macs").index(name) for name in search.objectives[1:]]

    def costs(genotypes):
        return cost(genotypes)[:, jnp.asarray(wanted, jnp.int32)].astype(jnp.float32)

    began = time.perf_counter()
    rows = jax.ShapeDtypeStruct((chunk, train.tasks, space.num_slots), jnp.int32)
    number, ratio = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.float32)
    programs = (
        jax.jit(train_chunk, donate_argnums=0).lower(state.meta, rows, table).compile(),
        jax.jit(draw).lower(state.search, number, ratio).compile(),
        jax.jit(fitness).lower(state.meta.params, state.search.population, number, table).compile(),
    )
    return Programs(*programs, time.perf_counter() - began)
