"""Which genotypes train the supernet in a step.

Strict fairness, the extremes of `sandwich` and the stages of `progressive` hold for the rows of a sampler. Where
`mixed` replaces some by members of the population, or a run puts the hand-made network into the first row of a step,
they hold in expectation, or for the other rows, only.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.space.extremes import largest, smallest
from atnas_jax.space.slots import SearchSpace, random_genotypes
from atnas_jax.types import Array, PyTree

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


def sandwich(key: Array, space: SearchSpace, n: int, tasks: int) -> Array:
    """Return int32 [n,E]: of every `tasks` rows the last two are the smallest and the largest network, others uniform.

    The sandwich rule (Yu & Huang 2019, universally slimmable networks; Yu et al. 2020, BigNAS, 3.1). Last, because the
    first row of a step may be the hand-made network.

    Args:
        key: consumed.
        space: of the genotypes.
        n: rows.
        tasks: T, rows of one outer step, at least 2.
    """
    place = jnp.arange(n)[:, None] % tasks
    rows = jnp.where(place == tasks - 2, smallest(space), random_genotypes(key, space, n))
    return jnp.where(place == tasks - 1, largest(space), rows)


def progressive(key: Array, space: SearchSpace, n: int, allowed: Array) -> Array:
    """Return int32 [n,E], each slot uniform and independent among what its row allows (Once-for-All, 1908.09791, 3.3).

    Args:
        key: consumed.
        space: of the genotypes.
        n: rows.
        allowed: bool [n,E,O], at least one choice in every slot; see `stage_at` and `space.extremes.opening_stages`.
    """
    logits = jnp.where(allowed, 0.0, -jnp.inf)
    return jax.random.categorical(key, logits, shape=(n, space.num_slots)).astype(jnp.int32)


def stage_at(step: Array, stages: int, opened: int) -> Array:
    """Return the stage int32 of outer steps int32 [...]: equally long ones, the last from step `opened` on."""
    return jnp.clip(step * (stages - 1) // opened, 0, stages - 1) if opened else jnp.full_like(step, stages - 1)


def pool(key: Array, population: Array, fitness: Array, n: int) -> Array:
    """Return int32 [n,E], members of the population, uniform, as in NAO with weight sharing (1808.07233).

    Args:
        key: consumed.
        population: int32 [P,E].
        fitness: float32 [P]; members with -inf are left out, unless all have it, as before the first `tell`.
        n: rows.
    """
    alive = (fitness > -jnp.inf) | (fitness == -jnp.inf).all()
    return population[jax.random.categorical(key, jnp.where(alive, 0.0, -jnp.inf), shape=(n,))]


def policy(key: Array, ask: Callable[[Array, PyTree], Array], state: PyTree, n: int) -> Array:
    """Return int32 [n,E], what the strategy would ask; in ENAS (1802.03268) the policy samples what weights train on.

    Args:
        key: consumed.
        ask: of the strategy, (key, state) -> int32 [P,E]; asked again with fresh keys until there are n rows.
        state: of the strategy.
        n: rows.
    """
    size = jax.eval_shape(ask, key, state).shape[0]
    asked = jax.lax.map(lambda k: ask(k, state), jax.random.split(key, -(-n // size)))
    return asked.reshape(-1, asked.shape[-1])[:n]


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
