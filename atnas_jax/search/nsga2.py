"""NSGA-II (Deb et al. 2002): several objectives, all maximised."""

import jax
import jax.numpy as jnp

from atnas_jax.search.checks import check_common, check_range
from atnas_jax.search.state import SearchState, best, clean, remember, start
from atnas_jax.search.variation import Feasible, breed, recombination, tournament
from atnas_jax.space.pareto import crowding_distance, pareto_ranks
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, Strategy


def nsga2(
    space: SearchSpace,
    *,
    population: int = 20,
    objectives: int = 2,
    crossover_rate: float = 0.9,
    mutation_rate: float | None = None,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return NSGA-II: binary tournaments by (rank, crowding), and the best P of parents and children survive.

    Unlike Deb et al., a genotype survives once: of equal genotypes the one told last keeps its place, copies go behind
    all others. Parents keep the fitness that they were told, so with moving weights prefer `genetic`.

    Args:
        space: the space to search.
        population: P, genotypes per ask.
        objectives: M, told per genotype; further ones are ignored.
        crossover_rate: probability that a child mixes two parents.
        mutation_rate: probability per slot to change; None: 1/E.
        feasible: int32 [n,E] -> bool [n]; infeasible children are varied again, see `variation.breed`.
        tries: variations per child; also spent on children that copy a living genotype.

    Raises:
        ValueError: an option out of range.
    """
    check_common(population, tries)
    check_range("objectives", objectives, 1, None)
    vary = recombination(space, crossover_rate, mutation_rate)

    def init(key: Array, genotypes: Array | None = None) -> SearchState:
        return start(key, space, population, objectives, genotypes, feasible, tries)

    def ask(key: Array, state: SearchState) -> Array:
        key_a, key_b, key_vary = jax.random.split(key, 3)
        order = crowded_order(state.population, state.fitness)
        a = state.population[tournament(key_a, order, population, 2)]
        b = state.population[tournament(key_b, order, population, 2)]
        bred = breed(key_vary, vary, a, b, feasible, tries, state.population)
        return jnp.where(state.generation == 0, state.population, bred)

    def tell(state: SearchState, genotypes: Array, fitness: Array) -> SearchState:
        fitness = clean(state, fitness)
        rows = jnp.concatenate([genotypes, state.population])
        scores = jnp.concatenate([fitness, state.fitness])
        alive = crowded_order(rows, scores)[:population]
        return remember(state._replace(population=rows[alive], fitness=scores[alive]), genotypes, fitness)

    return Strategy(init, ask, tell, best)


def crowded_order(genotypes: Array, fitness: Array) -> Array:
    """Return int32 [n], rows from best to worst: no copy of an earlier row, then low rank, then far from others.

    Args:
        genotypes: int32 [n,E].
        fitness: float32 [n,M], maximised.
    """
    copy = jnp.tril(jnp.all(genotypes[:, None] == genotypes[None], -1), -1).any(-1)
    # A copy would crowd out the very point it repeats.
    points = jnp.where(copy[:, None], -jnp.inf, fitness)
    ranks = pareto_ranks(points)
    return jnp.lexsort((-crowding_distance(points, ranks), ranks, copy))
