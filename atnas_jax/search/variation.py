"""Crossover, mutation and bounded rejection, shared by the strategies."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.search.checks import check_range
from atnas_jax.space.slots import SearchSpace, random_genotypes
from atnas_jax.types import Array

Feasible = Callable[[Array], Array]  # int32 [n,E] -> bool [n]
Vary = Callable[[Array, Array, Array], Array]  # key, parents a and b int32 [n,E] -> children int32 [n,E]


def recombination(space: SearchSpace, crossover_rate: float, mutation_rate: float | None) -> Vary:
    """Return crossover followed by mutation.

    Args:
        space: of the genotypes.
        crossover_rate: probability that a child mixes both parents.
        mutation_rate: probability per slot to change; None: 1/E.

    Raises:
        ValueError: a rate is outside 0..1.
    """
    rate = 1 / space.num_slots if mutation_rate is None else mutation_rate
    check_range("crossover_rate", crossover_rate, 0, 1)
    check_range("mutation_rate", rate, 0, 1)

    def vary(key: Array, a: Array, b: Array) -> Array:
        key_cross, key_mutate = jax.random.split(key)
        return mutate(key_mutate, space, crossover(key_cross, a, b, crossover_rate), rate)

    return vary


def crossover(key: Array, a: Array, b: Array, rate: float) -> Array:
    """Return int32 [n,E]: with probability `rate` a row mixes those of `a` and `b` slot by slot, else it is of `a`."""
    key_row, key_slot = jax.random.split(key)
    mixed = jax.random.bernoulli(key_row, rate, (a.shape[0], 1))
    return jnp.where(mixed & jax.random.bernoulli(key_slot, 0.5, a.shape), b, a)


def mutate(key: Array, space: SearchSpace, genotypes: Array, rate: float) -> Array:
    """Return int32 [n,E] where each slot changed, with probability `rate`, to another of its choices."""
    key_where, key_what = jax.random.split(key)
    changed = jax.random.bernoulli(key_where, rate, genotypes.shape)
    return jnp.where(changed, _other(key_what, space, genotypes), genotypes)


def mutate_one(key: Array, space: SearchSpace, genotypes: Array) -> Array:
    """Return int32 [n,E] where one slot of each row, uniform among those with a choice, changed to another choice."""
    key_where, key_what = jax.random.split(key)
    free = np.flatnonzero(np.asarray(space.cards) > 1)
    if free.size == 0:
        return genotypes
    slot = jax.random.choice(key_where, free, (genotypes.shape[0], 1))
    changed = jnp.arange(space.num_slots) == slot
    return jnp.where(changed, _other(key_what, space, genotypes), genotypes)


def _other(key: Array, space: SearchSpace, genotypes: Array) -> Array:
    cards = jnp.asarray(space.cards, jnp.int32)
    # A step of 1..card-1 around the ring of choices never returns to the start; a slot with one choice stays.
    step = 1 + jax.random.randint(key, genotypes.shape, 0, jnp.maximum(cards - 1, 1), jnp.int32)
    return (genotypes + step) % cards


def tournament(key: Array, order: Array, n: int, size: int) -> Array:
    """Return int32 [n]: indices of the winners of n tournaments among `size` members drawn with replacement.

    Args:
        order: int32 [P], members from best to worst.
    """
    entrants = jax.random.randint(key, (n, size), 0, order.shape[0])
    return order[entrants.min(-1)]


def breed(
    key: Array,
    vary: Vary,
    a: Array,
    b: Array,
    feasible: Feasible | None,
    tries: int,
    avoid: Array,
) -> Array:
    """Return children int32 [n,E] of the parents `a` and `b` [n,E], new and feasible where `tries` variations allow.

    A child is varied again while it is infeasible or a copy of a row of `avoid` [m,E] or of an earlier child. One that
    never became feasible is replaced by its parent a, or else b, if feasible; or else it stays, and is told -inf.
    """
    children = retry(key, lambda k: vary(k, a, b), feasible, tries, avoid)
    if feasible is None:
        return children
    heir = jnp.where((feasible(children) | ~(feasible(a) | feasible(b)))[:, None], children, b)
    return jnp.where((~feasible(children) & feasible(a))[:, None], a, heir)


def random_feasible(key: Array, space: SearchSpace, n: int, feasible: Feasible | None, tries: int) -> Array:
    """Return random genotypes int32 [n,E], feasible where `tries` draws allow, and without copies where they allow."""
    return retry(
        key, lambda k: random_genotypes(k, space, n), feasible, tries, jnp.zeros((0, space.num_slots), jnp.int32)
    )


def retry(key: Array, propose: Callable[[Array], Array], feasible: Feasible | None, tries: int, avoid: Array) -> Array:
    """Return rows int32 [n,E], each the first of `tries` proposals that is feasible and new, or else the best of them.

    Feasible and new beats feasible, which beats new. New: not in `avoid` int32 [m,E], nor equal to an earlier row.
    """

    def grade(rows: Array, kept: Array) -> Array:
        twin = jnp.tril(_equal(rows, kept), -1).any(-1)
        new = ~(_equal(rows, avoid).any(-1) | twin)
        return new if feasible is None else new + 2 * feasible(rows)

    def again(t: Array, kept: Array) -> Array:
        rows = propose(jax.random.fold_in(key, t))
        return jnp.where((t == 0) | (grade(rows, kept) > grade(kept, kept))[:, None], rows, kept)

    # The first proposal is made in the loop too: what proposes is most of a strategy's program, compiled once so.
    first = jax.eval_shape(propose, key)
    return jax.lax.fori_loop(0, tries, again, jnp.zeros(first.shape, first.dtype))


def _equal(a: Array, b: Array) -> Array:
    return jnp.all(a[:, None] == b[None], axis=-1)
