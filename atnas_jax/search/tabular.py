"""A whole search on a table as one scan: what every strategy is measured with before it meets a supernet."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.search.tables import Table, lookup, report
from atnas_jax.search.variation import Feasible
from atnas_jax.types import Array, PyTree, Strategy


class TableRun(NamedTuple):
    """One search of B evaluations, in the order in which they were made."""

    asked: Array  # int32 [B,E]
    told: Array  # float32 [B], with noise; -inf where infeasible
    best: Array  # int32 [B], after each evaluation the index into `asked` of the best told so far
    reported: Array  # float32 [B], reported fitness of that genotype; -inf until a feasible one was told
    state: PyTree  # of the strategy, at the end


def search_table(
    strategy: Strategy, table: Table, evaluations: int, feasible: Feasible | None = None
) -> Callable[[Array], TableRun]:
    """Return key -> TableRun; for several seeds `jax.jit(jax.vmap(...))` it.

    The strategy is told `table.told`, -inf where infeasible, and every row that it asks is an evaluation, copies
    included. Rows of the last ask beyond the budget are not evaluated: they are told -inf.

    Args:
        strategy: of the table's space; its limits are its own, `feasible` here only decides what it is told.
        table: what is searched.
        evaluations: B, the budget.
        feasible: int32 [n,E] -> bool [n].

    Raises:
        ValueError: there is nothing to evaluate.
    """
    if evaluations < 1:
        raise ValueError(f"evaluations={evaluations} is out of range; allowed: 1 to any")

    def run(key: Array) -> TableRun:
        key_init, key_ask, key_noise = jax.random.split(key, 3)
        state = strategy.init(key_init)
        size = jax.eval_shape(strategy.ask, key_ask, state).shape[0]

        def generation(state: PyTree, number: Array) -> tuple[PyTree, tuple[Array, Array]]:
            rows = strategy.ask(jax.random.fold_in(key_ask, number), state)
            noise = table.noise * jax.random.normal(jax.random.fold_in(key_noise, number), (size,))
            counted = number * size + jnp.arange(size) < evaluations
            allowed = counted if feasible is None else counted & feasible(rows)
            told = jnp.where(allowed, lookup(table, rows) + noise, -jnp.inf)
            return strategy.tell(state, rows, told[:, None]), (rows, told)

        numbers = jnp.arange(-(-evaluations // size), dtype=jnp.int32)
        state, (rows, told) = jax.lax.scan(generation, state, numbers)
        asked, told = rows.reshape(-1, rows.shape[-1])[:evaluations], told.reshape(-1)[:evaluations]
        best = best_so_far(told)
        reported = jnp.where(told[best] > -jnp.inf, report(table, asked[best]), -jnp.inf)
        return TableRun(asked, told, best, reported, state)

    return run


def best_so_far(told: Array) -> Array:
    """Return int32 [B]: at each place the index of the largest of `told` [B] up to there, the first of equals."""
    tops = jax.lax.cummax(told)
    rises = jnp.concatenate([jnp.ones(1, bool), tops[1:] > tops[:-1]])
    return jax.lax.cummax(jnp.where(rises, jnp.arange(told.size, dtype=jnp.int32), 0))
