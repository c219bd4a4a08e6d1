"""A generational genetic algorithm with elites and immigrants: the default of the across-task search.

The founding paper (AT-NAS, arXiv 2110.05842) names an evolutionary algorithm without giving it; this is the common core
of the searches of SPOS (Guo et al. 2020) and Once-for-All (Cai et al. 2020): truncation or tournament, uniform
crossover, mutation per slot. Elites are asked again in every generation, so a lucky score does not outlive the weights
that it was measured with.
"""

import jax
import jax.numpy as jnp

from atnas_jax.search.checks import check_common, check_range
from atnas_jax.search.state import SearchState, best, clean, remember, start
from atnas_jax.search.variation import Feasible, breed, random_feasible, recombination, tournament
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, Strategy

SELECTIONS = ("truncation", "tournament")


def genetic(
    space: SearchSpace,
    *,
    population: int = 20,
    elites: int = 2,
    immigrants: int = 0,
    selection: str = "truncation",
    parents: float = 0.25,
    tournament_size: int = 3,
    crossover_rate: float = 0.5,
    mutation_rate: float | None = None,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return a genetic algorithm; each ask is [elites, immigrants, children] and replaces the population when told.

    Args:
        space: the space to search.
        population: P, genotypes per ask.
        elites: the best of the last generation, asked again.
        immigrants: random genotypes per generation, against premature convergence after a warm start.
        selection: "truncation": parents uniform among the best share `parents`; "tournament": best of
            `tournament_size` drawn with replacement.
        parents: share of the population that may breed, in (0, 1]; rounded up.
        tournament_size: entrants of a tournament.
        crossover_rate: probability that a child mixes two parents.
        mutation_rate: probability per slot to change; None: 1/E.
        feasible: int32 [n,E] -> bool [n]; infeasible children are varied again, see `variation.breed`.
        tries: variations per child; also spent on children that copy a living genotype.

    Raises:
        ValueError: an option out of range.
    """
    check_common(population, tries)
    check_range("elites", elites, 0, population - 1)
    check_range("immigrants", immigrants, 0, population - 1 - elites)
    check_range("parents", parents, 1e-9, 1)
    check_range("tournament_size", tournament_size, 1, None)
    vary = recombination(space, crossover_rate, mutation_rate)
    if selection not in SELECTIONS:
        raise ValueError(f"selection={selection!r} is unknown; allowed: {', '.join(SELECTIONS)}")
    breeders = max(1, -int(-parents * population // 1))
    children = population - elites - immigrants

    def select(key: Array, order: Array) -> Array:
        if selection == "tournament":
            return tournament(key, order, children, tournament_size)
        return order[jax.random.randint(key, (children,), 0, breeders)]

    def init(key: Array, genotypes: Array | None = None) -> SearchState:
        return start(key, space, population, 1, genotypes, feasible, tries)

    def ask(key: Array, state: SearchState) -> Array:
        key_a, key_b, key_vary, key_new = jax.random.split(key, 4)
        order = jnp.argsort(-state.fitness[:, 0])
        a, b = state.population[select(key_a, order)], state.population[select(key_b, order)]
        bred = breed(key_vary, vary, a, b, feasible, tries, state.population)
        new = random_feasible(key_new, space, immigrants, feasible, tries)
        asked = jnp.concatenate([state.population[order[:elites]], new, bred])
        return jnp.where(state.generation == 0, state.population, asked)

    def tell(state: SearchState, genotypes: Array, fitness: Array) -> SearchState:
        fitness = clean(state, fitness)
        return remember(state._replace(population=genotypes, fitness=fitness), genotypes, fitness)

    return Strategy(init, ask, tell, best)
