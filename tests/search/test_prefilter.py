"""A prefilter keeps the best of what it asked for, and all that a strategy insists on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.genetic import genetic
from atnas_jax.search.prefilter import prefilter
from atnas_jax.search.random_search import random_search
from atnas_jax.search.state import SearchState
from atnas_jax.space.slots import SearchSpace

SPACE = SearchSpace("toy", (), tuple(f"s{i}" for i in range(6)), (tuple("abcd"),) * 6)


def score(genotypes):
    return genotypes.sum(-1).astype(jnp.float32)


def told():
    """A population of six whose two best by fitness are the two worst by the score."""
    population = jnp.asarray([[3] * 6, [2] * 6, [1] * 6, [0] * 6, [0, 1] * 3, [2, 3] * 3], jnp.int32)
    fitness = jnp.asarray([0.1, 0.2, 0.3, 0.9, 0.8, 0.4])[:, None]
    return SearchState(population, fitness, jnp.int32(1), population[3], jnp.float32(0.9))


def test_the_best_of_what_was_asked_is_kept():
    strategy, factor = random_search(SPACE, population=8), 4
    state, key = strategy.init(jax.random.key(0)), jax.random.key(7)
    state = state._replace(generation=jnp.int32(1))
    asked = np.asarray(jax.jit(prefilter(strategy.ask, score, factor))(key, state))
    proposed = np.concatenate([strategy.ask(k, state) for k in jax.random.split(key, factor)])
    assert asked.shape == (8, 6) and asked.dtype == np.int32
    assert sorted(asked.sum(-1)) == sorted(np.unique(proposed, axis=0).sum(-1))[-8:]
    assert len(np.unique(asked, axis=0)) == 8


def test_elites_stay_in_front_whatever_their_score_and_copies_go():
    strategy = genetic(SPACE, population=6, elites=2)
    asked = np.asarray(jax.jit(prefilter(strategy.ask, score, 5))(jax.random.key(1), told()))
    np.testing.assert_array_equal(asked[:2], np.asarray(told().population)[[3, 4]])
    plain = np.asarray(jax.jit(strategy.ask)(jax.random.key(1), told()))
    assert asked[2:].sum() > plain[2:].sum()
    assert len(np.unique(asked, axis=0)) == 6


def test_the_first_population_is_left_alone():
    strategy = genetic(SPACE, population=6)
    state = strategy.init(jax.random.key(0))
    asked = jax.jit(prefilter(strategy.ask, score, 3))(jax.random.key(1), state)
    np.testing.assert_array_equal(asked, state.population)


def test_a_factor_of_one_changes_nothing_but_the_key_and_nan_is_worst():
    strategy, key = random_search(SPACE, population=5), jax.random.key(3)
    state = strategy.init(jax.random.key(0))._replace(generation=jnp.int32(1))
    asked = prefilter(strategy.ask, score, 1)(key, state)
    np.testing.assert_array_equal(asked, strategy.ask(jax.random.split(key, 1)[0], state))

    def broken(genotypes, limit):
        return jnp.where(genotypes[:, 0] >= limit, jnp.nan, genotypes[:, 0])

    asked = jax.jit(prefilter(strategy.ask, broken, 6))(key, state, jnp.int32(2))
    proposed = np.concatenate([strategy.ask(k, state) for k in jax.random.split(key, 6)])[:, 0]
    best = sorted(proposed[proposed < 2])[-5:]
    assert sorted(np.asarray(asked[:, 0])) == best and (proposed >= 2).any() and set(best) == {0, 1}
    with pytest.raises(ValueError, match=r"search\.prefilter_factor is 0"):
        prefilter(strategy.ask, score, 0)
