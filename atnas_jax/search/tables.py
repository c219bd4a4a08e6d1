"""Tables of architectures: the fitness of every genotype of a small space, so that a search costs milliseconds.

A table is either read from a benchmark of trained networks (`study/tables.py`) or planted: made here with an optimum
that is known by construction. n is the size of the space, and genotypes are numbered in mixed radix, first slot
slowest.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.search.variation import Feasible
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array


class Table(NamedTuple):
    """All genotypes of a space with what is known of each; make it with `make_table`."""

    space: SearchSpace
    told: Array  # float32 [n], the fitness that a search is told
    reported: Array  # float32 [n], the fitness that a report quotes, on data that no search saw
    valid: Array  # bool [n], whether the genotype means an architecture
    costs: dict[str, Array]  # float32 [n] each: latency, parameters, ... in units of their own
    noise: float  # standard deviation of a Gaussian added to what is told, afresh at each evaluation


def table_space(cards: tuple[int, ...], choices: tuple[str, ...] = ()) -> SearchSpace:
    """Return a space of plain slots; `choices` names those of every slot, else they are numbered."""
    named = tuple(tuple(choices) if choices else tuple(map(str, range(card))) for card in cards)
    return SearchSpace("table", (), tuple(f"slot{e}" for e in range(len(cards))), named)


def make_table(
    space: SearchSpace,
    told: Array,
    reported: Array | None = None,
    *,
    valid: Array | None = None,
    costs: dict[str, Array] | None = None,
    noise: float = 0.0,
) -> Table:
    """Return a table.

    Args:
        space: of the genotypes; n = space.size.
        told: float [n], NaN where there is no such architecture.
        reported: float [n]; None: the same as `told`.
        valid: bool [n]; None: where `told` is not NaN.
        costs: float [n] each, by name.
        noise: standard deviation of what is added to `told`.

    Raises:
        ValueError: a column is not of n numbers.
    """
    columns = {"told": told, "reported": told if reported is None else reported} | (costs or {})
    for name, column in columns.items():
        if np.shape(column) != (space.size,):
            raise ValueError(f"column {name!r} has shape {np.shape(column)}; this space needs ({space.size},)")
    told, reported, *others = (jnp.asarray(column, jnp.float32) for column in columns.values())
    known = ~jnp.isnan(told) if valid is None else jnp.asarray(valid, bool) & ~jnp.isnan(told)
    return Table(space, told, reported, known, dict(zip(costs or {}, others)), noise)


def index_of(space: SearchSpace, genotypes: Array) -> Array:
    """Return int32 [...], the row of genotypes int32 [...,E]: sum_e g_e * product of the later cards."""
    weights = [math.prod(space.cards[slot + 1 :]) for slot in range(space.num_slots)]
    return (genotypes * jnp.asarray(weights, jnp.int32)).sum(-1)


def all_genotypes(space: SearchSpace) -> np.ndarray:
    """Return int32 [n,E], every genotype in the order of the rows."""
    return np.indices(space.cards, np.int32).reshape(space.num_slots, -1).T


def lookup(table: Table, genotypes: Array) -> Array:
    """Return the told fitness float32 [...] of genotypes int32 [...,E], without noise; -inf where invalid."""
    rows = index_of(table.space, genotypes)
    return jnp.where(table.valid[rows], table.told[rows], -jnp.inf)


def report(table: Table, genotypes: Array) -> Array:
    """Return the reported fitness float32 [...] of genotypes int32 [...,E]; -inf where invalid."""
    rows = index_of(table.space, genotypes)
    return jnp.where(table.valid[rows], table.reported[rows], -jnp.inf)


def cost_of(table: Table, name: str, genotypes: Array) -> Array:
    """Return the cost `name` float32 [...] of genotypes int32 [...,E].

    Raises:
        ValueError: the table has no such column.
    """
    if name not in table.costs:
        raise ValueError(f"this table has no cost {name!r}; allowed: {', '.join(table.costs) or 'none'}")
    return table.costs[name][index_of(table.space, genotypes)]


def within(table: Table, name: str, limit: float) -> Feasible:
    """Return int32 [n,E] -> bool [n], whether a genotype is valid and its cost `name` is at most `limit`."""
    cost_of(table, name, jnp.zeros(table.space.num_slots, jnp.int32))
    return lambda rows: table.valid[index_of(table.space, rows)] & (cost_of(table, name, rows) <= limit)


def better_left(table: Table, genotypes: Array, feasible: Feasible | None = None) -> Array:
    """Return int32 [...]: how many feasible genotypes are told a better fitness than each of int32 [...,E].

    0 is the optimum; equal fitness is not better. It counts genotypes, of which several may be one network. Call it
    outside of jit: XLA would sort the table while compiling.
    """
    values = jnp.sort(_allowed(table, table.told, feasible))
    return (values.size - jnp.searchsorted(values, lookup(table, genotypes), side="right")).astype(jnp.int32)


def regret(table: Table, genotypes: Array, feasible: Feasible | None = None) -> Array:
    """Return float32 [...]: best reported fitness of a feasible genotype, less that of each of int32 [...,E]."""
    return best_reported(table, feasible) - report(table, genotypes)


def best_reported(table: Table, feasible: Feasible | None = None) -> Array:
    """Return float32 [], the best reported fitness of a feasible genotype."""
    return _allowed(table, table.reported, feasible).max()


def _allowed(table: Table, column: Array, feasible: Feasible | None) -> Array:
    allowed = table.valid if feasible is None else table.valid & feasible(jnp.asarray(all_genotypes(table.space)))
    return jnp.where(allowed, column, -jnp.inf)


def planted(key: Array, cards: tuple[int, ...], *, bonus: float = 0.0, noise: float = 0.0) -> Table:
    """Return a table of known optimum: separable, or with one interaction of the first slot and the last.

    f(g) = sum_e w_e[g_e], the best choice of every slot worth 1 and the others uniform in [0, 0.9]. With `bonus` > 0
    the pair (b_first, b_last) is a trap: both choices are worth -bonus alone, but together `bonus` more than the best
    of all others, so that no change of one slot leads to it. The cost "sum" is the sum of the choices' numbers.

    Args:
        key: of the worths.
        cards: choices per slot.
        bonus: of the pair; 0 is none.
        noise: standard deviation of what is added to the told fitness.
    """
    space, rows = table_space(cards), all_genotypes(table_space(cards))
    key_worth, key_best = jax.random.split(key)
    best = jax.random.randint(key_best, (len(cards),), 0, jnp.asarray(cards))
    worth = jax.random.uniform(key_worth, (len(cards), max(cards)), maxval=0.9)
    worth = worth.at[jnp.arange(len(cards)), best].set(1.0)
    fitness = worth[jnp.arange(len(cards)), rows].sum(-1)
    if bonus:
        first, last = (rows[:, slot] == (int(best[slot]) + 1) % cards[slot] for slot in (0, len(cards) - 1))
        ends = worth[0, rows[:, 0]] + worth[-1, rows[:, -1]]
        paired = fitness - ends + 2 + bonus
        fitness = jnp.where(first & last, paired, fitness - bonus * (first | last))
    return make_table(space, fitness, costs={"sum": rows.sum(-1)}, noise=noise)
