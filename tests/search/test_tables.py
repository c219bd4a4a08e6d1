"""Tables: numbering, limits, ranks, planted optima; and a whole search on one as a scan."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.random_search import random_search
from atnas_jax.search.tables import (
    all_genotypes,
    better_left,
    cost_of,
    index_of,
    lookup,
    make_table,
    planted,
    regret,
    report,
    table_space,
    within,
)
from atnas_jax.search.tabular import best_so_far, search_table

SPACE = table_space((2, 3, 2))
TOLD = np.asarray([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, np.nan, 8], np.float32)
TABLE = make_table(SPACE, TOLD, 10 - TOLD, costs={"ms": np.arange(12.0)})


def test_rows_are_numbered_with_the_first_slot_slowest():
    rows = list(itertools.product(range(2), range(3), range(2)))
    np.testing.assert_array_equal(all_genotypes(SPACE), rows)
    np.testing.assert_array_equal(index_of(SPACE, jnp.asarray(rows)), np.arange(12))
    np.testing.assert_array_equal(lookup(TABLE, jnp.asarray([[1, 2, 1], [0, 2, 1]])), [8, 9])
    np.testing.assert_array_equal(report(TABLE, jnp.asarray([[1, 2, 1], [0, 2, 1]])), [2, 1])
    np.testing.assert_array_equal(cost_of(TABLE, "ms", jnp.asarray([1, 0, 1])), 7)


def test_what_is_no_architecture_is_never_good():
    broken = jnp.asarray([1, 2, 0])
    assert lookup(TABLE, broken) == report(TABLE, broken) == -np.inf
    assert not within(TABLE, "ms", 100.0)(broken[None])[0]
    known = make_table(SPACE, np.ones(12), valid=np.arange(12) != 3)
    assert lookup(known, jnp.asarray([0, 1, 1])) == -np.inf


def test_ranks_and_regret_counted_by_hand():
    rows = jnp.asarray(all_genotypes(SPACE))
    expected = [(TOLD > value).sum() for value in np.where(np.isnan(TOLD), -np.inf, TOLD)]
    np.testing.assert_array_equal(better_left(TABLE, rows), expected)
    assert better_left(TABLE, rows[5]) == 0
    assert float(regret(TABLE, rows[5])) == 8  # reported are 10 - told, so the best is 9 and this is 1
    cheap = within(TABLE, "ms", 4.0)
    np.testing.assert_array_equal(cheap(rows), np.arange(12) <= 4)
    np.testing.assert_array_equal(better_left(TABLE, rows[:5], cheap), [2, 3, 1, 3, 0])


def test_wrong_columns_are_refused():
    with pytest.raises(ValueError, match=r"'told' has shape \(5,\).*\(12,\)"):
        make_table(SPACE, np.ones(5))
    with pytest.raises(ValueError, match="no cost 'mw'; allowed: ms"):
        within(TABLE, "mw", 1.0)


def test_the_planted_optimum_is_where_the_table_says():
    table = planted(jax.random.key(1), (3, 4, 2, 3))
    rows, told = all_genotypes(table.space), np.asarray(table.told)
    assert told.max() == 4 and (told == 4).sum() == 1
    top = rows[told.argmax()]
    near = rows[(rows != top).sum(1) == 1]  # separable: one change costs the same, whatever the rest
    for row in near:
        slot = int((row != top).argmax())
        other = np.where(np.arange(4) == slot, row, 0)
        base = np.where(np.arange(4) == slot, top, 0)
        np.testing.assert_allclose(
            lookup(table, top) - lookup(table, row), lookup(table, base) - lookup(table, other), atol=1e-5
        )


def test_a_planted_pair_is_a_trap_for_changes_of_one_slot():
    table = planted(jax.random.key(1), (3, 4, 2, 3), bonus=1.0)
    rows, told = all_genotypes(table.space), np.asarray(table.told)
    assert (told == told.max()).sum() == 1 and np.isclose(told.max(), 5)
    near = [(rows != row).sum(1) == 1 for row in rows]
    hills = [i for i in range(len(rows)) if (told[near[i]] < told[i]).all()]
    assert len(hills) == 2 and np.isclose(told[hills].min(), 4)
    assert (rows[hills[0]] != rows[hills[1]]).sum() == 2


def test_best_so_far():
    told = jnp.asarray([-np.inf, 2.0, 1.0, 2.0, 3.0, -np.inf])
    np.testing.assert_array_equal(best_so_far(told), [0, 1, 1, 1, 4, 4])


def test_a_search_on_a_table_is_what_the_strategy_does_step_by_step():
    strategy, budget = random_search(SPACE, population=5), 13
    cheap = within(TABLE, "ms", 8.0)
    run = jax.jit(jax.vmap(search_table(strategy, TABLE, budget, cheap)))(jax.random.split(jax.random.key(0), 3))
    assert run.asked.shape == (3, 13, 3)
    for seed in range(3):
        asked, told = np.asarray(run.asked[seed]), np.asarray(run.told[seed])
        rows = np.asarray(index_of(SPACE, asked))
        np.testing.assert_array_equal(told, np.where(rows <= 8, TOLD[rows], -np.inf))
        for t in range(13):
            if told[: t + 1].max() > -np.inf:
                assert run.reported[seed, t] == 10 - told[: t + 1].max()
        np.testing.assert_array_equal(run.state.best_genotype[seed], asked[told.argmax()])
        assert int(run.state.generation[seed]) == 3
    assert len({np.asarray(rows).tobytes() for rows in run.asked}) == 3
    with pytest.raises(ValueError, match="evaluations=0"):
        search_table(strategy, TABLE, 0)


def test_noise_is_told_and_not_reported():
    table = make_table(SPACE, np.zeros(12), np.arange(12.0), noise=2.0)
    run = jax.jit(search_table(random_search(SPACE, population=10), table, 2000))(jax.random.key(0))
    assert abs(float(run.told.mean())) < 0.2 and 1.9 < float(run.told.std()) < 2.1
    np.testing.assert_array_equal(run.reported, index_of(SPACE, run.asked[run.best]))
