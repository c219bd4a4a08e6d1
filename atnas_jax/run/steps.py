"""The programs of the across-task search, each compiled once and called for every chunk, genotype and generation."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from atnas_jax.data.episodes import drawn_until, fixed_episodes, repeated, sample_episodes
from atnas_jax.data.table import ClassTable
from atnas_jax.devices import AXIS, TASKS, agreed
from atnas_jax.evaluate import drop_infeasible, mask_gradient
from atnas_jax.job.budget import architecture_steps, searching
from atnas_jax.job.build import Parts
from atnas_jax.job.compiled import compiled
from atnas_jax.job.config import chunk_of
from atnas_jax.job.costs import costs_of, feasibility, fitness_factor
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.outer import outer_schedule
from atnas_jax.job.proxy import make_score
from atnas_jax.job.reorder import reordering
from atnas_jax.job.spaces import hand_made
from atnas_jax.race import fitness_of, race
from atnas_jax.rng import stream
from atnas_jax.search.gradient import log_probability, training_masks
from atnas_jax.search.prefilter import prefilter
from atnas_jax.search.samplers import mixed
from atnas_jax.search.sampling import make_sampler
from atnas_jax.search.strategies import GUIDED
from atnas_jax.search.variation import Feasible, random_feasible
from atnas_jax.space.slots import mask_of
from atnas_jax.types import Array, MetaLearner, MetaState

PROXY_EPISODES = 4  # of meta_valid, over whose support sets a prefilter averages


class Programs(NamedTuple):
    """Compiled programs.

    train(meta, masks [chunk,T,E,O], table) -> (meta, metrics of the chunk: means over the steps that were not skipped,
        and "skipped" bool [chunk], see `outer_step`); donates meta
    control: the same without distillation, shared episodes and sorted channels; `train` itself where there are none
    draw(search, step, share, anchored) -> masks float32 [chunk,T,E,O] to train with
    ask(search, generation, params, table) -> genotypes int32 [P,E] to evaluate; a prefilter reads the last two
    random(generation) -> genotypes int32 [P,E] of random search, to compare with
    fitness(params, genotypes [P,E], order [P], rungs [R,2], first episode, table) -> (fitness [P,M], -inf beyond the
        limits; how many evaluations int32 []; order [P], best first), see `race`
    tell(search, genotypes [P,E], fitness [P,M]) -> search
    descend(search, params, generation, table) -> (search, mean accuracy [] of its masks, -inf if all of its population
        are beyond the limits); a generation of a gradient strategy
    rate(step) -> learning rate float32 [] of an outer step
    """

    train: Callable
    control: Callable
    draw: Callable
    ask: Callable
    random: Callable
    fitness: Callable
    tell: Callable
    descend: Callable
    rate: Callable


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
    search_config, space, strategy, statistics = config.search, parts.space, parts.strategy, parts.normalise

    def trainer(learner, shared, prepare):
        train = make_train(config, parts, learner, shared, prepare)
        return compiled(train, clock, donate=(0,), mesh=parts.mesh, note=note, by_core=parts.by_core)

    def fitness(params, genotypes, order, rungs, first, table):
        episodes = drawn_until(lambda i: valid_episodes(first + i, table), search_config.episodes, rungs[:, 1].max())
        if feasible is not None:
            fits = feasible(genotypes)[order]
            order = order[jnp.argsort(~fits, stable=True)]
            rungs = rungs.at[:, 0].min(fits.sum())
        masks, batch = mask_of(space, genotypes), search_config.batch
        worth = None if factor is None else factor(genotypes)
        accuracy, seen, order = race(scorer, params, masks, episodes, order, rungs, batch, AXIS, worth)
        values = jnp.concatenate([fitness_of(accuracy, seen, order)[:, None], -costs(genotypes)], 1)
        return drop_infeasible(feasible, genotypes, values), seen.sum(), order

    def ask(search, generation, params, table):
        key = stream(config.seed, "ask", generation)
        if search_config.prefilter == "none":
            return strategy.ask(key, search)
        index = generation * search_config.episodes + jnp.arange(min(PROXY_EPISODES, search_config.episodes))
        score = make_score(config, space, parts.image_shape, parts.latency)
        asked = prefilter(strategy.ask, score, search_config.prefilter_factor)
        return asked(key, search, params, valid_episodes(index, table))

    def random(generation):
        key = stream(config.seed, "random search", generation)
        return random_feasible(key, space, search_config.population, feasible, 64)

    def valid_episodes(index, table):
        return fixed_episodes(
            parts.dataset.fingerprint, "meta_valid", config.protocol.seed, index, table, parts.test_spec, statistics
        )

    of_run = (config, space, parts.image_shape, parts.latency)
    feasible, factor = feasibility(*of_run), fitness_factor(*of_run)
    costs = costs_of(search_config.objectives[1:], *of_run)

    shared = config.train.masks_per_task
    training = trainer(parts.learner, shared, reordering(config, space))
    # What only the supernet's training has; the control trains on T tasks, under one mask, maybe of another space.
    plain = shared == 1 and not search_config.reorder_channels and parts.control.learner is parts.learner
    brief = functools.partial(compiled, clock=clock, mesh=parts.mesh, quickly=True)  # runs for a moment, now and then
    learns = search_config.strategy in GUIDED or search_config.prefilter != "none"
    return Programs(
        training,
        training if plain else trainer(parts.control.learner, 1, lambda meta: meta),
        brief(make_draw(config, parts)),
        compiled(ask, clock, mesh=parts.mesh) if learns else brief(ask),
        brief(random),
        compiled(fitness, clock, mesh=parts.mesh, note=note, by_core=parts.by_core),
        compiled(strategy.tell, clock, mesh=parts.mesh),
        compiled(make_descend(config, parts, feasible), clock, mesh=parts.mesh, note=note, by_core=parts.by_core),
        brief(outer_schedule(config)),
    )


def make_train(
    config: ConfigDict,
    parts: Parts,
    learner: MetaLearner,
    shared: int = 1,
    prepare: Callable[[MetaState], MetaState] = lambda meta: meta,
) -> Callable:
    """Return train(meta, masks [chunk,T,E,O], table, seed) -> (meta, metrics), see `Programs`.

    Args:
        config, parts: of the run.
        learner: that trains.
        shared: masks in a row that train on the same episode.
        prepare: what happens to the state before each outer step.

    Of `train`, `seed` is the root of the episodes, an int or a key; by default it is the config's.
    """
    tasks = config.train.tasks // shared

    def train_chunk(meta, masks, table, seed=config.seed):
        def one(meta, masks):
            key = stream(seed, "train", meta.step)
            classes, among = training_classes(config, table, meta.step)
            episodes = sample_episodes(key, table, classes, parts.train_spec, tasks, parts.normalise, TASKS, among)
            return learner.step(prepare(meta), masks, repeated(episodes, shared))

        meta, metrics = jax.lax.scan(one, meta, masks)
        skipped = metrics.pop("skipped")
        means = jax.tree.map(lambda x: x.mean(where=~skipped), metrics)
        return agreed((meta, means | {"skipped": skipped}))

    return train_chunk


def training_classes(config: ConfigDict, table: ClassTable, step: Array) -> tuple[Array, Array | None]:
    """Return the classes that train, and how many of them, the first ones, do so at outer step int32 []; None: all."""
    if not config.train.finish_valid:
        return table.meta_train, None
    classes = jnp.concatenate([table.meta_train, table.meta_valid])
    chooses = step < searching(config) * chunk_of(config)
    return classes, jnp.where(chooses, len(table.meta_train), len(classes))


def make_draw(config: ConfigDict, parts: Parts) -> Callable:
    """Return draw(search, step, share, anchored) -> masks float32 [chunk,T,E,O], see `Programs`."""
    train, space, strategy, chunk = config.train, parts.space, parts.strategy, chunk_of(config)
    sampler = make_sampler(
        config.search.sampler,
        space,
        strategy,
        tasks=train.tasks,
        order=tuple(config.search.progressive),
        opened=round(config.search.open_by * train.steps),
    )

    def draw(search, step, share, anchored):
        key = stream(config.seed, "masks", step)
        number, base = chunk * train.tasks, sampler(search, step)
        if strategy.relax is None:
            rows = mixed(key, space, number, search.population, search.fitness[:, 0], share, base)
            masks = mask_of(space, rows)
        else:
            masks = training_masks(key, space, number, lambda k: strategy.relax(k, search), share, base)
        masks = masks.reshape(chunk, train.tasks, *masks.shape[1:])
        if config.search.anchor == "never":
            return masks
        return jnp.where(anchored, masks.at[:, 0].set(mask_of(space, hand_made(space))), masks)

    return draw


def make_descend(config: ConfigDict, parts: Parts, feasible: Feasible | None) -> Callable:
    """Return descend(search, params, generation, table) -> (search, mean accuracy []), see `Programs`."""
    strategy, train = parts.strategy, config.train
    scorer = evaluation_learner(config, parts.space, parts.image_shape, config.protocol.ways, tolerance=0.0)

    def descend(search, params, generation, table):
        turns = architecture_steps(config)

        def one(search, turn):
            key = stream(config.seed, "architecture", generation * turns + turn)
            noise, drawn = stream(key, "mask"), stream(key, "episodes")
            episodes = sample_episodes(drawn, table, table.meta_valid, parts.test_spec, train.tasks, parts.normalise)
            mask = strategy.relax(noise, search)
            loss, right, slope = mask_gradient(scorer, params, mask, episodes, train.task_batch, TASKS)
            told = strategy.tell_grad(noise, search, loss, slope)
            finite = jnp.isfinite(loss) & jnp.isfinite(slope).all()
            return jax.tree.map(lambda new, old: jnp.where(finite, new, old), told, search), right

        search, right = agreed(jax.lax.scan(one, search, jnp.arange(turns)))
        asked = strategy.ask(stream(config.seed, "ask", generation), search)
        likely = drop_infeasible(feasible, asked, log_probability(search.logits, asked)[:, None])
        return strategy.tell(search, asked, likely), jnp.where(jnp.isfinite(likely).any(), right.mean(), -jnp.inf)

    return descend
