"""Co-evolution, staged search and repair: what sets each apart, counted exactly on small planted tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.asng import asng
from atnas_jax.search.coevolution import coevolution
from atnas_jax.search.genetic import genetic
from atnas_jax.search.repair import cheaper, repaired
from atnas_jax.search.staged import distinct_best, staged
from atnas_jax.search.tables import all_genotypes, better_left, lookup, make_table, planted, table_space, within
from atnas_jax.search.tabular import search_table
from atnas_jax.space.slots import slot_groups

pytestmark = pytest.mark.usefixtures("few_optimisations")
SEEDS = jax.random.split(jax.random.key(0), 16)


def ranks(strategy, table, evaluations):
    run = jax.jit(jax.vmap(search_table(strategy, table, evaluations)))(SEEDS)
    return np.asarray(better_left(table, run.state.best_genotype))


def test_slot_groups_are_consecutive_and_nearly_equal():
    np.testing.assert_array_equal(slot_groups(table_space((2,) * 7), 3), [0, 0, 0, 1, 1, 2, 2])


def test_a_random_collaborator_finds_a_pair_that_the_best_alone_never_finds():
    """Two slots, two species; (1,1) is best, and 1 with anything else the worst. All start at the hill (0,0)."""
    space = table_space((6, 6))
    rows = all_genotypes(space)
    fitness = 5.0 - rows.sum(1) - 20 * ((rows == 1).sum(1) == 1) + 10 * ((rows == 1).sum(1) == 2)
    table, hill = make_table(space, fitness), jnp.zeros((12, 2), jnp.int32)

    def found(collaborators):
        made = coevolution(space, population=12, collaborators=collaborators, elites=1, parents=1.0, mutation_rate=0.5)
        strategy = made._replace(init=lambda key: made.init(key, hill))
        return ranks(strategy, table, 12 * 20) == 0

    assert found(1).sum() == 0
    assert found(2).sum() >= 14


def test_all_species_reach_their_best_where_the_table_is_separable():
    """In every seed; the best member of each of three species has the best choices in the slots of its own."""
    table = planted(jax.random.key(5), (4,) * 6)
    optimum = all_genotypes(table.space)[int(jnp.argmax(table.told))]
    strategy = coevolution(table.space, population=12, species=3)
    state = jax.jit(jax.vmap(search_table(strategy, table, 600)))(SEEDS).state
    np.testing.assert_array_equal(state.best_genotype, np.tile(optimum, (16, 1)))
    leaders = jnp.take_along_axis(state.members, jnp.argmax(state.scores, -1)[..., None, None], 2)[:, :, 0]
    own = slot_groups(table.space, 3) == np.arange(3)[:, None]
    assert ((np.asarray(leaders) == optimum) | ~own).all()


def test_a_species_changes_its_own_slots_and_is_scored_with_the_best_and_with_others():
    strategy = coevolution(table_space((4,) * 4), population=8, elites=1)
    strategy = strategy._replace(init=jax.jit(strategy.init), ask=jax.jit(strategy.ask))
    state = strategy.init(jax.random.key(0))
    first = strategy.ask(jax.random.key(1), state)
    state = strategy.tell(state, first, jnp.arange(8.0)[:, None])
    np.testing.assert_array_equal(state.members, jnp.broadcast_to(first[jnp.asarray([7, 6, 5, 4])], (2, 4, 4)))
    asked = np.asarray(strategy.ask(jax.random.key(2), state))
    np.testing.assert_array_equal(asked[0], first[7])  # the elite, in the company of the best
    np.testing.assert_array_equal(asked[:4, 2:], np.tile(first[7, 2:], (4, 1)))
    np.testing.assert_array_equal(asked[4:, :2], asked[:4, :2])
    company = {tuple(row) for row in np.asarray(first[4:, 2:]).tolist()}
    assert {tuple(row) for row in asked[4:, 2:].tolist()} <= company
    told = strategy.tell(state, asked, jnp.asarray([1.0, 2, 3, 4, 8, 0, 0, 0])[:, None])
    np.testing.assert_array_equal(told.scores[0], [8, 2, 3, 4])
    np.testing.assert_array_equal(told.scores[1], state.scores[1])
    np.testing.assert_array_equal(told.members[0], asked[[4, 1, 2, 3]])


def test_staged_random_search_with_all_beginnings_finds_a_separable_optimum():
    """9 beginnings in a beam of 9, then 81 genotypes: the first stage drops nothing, the second sees everything."""
    table = planted(jax.random.key(3), (3,) * 4)
    strategy = staged(table.space, population=12, inner="random", beam=9, rounds=8)
    assert (ranks(strategy, table, 12 * 60) == 0).all()


def test_a_stage_extends_the_best_beginnings_and_nothing_else():
    table = planted(jax.random.key(3), (3,) * 6)
    strategy = staged(table.space, population=12, inner="random", stages=3, beam=2, rounds=3)
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    state, history = jax.jit(strategy.init)(jax.random.key(0)), []
    for generation in range(9):
        asked = ask(jax.random.key(generation), state)
        if generation in (1, 2):  # of one ending, that of the best so far
            np.testing.assert_array_equal(asked[:, 2:], jnp.tile(state.best_genotype[2:], (12, 1)))
        history += list(zip(np.asarray(asked).tolist(), np.asarray(lookup(table, asked)).tolist()))
        if generation == 3:
            by_beginning = {}
            for row, value in history[:36]:
                by_beginning[tuple(row[:2])] = max(value, by_beginning.get(tuple(row[:2]), -np.inf))
            beam = sorted(by_beginning, key=by_beginning.get)[-2:]
        if generation in (3, 4, 5):
            assert {tuple(row[:2]) for row in np.asarray(asked).tolist()} == set(beam)
            np.testing.assert_array_equal(asked[:, 4:], jnp.tile(state.best_genotype[4:], (12, 1)))
        if generation > 5:
            assert len({tuple(row[:4]) for row in np.asarray(asked).tolist()}) <= 2
        state = tell(state, asked, lookup(table, asked)[:, None])


def test_a_stage_may_search_by_another_strategy():
    table = planted(jax.random.key(4), (4,) * 6)
    assert np.median(ranks(staged(table.space, inner="asng"), table, 300)) <= 2


def test_distinct_best_puts_copies_behind():
    rows = jnp.asarray([[0, 0], [0, 1], [1, 0], [1, 1]])
    order = distinct_best(rows, jnp.asarray([1.0, 3.0, 2.0, 0.0]), jnp.asarray([True, False]))
    np.testing.assert_array_equal(order, [1, 2, 0, 3])


SPACE = table_space((3, 3, 2))
PRICE = jnp.asarray([[0, 3, 10], [0, 2, 4], [1, 6, 0]], jnp.float32)


def price(rows):
    return PRICE[jnp.arange(3), rows].sum(-1)


def test_repair_takes_the_dearest_change_that_fits_and_else_the_cheapest():
    rows = jnp.asarray([[0, 2, 0], [2, 0, 1], [2, 2, 1], [1, 2, 1]], jnp.int32)
    found = jax.jit(cheaper(SPACE, price, 9.0))(rows)
    # 5 is fine; 16 -> slot 0 to 1 (9); 20 -> slot 0 to 0 (10), the cheapest, then slot 1 to 1 (8); 13 -> slot 0 ...
    np.testing.assert_array_equal(found, [[0, 2, 0], [1, 0, 1], [0, 1, 1], [1, 0, 1]])
    assert (price(found) <= 9).all()
    np.testing.assert_array_equal(cheaper(SPACE, price, 0.5)(rows)[1], [0, 0, 0])  # none fits: the cheapest there is


def limited_table():
    table = planted(jax.random.key(6), (4,) * 5)
    return table, within(table, "sum", 5.0)  # 25 % of the genotypes


def test_a_repaired_strategy_asks_and_returns_feasible_genotypes_only():
    table, feasible = limited_table()

    def cost(rows):
        return rows.sum(-1).astype(jnp.float32)

    strategy = repaired(asng(table.space), cheaper(table.space, cost, 5.0))
    run = jax.jit(jax.vmap(search_table(strategy, table, 100, feasible)))(SEEDS[:4])
    assert feasible(run.asked.reshape(-1, 5)).all()
    assert (run.told > -np.inf).all()
    assert feasible(run.state.best_genotype).all()
    assert np.median(better_left(table, run.state.best_genotype, feasible)) <= 8


def test_rejecting_keeps_the_limit_and_finds_the_best_feasible():
    table, feasible = limited_table()
    run = jax.jit(jax.vmap(search_table(genetic(table.space, feasible=feasible), table, 300, feasible)))(SEEDS)
    assert feasible(run.state.best_genotype).all()
    assert np.median(better_left(table, run.state.best_genotype, feasible)) == 0
