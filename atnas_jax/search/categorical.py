"""Searches that move a product of categorical distributions, one a slot: one state, one factory, several rules.

ENAS without its LSTM (`reinforce.py`), MdeNAS (`mdenas.py`) and ASNG (`asng.py`) differ in their rule alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.search.checks import check_common
from atnas_jax.search.state import best, best_if_infeasible, clean, remember, start
from atnas_jax.search.variation import Feasible, retry
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, PyTree, Strategy


class CategoricalState(NamedTuple):
    """A `SearchState` of the genotypes told last, and what the rule keeps."""

    population: Array  # int32 [P,E]
    fitness: Array  # float32 [P,1], -inf until told
    generation: Array  # int32 [], how many times `tell` was called
    best_genotype: Array  # int32 [E]
    best_fitness: Array  # float32 []; -inf until something finite is told
    memory: PyTree


class Rule(NamedTuple):
    """How what was told moves the distribution.

    init() -> memory
    policy(memory) -> float32 [E,O], log-probabilities; -inf at padding
    update(memory, genotypes [P,E], fitness [P]) -> memory; fitness is -inf where infeasible or failed
    """

    init: Callable[[], PyTree]
    policy: Callable[[PyTree], Array]
    update: Callable[[PyTree, Array, Array], PyTree]


def categorical(
    space: SearchSpace, rule: Rule, *, population: int, feasible: Feasible | None = None, tries: int = 8
) -> Strategy:
    """Return the search that draws P genotypes from its distribution per ask; the first ask is uniform, or warm.

    An infeasible draw, or a copy of an earlier row of the same ask, is drawn again while `tries` last: evaluations are
    dear. So rows are independent, as published, with tries=1 alone.

    Args:
        space: the space to search.
        rule: of the update.
        population: P, genotypes per ask.
        feasible: int32 [n,E] -> bool [n]; what stays infeasible is replaced by the best told.
        tries: draws per genotype.
    """
    check_common(population, tries)

    def init(key: Array, genotypes: Array | None = None) -> CategoricalState:
        return CategoricalState(*start(key, space, population, 1, genotypes, feasible, tries), rule.init())

    def ask(key: Array, state: CategoricalState) -> Array:
        policy, nothing = rule.policy(state.memory), jnp.zeros((0, space.num_slots), jnp.int32)
        drawn = retry(key, lambda k: draw(k, policy, population), feasible, tries, nothing)
        return jnp.where(state.generation == 0, state.population, best_if_infeasible(state, drawn, feasible))

    def tell(state: CategoricalState, genotypes: Array, fitness: Array) -> CategoricalState:
        fitness = clean(state, fitness)
        told = state._replace(
            population=genotypes, fitness=fitness, memory=rule.update(state.memory, genotypes, fitness[:, 0])
        )
        return remember(told, genotypes, fitness)

    return Strategy(init, ask, tell, best)


def draw(key: Array, policy: Array, n: int) -> Array:
    """Return n genotypes int32 [n,E] from log-probabilities [E,O]."""
    return jax.random.categorical(key, policy, axis=-1, shape=(n, policy.shape[0])).astype(jnp.int32)


def log_probability(policy: Array, genotypes: Array) -> Array:
    """Return float32 [n], log p(g) = sum_e policy[e, g_e], of genotypes int32 [n,E]."""
    return policy[jnp.arange(policy.shape[0]), genotypes].sum(-1)


def mode(rule: Rule, state: CategoricalState) -> Array:
    """Return int32 [E], the likeliest genotype: what the publications call the result of such a search.

    `best` returns the best genotype told instead; with weights that still move, rank the two again.
    """
    return jnp.argmax(rule.policy(state.memory), axis=-1).astype(jnp.int32)
