"""A prefilter keeps the best of what it asked for, and all that a strategy insists on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.prefilter import prefilter

KEY, FACTOR = jax.random.key(7), 4


def draw(key, elites):
    """Ask as a strategy does: its elites, whatever the key, and six random rows."""
    return jnp.concatenate([elites, jax.random.randint(key, (6, 3), 0, 4)])


def score(rows):
    return rows.sum(-1).astype(jnp.float32)


def proposed(elites):
    """Return what all asks together propose, elites left out."""
    return np.concatenate([draw(key, elites)[len(elites) :] for key in jax.random.split(KEY, FACTOR)])


def test_the_best_of_what_was_asked_is_kept_and_copies_are_not():
    nobody = jnp.zeros((0, 3), jnp.int32)
    asked = np.asarray(jax.jit(prefilter(draw, score, FACTOR))(KEY, nobody))
    rows = np.unique(proposed(nobody), axis=0)
    assert asked.shape == (6, 3) and asked.dtype == np.int32
    assert sorted(asked.sum(-1)) == sorted(rows.sum(-1))[-6:]
    assert len(np.unique(asked, axis=0)) == 6


def test_elites_stay_in_front_whatever_their_score():
    elites = jnp.zeros((2, 3), jnp.int32).at[1, 0].set(1)
    asked = np.asarray(jax.jit(prefilter(draw, score, FACTOR))(KEY, elites))
    np.testing.assert_array_equal(asked[:2], elites)
    rows = np.unique(proposed(elites), axis=0)
    assert sorted(asked[2:].sum(-1)) == sorted(rows.sum(-1))[-6:]


def test_a_first_population_that_no_key_changes_is_left_alone():
    population = jnp.asarray([[0, 0, 0], [3, 3, 3], [0, 0, 0], [1, 2, 0]])
    asked = jax.jit(prefilter(lambda key, state: state, score, FACTOR))(KEY, population)
    np.testing.assert_array_equal(asked, population)


def test_a_factor_of_one_changes_nothing_but_the_key_and_nan_is_worst():
    nobody = jnp.zeros((0, 3), jnp.int32)
    asked = prefilter(draw, score, 1)(KEY, nobody)
    np.testing.assert_array_equal(asked, draw(jax.random.split(KEY, 1)[0], nobody))

    def broken(rows, limit):
        return jnp.where(rows[:, 0] >= limit, jnp.nan, rows[:, 0])

    asked = np.asarray(jax.jit(prefilter(draw, broken, FACTOR))(KEY, nobody, jnp.int32(2)))
    rows = np.unique(proposed(nobody), axis=0)[:, 0]
    assert sorted(asked[:, 0]) == sorted(rows[rows < 2])[-6:] and (rows >= 2).any()
    with pytest.raises(ValueError, match=r"search\.prefilter_factor is 0"):
        prefilter(draw, score, 0)
