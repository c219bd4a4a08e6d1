"""Samplers: exact counts where they promise them, binomial ranges elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.samplers import mixed, strictly_fair, uniform
from atnas_jax.space.slots import SearchSpace

CARDS = (3, 1, 2, 5, 3)
SPACE = SearchSpace("toy", (), tuple(f"s{i}" for i in range(5)), tuple(tuple(map(str, range(c))) for c in CARDS))


@pytest.mark.parametrize("n", [30, 7, 1])
def test_strictly_fair_counts_are_exact(n):
    rows = np.asarray(jax.jit(lambda key: strictly_fair(key, SPACE, n))(jax.random.key(n)))
    assert rows.shape == (n, len(CARDS)) and rows.dtype == np.int32
    for slot, card in enumerate(CARDS):
        for block in range(n // card):
            assert sorted(rows[block * card : (block + 1) * card, slot]) == list(range(card))
        assert len(set(rows[n // card * card :, slot])) == n % card


def test_strictly_fair_permutations_are_uniform_and_independent():
    rows = jax.jit(jax.vmap(lambda key: strictly_fair(key, SPACE, 6)))(jax.random.split(jax.random.key(0), 3000))
    first, last, again = (
        np.asarray(rows[:, rows_, slot]) for rows_, slot in ((slice(3), 0), (slice(3), 4), (slice(3, 6), 0))
    )
    codes = [a @ [9, 3, 1] for a in (first, last, again)]
    assert np.all(np.abs(np.unique(codes[0], return_counts=True)[1] - 500) < 5 * np.sqrt(500))
    for other in codes[1:]:
        counts = np.unique(codes[0] * 100 + other, return_counts=True)[1]
        assert len(counts) == 36 and np.all(np.abs(counts - 3000 / 36) < 5 * np.sqrt(3000 / 36))


def test_uniform_is_within_the_binomial_range():
    rows = np.asarray(uniform(jax.random.key(1), SPACE, 5000))
    for slot, card in enumerate(CARDS):
        counts = np.bincount(rows[:, slot], minlength=card)
        assert len(counts) == card and np.all(np.abs(counts - 5000 / card) <= 5 * np.sqrt(5000 / card))


POPULATION = jnp.asarray([[2, 0, 1, 4, i % 3] for i in range(6)], jnp.int32).at[:, 3].set(jnp.arange(6) % 5)
FITNESS = jnp.asarray([0.1, 0.9, 0.2, 0.8, 0.3, 0.7])


@jax.jit
def draw(share, fitness):
    return mixed(jax.random.key(2), SPACE, 3000, POPULATION, fitness, share)


def members(rows):
    return {int(i) for row in np.unique(rows, axis=0) for i in np.flatnonzero((np.asarray(POPULATION) == row).all(-1))}


def test_mixed_follows_a_traced_share():
    np.testing.assert_array_equal(
        draw(0.0, FITNESS), strictly_fair(jax.random.split(jax.random.key(2), 3)[0], SPACE, 3000)
    )
    rows = np.asarray(draw(1.0, FITNESS))
    assert members(rows) == {1, 3, 5}
    counts = np.unique(rows, axis=0, return_counts=True)[1]
    assert len(counts) == 3 and np.all(np.abs(counts - 1000) < 5 * np.sqrt(1000))
    half = np.asarray(draw(0.5, FITNESS))
    same = (half == np.asarray(draw(0.0, FITNESS))).all(-1).mean()
    assert 0.45 < same < 0.6
    assert draw._cache_size() == 1


def test_mixed_skips_failed_members_unless_none_was_told():
    assert members(draw(1.0, jnp.full(6, -jnp.inf).at[4].set(0.5))) == {4}
    assert members(draw(1.0, jnp.full(6, -jnp.inf))) == {0, 1, 2}


def test_mixed_takes_another_base():
    rows = mixed(jax.random.key(3), SPACE, 50, POPULATION, FITNESS, 0.0, base=uniform)
    np.testing.assert_array_equal(rows, uniform(jax.random.split(jax.random.key(3), 3)[0], SPACE, 50))
