"""Random search: the baseline that every other strategy has to beat at equal evaluations."""

import jax.numpy as jnp

from atnas_jax.search.checks import check_common
from atnas_jax.search.state import SearchState, best, clean, remember, start
from atnas_jax.search.variation import Feasible, random_feasible
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, Strategy


def random_search(
    space: SearchSpace, *, population: int = 20, feasible: Feasible | None = None, tries: int = 8
) -> Strategy:
    """Return uniform random search; it never asks the same genotype twice in a generation if `tries` allow.

    Args:
        space: the space to search.
        population: P, genotypes per ask.
        feasible: int32 [n,E] -> bool [n]; infeasible draws are drawn again.
        tries: draws per genotype; the last resort is an infeasible one, which the caller tells -inf.
    """
    check_common(population, tries)

    def init(key: Array, genotypes: Array | None = None) -> SearchState:
        return start(key, space, population, 1, genotypes, feasible, tries)

    def ask(key: Array, state: SearchState) -> Array:
        fresh = random_feasible(key, space, population, feasible, tries)
        return jnp.where(state.generation == 0, state.population, fresh)

    def tell(state: SearchState, genotypes: Array, fitness: Array) -> SearchState:
        fitness = clean(state, fitness)
        return remember(state._replace(population=genotypes, fitness=fitness), genotypes, fitness)

    return Strategy(init, ask, tell, best)
