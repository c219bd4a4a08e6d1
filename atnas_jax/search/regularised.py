"""Regularised (ageing) evolution (Real et al. 2019, Algorithm 1), several children at a time."""

import jax
import jax.numpy as jnp

from atnas_jax.search.checks import check_common, check_range
from atnas_jax.search.state import SearchState, best, clean, remember, start
from atnas_jax.search.variation import Feasible, breed, mutate_one, tournament
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, Strategy


def regularised_evolution(
    space: SearchSpace,
    *,
    population: int = 50,
    sample: int = 10,
    children: int = 10,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return ageing evolution: the best of a sample is mutated in one slot, the oldest members die.

    The first population / children asks hand out the initial population in order, `children` at a time; the population
    is a ring whose row (children * generation) mod population is the oldest. With children=1 this is Algorithm 1, but
    that the sample is drawn with replacement.

    Args:
        space: the space to search.
        population: P, length of the queue; a multiple of `children`.
        sample: entrants of each tournament.
        children: genotypes per ask.
        feasible: int32 [n,E] -> bool [n]; infeasible children are varied again, see `variation.breed`.
        tries: variations per child; also spent on children that copy a living genotype.

    Raises:
        ValueError: an option out of range.
    """
    check_common(population, tries)
    check_range("sample", sample, 1, None)
    check_range("children", children, 1, population)
    if population % children:
        raise ValueError(f"population={population} is not a multiple of children={children}; change one of them")

    def init(key: Array, genotypes: Array | None = None) -> SearchState:
        return start(key, space, population, 1, genotypes, feasible, tries)

    def oldest(state: SearchState) -> Array:
        return state.generation * children % population

    def ask(key: Array, state: SearchState) -> Array:
        key_parent, key_vary = jax.random.split(key)
        order = jnp.argsort(-state.fitness[:, 0])
        parents = state.population[tournament(key_parent, order, children, sample)]
        bred = breed(
            key_vary, lambda k, a, _: mutate_one(k, space, a), parents, parents, feasible, tries, state.population
        )
        first = jax.lax.dynamic_slice_in_dim(state.population, oldest(state), children)
        return jnp.where(state.generation < population // children, first, bred)

    def tell(state: SearchState, genotypes: Array, fitness: Array) -> SearchState:
        fitness, row = clean(state, fitness), oldest(state)
        queue = jax.lax.dynamic_update_slice_in_dim(state.population, genotypes, row, 0)
        scores = jax.lax.dynamic_update_slice_in_dim(state.fitness, fitness, row, 0)
        return remember(state._replace(population=queue, fitness=scores), genotypes, fitness)

    return Strategy(init, ask, tell, best)
