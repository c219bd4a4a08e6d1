"""Crossover, mutation, tournaments and rejection."""

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.search.variation import breed, crossover, mutate, mutate_one, random_feasible, retry, tournament
from atnas_jax.space.slots import SearchSpace, random_genotypes

CARDS = (3, 1, 2, 5)
SPACE = SearchSpace("toy", (), ("a", "b", "c", "d"), tuple(tuple(map(str, range(c))) for c in CARDS))
KEY = jax.random.key(0)
NONE = jnp.zeros((0, 4), jnp.int32)


def test_mutation_always_picks_another_choice_evenly():
    rows = random_genotypes(KEY, SPACE, 4000)
    mutants = np.asarray(mutate(jax.random.key(1), SPACE, rows, 1.0))
    assert np.all((mutants >= 0) & (mutants < CARDS))
    np.testing.assert_array_equal((mutants != rows).all(0), [True, False, True, True])
    np.testing.assert_array_equal(mutants[:, 1], 0)
    others = mutants[np.asarray(rows)[:, 3] == 2, 3]
    counts = np.bincount(others, minlength=5)
    assert counts[2] == 0 and np.all(np.abs(counts[[0, 1, 3, 4]] - len(others) / 4) < 5 * np.sqrt(len(others) / 4))


def test_mutation_rate_per_slot():
    rows = jnp.zeros((4000, 4), jnp.int32)
    rate = np.asarray(mutate(KEY, SPACE, rows, 0.25) != 0).mean(0)
    np.testing.assert_allclose(rate, [0.25, 0, 0.25, 0.25], atol=0.04)
    np.testing.assert_array_equal(mutate(KEY, SPACE, rows, 0.0), rows)


def test_mutate_one_changes_one_slot_that_has_a_choice():
    rows = random_genotypes(KEY, SPACE, 3000)
    changed = np.asarray(mutate_one(jax.random.key(1), SPACE, rows) != rows)
    np.testing.assert_array_equal(changed.sum(-1), 1)
    np.testing.assert_allclose(changed.mean(0), [1 / 3, 0, 1 / 3, 1 / 3], atol=0.05)


def test_a_space_without_choices_stays():
    point = SearchSpace("toy", (), ("a",), (("0",),))
    rows = jnp.zeros((3, 1), jnp.int32)
    np.testing.assert_array_equal(mutate_one(KEY, point, rows), rows)
    np.testing.assert_array_equal(mutate(KEY, point, rows, 1.0), rows)


def test_crossover_takes_each_slot_from_a_parent():
    a, b = jnp.zeros((4000, 4), jnp.int32), jnp.ones((4000, 4), jnp.int32)
    child = np.asarray(crossover(KEY, a, b, 0.5))
    mixed = child.any(-1)
    assert abs(mixed.mean() - 0.5 * 15 / 16) < 0.05
    np.testing.assert_allclose(child[mixed].mean(0), 8 / 15, atol=0.05)
    np.testing.assert_array_equal(crossover(KEY, a, b, 0.0), a)


def test_tournament_wins_as_often_as_it_should():
    order = jnp.asarray([3, 1, 0, 2])  # member 3 is the best
    winners = np.bincount(tournament(KEY, order, 8000, 2), minlength=4) / 8000
    np.testing.assert_allclose(winners, np.asarray([3, 5, 1, 7]) / 16, atol=0.03)


def test_retry_finds_feasible_and_new_rows():
    def feasible(rows):
        return rows[:, 3] == 4

    avoid = jnp.asarray([[0, 0, 0, 4], [1, 0, 1, 4]], jnp.int32)
    rows = np.asarray(retry(KEY, lambda k: random_genotypes(k, SPACE, 3), feasible, 200, avoid))
    assert (rows[:, 3] == 4).all()
    assert len(np.unique(np.concatenate([rows, avoid]), axis=0)) == 5


def test_retry_is_bounded_and_prefers_feasible_to_new():
    never = random_feasible(KEY, SPACE, 4, lambda rows: jnp.zeros(rows.shape[0], bool), 5)
    assert never.shape == (4, 4)
    only = jnp.asarray([[2, 0, 1, 3]], jnp.int32)
    rows = random_feasible(KEY, SPACE, 3, lambda rows: (rows == only).all(-1), 2000)
    np.testing.assert_array_equal(rows, jnp.tile(only, (3, 1)))


def test_children_that_never_become_feasible_are_a_feasible_parent():
    a = jnp.asarray([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]], jnp.int32)
    b = jnp.asarray([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2]], jnp.int32)

    def vary(key, a, b):
        return jnp.full_like(a, 1) * jnp.asarray([2, 0, 1, 3])

    children = breed(KEY, vary, a, b, lambda rows: rows[:, 3] == 0, 4, NONE)
    np.testing.assert_array_equal(children, [[0, 0, 0, 0], [0, 0, 0, 0], [2, 0, 1, 3]])
