"""That the strategies search: planted optima and a known front; tables of trained networks are in tests/run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.strategies import make_strategy
from atnas_jax.space.slots import SearchSpace

pytestmark = pytest.mark.usefixtures("few_optimisations")


def space_of(cards):
    return SearchSpace(
        "toy", (), tuple(f"s{i}" for i in range(len(cards))), tuple(tuple(map(str, range(c))) for c in cards)
    )


SPACE = space_of((4, 3, 4, 1, 4, 3, 4, 4))
PLANTED = jnp.asarray([3, 0, 2, 0, 1, 2, 0, 3], jnp.int32)
OPTIONS = {
    "random": {"population": 12},
    "genetic": {"population": 12},
    "regularised": {"population": 24, "sample": 6, "children": 12},
    "nsga2": {"population": 12, "objectives": 1},
    "reinforce": {"population": 12},
    "asng": {"population": 12},
    "coevolution": {"population": 12},
    "staged": {"population": 12},
    "islands": {"population": 12, "islands": 2},
}


def agreement(genotypes):
    """[P,1]: how many slots agree with the planted genotype, weighted so that there are no ties."""
    return ((genotypes == PLANTED) * (1 + 0.1 * jnp.arange(8))).sum(-1, keepdims=True)


def best_of_run(strategy, evaluate, generations):
    """Best fitness of one run of `strategy`, from a key."""

    def run(key):
        key_init, key_run = jax.random.split(key)

        def step(state, key):
            asked = strategy.ask(key, state)
            return strategy.tell(state, asked, evaluate(asked)), None

        return jax.lax.scan(step, strategy.init(key_init), jax.random.split(key_run, generations))[0]

    return run


@functools.cache
def planted_bests(name):
    """Best fitness of 16 seeds after 240 evaluations on a space of 9,216 genotypes."""
    run = best_of_run(make_strategy(name, SPACE, **OPTIONS[name]), agreement, 20)
    return np.asarray(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(3), 16)).best_fitness)


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "random"])
def test_finds_a_planted_optimum_that_random_search_misses(name):
    optimum = float(agreement(PLANTED[None])[0, 0])
    found = (planted_bests(name) > optimum - 1e-3).mean()
    assert found >= 0.75
    assert (planted_bests("random") > optimum - 1e-3).mean() <= 0.25
    assert planted_bests(name).mean() > planted_bests("random").mean() + 0.5


def test_nsga2_finds_the_known_front():
    """Maximise the sum of the slots and minus the sum of their squares: on the front, slots differ by at most 1."""
    space = space_of((6,) * 5)

    def evaluate(rows):
        rows = rows.astype(jnp.float32)
        return jnp.stack([rows.sum(-1), -(rows**2).sum(-1)], -1)

    run = best_of_run(make_strategy("nsga2", space, population=60), evaluate, 40)
    state = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 16))
    population, sums = np.asarray(state.population), np.asarray(state.fitness[..., 0])
    on_front = np.ptp(population, axis=-1) <= 1  # 2 % of the space
    assert on_front.mean() > 0.9
    covered = [len(np.unique(s[f])) for s, f in zip(sums, on_front)]  # of the 26 sums, 0 to 25
    assert np.median(covered) >= 23 and min(covered) >= 18
    assert all(len(np.unique(rows, axis=0)) == 60 for rows in population)
