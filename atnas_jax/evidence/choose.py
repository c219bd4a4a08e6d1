"""Which architecture each episode gets, by a search on its support set alone."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.data.episodes import fixed_episodes
from atnas_jax.data.table import ClassTable
from atnas_jax.devices import AXIS, map_rows
from atnas_jax.job.build import Parts
from atnas_jax.job.compiled import stopwatch
from atnas_jax.job.costs import feasibility
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.state import RunState, ranked_population
from atnas_jax.meta.average import evaluated
from atnas_jax.novel.support import Task, make_support_search
from atnas_jax.pseudo import needs_copies, pseudo_rows
from atnas_jax.rng import stream
from atnas_jax.search.genetic import genetic
from atnas_jax.search.random_search import random_search
from atnas_jax.types import Array, Episode, Strategy

CHUNK = 50  # episodes on the device at a time
META_TEST, META_VALID = np.asarray(False), np.asarray(True)  # `valid` of `episodes_of`


def episodes_of(
    config: ConfigDict, parts: Parts, index: Array, table: ClassTable, valid: Array | bool = False
) -> Episode:
    """Return the fixed episodes of meta_test of these numbers int32 [T], or of meta_valid where `valid` bool [] is."""

    def drawn(split):
        return lambda: fixed_episodes(
            parts.dataset.fingerprint, split, config.protocol.seed, index, table, parts.test_spec, parts.normalise,
            config.protocol.rotations,
        )  # fmt: skip

    # Of both splits by one program, as compiling what comes after it takes longer than drawing.
    return jax.lax.cond(valid, drawn("meta_valid"), drawn("meta_test"))


def chunks_of(episodes: int, size: int = 0) -> list[np.ndarray]:
    """Return the numbers 0..episodes-1 in chunks of one size, the last filled up with further ones.

    Args:
        episodes: their number, at least 1.
        size: of a chunk; 0 is `CHUNK`, or all of them where they are fewer.
    """
    size = size or min(CHUNK, episodes)
    return [np.arange(first, first + size) for first in range(0, episodes, size)]


def warm_population(config: ConfigDict, state: RunState) -> Array:
    """Return int32 [n,E]: the shared best, then the fittest of the living population, as many as a novel task asks."""
    return jnp.asarray(np.asarray(ranked_population(state))[: config.adapt.population])


def choose(
    config: ConfigDict, parts: Parts, state: RunState, choice: Callable, at_random: bool, clock: dict[str, float]
) -> tuple[np.ndarray, float]:
    """Choose a genotype for every meta_test episode.

    Args:
        config, parts, state: of the run.
        choice: `chooser`, compiled.
        at_random: by random search instead of the warm genetic algorithm, at the same number of evaluations.
        clock: that of `choice`, so that compiling does not count as choosing.

    Returns:
        (genotypes int32 [episodes,E], median seconds an episode, compiling left out).
    """
    episodes, warm, found, taken = config.protocol.episodes, warm_population(config, state), [], []
    chunks = chunks_of(episodes)
    for index in chunks:
        args = (evaluated(state.meta), warm, jnp.asarray(at_random), jnp.asarray(index), parts.dataset.table, META_TEST)
        seconds = stopwatch(clock)
        found.append(np.asarray(choice(*args)))
        taken.append(seconds() / len(index))
    return np.concatenate(found)[:episodes], float(np.median(taken))


def chooser(config: ConfigDict, parts: Parts) -> Callable:
    """Return choose(params, warm [n,E], at_random, index [T], table, valid) -> int32 [T,E]; `valid` as `episodes_of`.

    It reads the support of the episodes alone; warm[0] is the shared best. One program serves both strategies, which
    differ in what they ask and in whether what they find is held against the shared best.
    """
    adapt, test, space = config.adapt, config.protocol, parts.space
    learner = evaluation_learner(config, space, parts.image_shape, test.ways)
    feasible = feasibility(config, space, parts.image_shape, parts.latency)
    size = adapt.population
    evolved = genetic(space, population=size, elites=min(2, size - 1), feasible=feasible)
    drawn = random_search(space, population=size, feasible=feasible)
    labels = np.repeat(np.arange(test.ways), test.shots)
    rows, moved = pseudo_rows(labels, adapt.folds, adapt.copies), needs_copies(labels)

    def either(at_random: Array, warm: Array) -> Strategy:
        def pick(a, b):
            return jax.tree.map(lambda x, y: jnp.where(at_random, x, y), a, b)

        def init(key, genotypes=None):
            return pick(drawn.init(key), evolved.init(key, warm))

        return Strategy(init, lambda key, s: pick(drawn.ask(key, s), evolved.ask(key, s)), evolved.tell, evolved.best)

    def choose_one(params, warm, at_random, number, support_x, support_y):
        strategy = either(at_random, warm)
        search = make_support_search(config, space, parts.image_shape, learner, strategy, test.ways, moved, feasible)
        key = stream(config.seed, "adapt", number)
        found = search.choose(Task(key, params, support_x, support_y, rows, warm[0]), None)
        return jnp.where(at_random, found.found, found.genotype)  # what is drawn at random has nothing to keep to

    def choose_all(params, warm, at_random, index, table, valid=False):
        episodes = episodes_of(config, parts, index, table, valid)
        support = (index, episodes.support_x, episodes.support_y)
        return map_rows(lambda given: choose_one(params, warm, at_random, *given), support, axis=AXIS)

    return choose_all
