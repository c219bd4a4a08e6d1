"""The programs of the across-task search, each compiled once and called for every chunk, genotype and generation."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from atnas_jax.data.episodes import fixed_episodes, sample_episodes
from atnas_jax.devices import AXIS
from atnas_jax.evaluate import drop_infeasible
from atnas_jax.race import fitness_of, race
from atnas_jax.rng import stream
from atnas_jax.run.build import Parts, feasibility, hand_made
from atnas_jax.run.compiled import compiled
from atnas_jax.run.config import chunk_of
from atnas_jax.search.samplers import mixed, strictly_fair, uniform
from atnas_jax.space.slots import mask_of
from atnas_jax.types import MetaLearner

SAMPLERS = {"fair": strictly_fair, "uniform": uniform}


class Programs(NamedTuple):
    """Compiled programs.

    train(meta, genotypes [chunk,T,E], table) -> (meta, metrics of the chunk); donates meta
    draw(search, step, share, anchored) -> genotypes int32 [chunk,T,E] to train with
    ask(search, generation) -> genotypes int32 [P,E] to evaluate
    fitness(params, genotypes [P,E], order [P], rungs [R,2], first episode, table) -> (fitness [P,M], -inf beyond the
        limits; how many evaluations int32 []; order [P], best first), see `race`
    tell(search, genotypes [P,E], fitness [P,M]) -> search
    """

    train: Callable
    draw: Callable
    ask: Callable
    fitness: Callable
    tell: Callable


def make_programs(
    config: ConfigDict,
    parts: Parts,
    scorer: MetaLearner,
    clock: dict[str, float],
    note: Callable[[str], None] | None = None,
) -> Programs:
    """Return the programs of a run.

    Args:
        config: of the run.
        parts: of the run.
        scorer: the `MetaLearner` that adapts to meta_valid episodes.
        clock: gets the seconds of compilation, see `compiled`.
        note: see `compiled`.
    """
    train, search_config, space = config.train, config.search, parts.space
    statistics = parts.normalise
    sampler = SAMPLERS[search_config.sampler]
    chunk = chunk_of(config)

    def train_chunk(meta, genotypes, table):
        def one(meta, genotypes):
            key = stream(config.seed, "train", meta.step)
            spec, tasks = parts.train_spec, train.tasks
            episodes = sample_episodes(key, table, table.meta_train, spec, tasks, statistics, AXIS)
            return parts.learner.step(meta, mask_of(space, genotypes), episodes)

        meta, metrics = jax.lax.scan(one, meta, genotypes)
        return meta, jax.tree.map(jnp.mean, metrics)

    def draw(search, step, share, anchored):
        key = stream(config.seed, "masks", step)
        rows = mixed(key, space, chunk * train.tasks, search.population, search.fitness[:, 0], share, sampler)
        rows = rows.reshape(chunk, train.tasks, space.num_slots)
        if search_config.anchor == "never":
            return rows
        return jnp.where(anchored, rows.at[:, 0].set(hand_made(space)), rows)

    def fitness(params, genotypes, order, rungs, first, table):
        index = first + jnp.arange(search_config.episodes)
        episodes = fixed_episodes(
            parts.dataset.fingerprint, "meta_valid", config.protocol.seed, index, table, parts.test_spec, statistics
        )
        if feasible is not None:
            fits = feasible(genotypes)[order]
            order = order[jnp.argsort(~fits, stable=True)]
            rungs = rungs.at[:, 0].min(fits.sum())
        masks, batch = mask_of(space, genotypes), search_config.batch
        accuracy, seen, order = race(scorer, params, masks, episodes, order, rungs, batch, AXIS)
        values = jnp.concatenate([fitness_of(accuracy, seen, order)[:, None], -costs(genotypes)], 1)
        return drop_infeasible(feasible, genotypes, values), seen.sum(), order

    def ask(search, generation):
        return parts.strategy.ask(stream(config.seed, "ask", generation), search)

    feasible = feasibility(config, space, parts.image_shape)
    wanted = [("params", "macs").index(name) for name in search_config.objectives[1:]]

    def costs(genotypes):
        return parts.cost(genotypes)[:, jnp.asarray(wanted, jnp.int32)].astype(jnp.float32)

    return Programs(
        compiled(train_chunk, clock, donate=(0,), mesh=parts.mesh, note=note),
        *(compiled(function, clock, mesh=parts.mesh) for function in (draw, ask)),
        compiled(fitness, clock, mesh=parts.mesh, note=note),
        compiled(parts.strategy.tell, clock, mesh=parts.mesh),
    )
