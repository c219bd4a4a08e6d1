"""The one state that every population strategy carries, so checkpoints and samplers need not know the strategy."""

from typing import NamedTuple

import jax.numpy as jnp

from atnas_jax.search.variation import Feasible, random_feasible
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array


class SearchState(NamedTuple):
    """A living population and the best genotype told so far."""

    population: Array  # int32 [P,E]
    fitness: Array  # float32 [P,M], -inf until told
    generation: Array  # int32 [], how many times `tell` was called
    best_genotype: Array  # int32 [E]
    best_fitness: Array  # float32 [], of objective 0; -inf until something finite is told


def start(
    key: Array,
    space: SearchSpace,
    population: int,
    objectives: int,
    genotypes: Array | None,
    feasible: Feasible | None,
    tries: int,
) -> SearchState:
    """Return generation 0: the warm `genotypes` int32 [n,E] first, in order and as they are, the rest random.

    Raises:
        ValueError: the warm genotypes do not fit the population or the space.
    """
    warm = jnp.zeros((0, space.num_slots), jnp.int32) if genotypes is None else jnp.asarray(genotypes, jnp.int32)
    if warm.ndim != 2 or warm.shape[1] != space.num_slots or warm.shape[0] > population:
        raise ValueError(
            f"warm start has shape {warm.shape}; allowed: [n,{space.num_slots}] with n at most population={population}"
        )
    rows = jnp.concatenate([warm, random_feasible(key, space, population - warm.shape[0], feasible, tries)])
    fitness = jnp.full((population, objectives), -jnp.inf, jnp.float32)
    return SearchState(rows, fitness, jnp.int32(0), rows[0], jnp.float32(-jnp.inf))


def clean(state: SearchState, fitness: Array) -> Array:
    """Return float32 [P,M], the first M objectives of what was told, with NaN as -inf.

    Raises:
        ValueError: fewer objectives were told than the strategy searches.
    """
    objectives = state.fitness.shape[1]
    if fitness.ndim != 2 or fitness.shape[1] < objectives:
        raise ValueError(f"fitness has shape {fitness.shape}; this strategy needs [P,M] with M at least {objectives}")
    fitness = fitness[:, :objectives].astype(jnp.float32)
    return jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)


def remember(state: SearchState, genotypes: Array, fitness: Array) -> SearchState:
    """Return the state one generation later, with the best of `genotypes` [P,E] by `fitness` [P,M] if it is a new best.

    With noisy fitness this is the luckiest value ever told: rank the last population again before believing it.
    """
    top = jnp.argmax(fitness[:, 0])
    better = fitness[top, 0] > state.best_fitness
    return state._replace(
        generation=state.generation + 1,
        best_genotype=jnp.where(better, genotypes[top], state.best_genotype),
        best_fitness=jnp.where(better, fitness[top, 0], state.best_fitness),
    )


def best(state: SearchState) -> Array:
    """Return int32 [E], the best genotype told so far by objective 0."""
    return state.best_genotype


def best_if_infeasible(state: SearchState, genotypes: Array, feasible: Feasible | None) -> Array:
    """Return int32 [n,E]: `genotypes` with the infeasible ones replaced by the best told so far, if there is one."""
    if feasible is None:
        return genotypes
    keep = feasible(genotypes) | (state.best_fitness == -jnp.inf)
    return jnp.where(keep[:, None], genotypes, state.best_genotype)
