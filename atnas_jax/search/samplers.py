"""Which genotypes train the supernet in a step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.space.slots import SearchSpace, random_genotypes
from atnas_jax.types import Array

Sampler = Callable[[Array, SearchSpace, int], Array]


def uniform(key: Array, space: SearchSpace, n: int) -> Array:
    """Return int32 [n,E], each slot uniform and independent: fair in expectation only."""
    return random_genotypes(key, space, n)


def strictly_fair(key: Array, space: SearchSpace, n: int) -> Array:
    """Return int32 [n,E] in which each slot runs through random permutations of its choices (FairNAS, 1907.01845, 3).

    In rows 0..m-1, m..2m-1, ... of a slot with m choices every choice appears exactly once. A slot with fewer choices
    than the largest goes on with fresh permutations, and so do rows beyond; a last, unfinished permutation is fair in
    expectation only, so take n a multiple of every card to be strictly fair.
    """
    cards = np.asarray(space.cards)
    rows = jnp.zeros((n, space.num_slots), jnp.int32)
    for card in sorted(set(space.cards)):
        slots, blocks = np.flatnonzero(cards == card), -(-n // card)
        ordered = jnp.broadcast_to(jnp.arange(card, dtype=jnp.int32), (slots.size, blocks, card))
        shuffled = jax.random.permutation(jax.random.fold_in(key, card), ordered, axis=-1, independent=True)
        rows = rows.at[:, slots].set(shuffled.reshape(slots.size, blocks * card)[:, :n].T)
    return rows


def mixed(
    key: Array,
    space: SearchSpace,
    n: int,
    population: Array,
    fitness: Array,
    share: float | Array,
    base: Sampler = strictly_fair,
) -> Array:
    """Return int32 [n,E]: each row with probability `share` a good member of the population, else a row of `base`.

    Members are drawn uniformly from the better half (rounded up), less those with fitness -inf; while all are -inf,
    as before the first `tell`, from the whole half. Which rows are replaced is random, so the rest of a strictly fair
    base stays fair in expectation only, as soon as share > 0.

    Args:
        population: int32 [P,E], the living population.
        fitness: float32 [P], objective 0 of its members.
        share: probability, may be traced.
        base: sampler of the other rows.
    """
    key_base, key_row, key_member = jax.random.split(key, 3)
    half = -(-population.shape[0] // 2)
    told = jnp.sum(fitness > -jnp.inf)
    members = jnp.where(told == 0, half, jnp.clip(told, 1, half))
    order = jnp.argsort(-fitness)
    living = population[order[jax.random.randint(key_member, (n,), 0, members)]]
    from_population = jax.random.bernoulli(key_row, share, (n, 1))
    return jnp.where(from_population, living, base(key_base, space, n))
