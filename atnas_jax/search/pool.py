"""A pool of evaluated genotypes of a fixed size, in which new ones replace the worst (NAO, 1808.07233, algorithm 1)."""

from typing import NamedTuple

import jax.numpy as jnp

from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array


class Pool(NamedTuple):
    """Distinct genotypes and what was last told of each."""

    genotypes: Array  # int32 [n,E], -1 in rows that are not filled
    fitness: Array  # float32 [n], -inf in rows that are not filled
    filled: Array  # bool [n]


def empty_pool(space: SearchSpace, size: int) -> Pool:
    """Return a pool of `size` rows, none of them filled."""
    rows = jnp.full((size, space.num_slots), -1, jnp.int32)
    return Pool(rows, jnp.full(size, -jnp.inf, jnp.float32), jnp.zeros(size, bool))


def insert(pool: Pool, genotypes: Array, fitness: Array) -> Pool:
    """Return the pool with genotypes int32 [P,E] and their fitness float32 [P], P at most the size of the pool.

    One that is there already gets its new fitness. The others fill empty rows, then those of the worst, be they better
    than these or not. Of equal genotypes the first one counts.
    """
    same = equal(genotypes, pool.genotypes)
    first = ~jnp.tril(equal(genotypes, genotypes), -1).any(-1)
    known = same.any(-1)
    # Empty rows first, then from the worst up, and last those that this call tells again.
    order = jnp.lexsort((pool.fitness, pool.filled, same.any(0)))
    new = first & ~known
    row = jnp.where(known, jnp.argmax(same, -1), order[jnp.cumsum(new) - 1])
    row = jnp.where(first, row, len(pool.fitness))
    return Pool(
        pool.genotypes.at[row].set(genotypes, mode="drop"),
        pool.fitness.at[row].set(fitness, mode="drop"),
        pool.filled.at[row].set(True, mode="drop"),
    )


def ranked(pool: Pool) -> Array:
    """Return int32 [n], the rows from the best to the worst, then those that are not filled."""
    return jnp.lexsort((-pool.fitness, ~pool.filled))


def equal(a: Array, b: Array) -> Array:
    """Return bool [n,m], which rows of int32 [n,E] and [m,E] are equal."""
    return jnp.all(a[:, None] == b[None], axis=-1)
