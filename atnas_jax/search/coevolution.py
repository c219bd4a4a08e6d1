"""Co-evolution: species of slots that are scored by what they do together (advice of de Wynter 2019, 1908.09942).

That paper argues for co-evolution without giving a procedure; this is the cooperative one of Potter and De Jong (1994),
with a second, random collaborator against its known trap (Wiegand et al. 2001).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.search.checks import check_common, check_range
from atnas_jax.search.state import best, best_if_infeasible, clean, remember, start
from atnas_jax.search.variation import Feasible, breed, recombination, retry
from atnas_jax.space.slots import SearchSpace, slot_groups
from atnas_jax.types import Array, Strategy


class CoevolutionState(NamedTuple):
    """A `SearchState` of the genotypes told last, and the species. G species, n members of each."""

    population: Array  # int32 [P,E]
    fitness: Array  # float32 [P,1], -inf until told
    generation: Array  # int32 [], how many times `tell` was called
    best_genotype: Array  # int32 [E]
    best_fitness: Array  # float32 []; -inf until something finite is told
    members: Array  # int32 [G,n,E]; of each row the slots of its species count, the others are its best company
    scores: Array  # float32 [G,n], -inf until told


def coevolution(
    space: SearchSpace,
    *,
    population: int = 20,
    species: int = 2,
    collaborators: int = 2,
    elites: int = 2,
    parents: float = 0.25,
    crossover_rate: float = 0.5,
    mutation_rate: float | None = None,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return cooperative co-evolution: per ask one species, in turn, breeds as in `genetic`.

    A member's score is the best fitness of k genotypes: completed once by the best members of the other species, and
    k-1 times by random ones. With the best alone (k = 1), a pair of choices that is good only together is never found
    where either is bad alone. The first ask is a random or warm population; all species start from its best n = P/k.

    Args:
        space: the space to search.
        population: P, genotypes per ask; a multiple of `collaborators`.
        species: G, groups of consecutive slots, as equal as can be.
        collaborators: k.
        elites: the best members of a species, asked again at its turn.
        parents: share of the members that may breed, in (0, 1]; rounded up.
        crossover_rate: probability that a child mixes two parents.
        mutation_rate: probability per slot of the species to change; None: G/E.
        feasible: int32 [n,E] -> bool [n]; infeasible genotypes are varied again, at last replaced by the best told.
        tries: variations per genotype; also spent on copies.

    Raises:
        ValueError: an option out of range.
    """
    check_common(population, tries)
    check_range("species", species, 1, space.num_slots)
    check_range("collaborators", collaborators, 1, population)
    check_range("parents", parents, 1e-9, 1)
    if population % collaborators:
        raise ValueError(f"population={population} is not a multiple of collaborators={collaborators}; change one")
    size = population // collaborators
    check_range("elites", elites, 0, size - 1)
    owner, slots = jnp.asarray(slot_groups(space, species)), jnp.arange(space.num_slots)
    vary = recombination(space, crossover_rate, species / space.num_slots if mutation_rate is None else mutation_rate)
    breeders = max(1, -int(-parents * size // 1))

    def init(key: Array, genotypes: Array | None = None) -> CoevolutionState:
        found = start(key, space, population, 1, genotypes, feasible, tries)
        members = jnp.broadcast_to(found.population[:size], (species, size, space.num_slots))
        return CoevolutionState(*found, members, jnp.full((species, size), -jnp.inf, jnp.float32))

    def ask(key: Array, state: CoevolutionState) -> Array:
        key_parents, key_vary, key_company = jax.random.split(key, 3)
        turn = (state.generation - 1) % species
        own, order = owner == turn, jnp.argsort(-state.scores[turn])
        leaders = state.members[owner, jnp.argmax(state.scores, axis=1)[owner], slots]
        living = jnp.where(own, state.members[turn], leaders)
        a, b = living[order[jax.random.randint(key_parents, (2, size - elites), 0, breeders)]]
        bred = breed(key_vary, lambda k, x, y: jnp.where(own, vary(k, x, y), leaders), a, b, feasible, tries, living)
        led = jnp.concatenate([living[order[:elites]], bred])

        def company(key: Array) -> Array:
            chosen = jax.random.randint(key, (population - size, species), 0, size)[:, owner]
            return jnp.where(own, jnp.tile(led, (collaborators - 1, 1)), state.members[owner, chosen, slots])

        rows = jnp.concatenate([led, retry(key_company, company, feasible, tries, led)])
        return jnp.where(state.generation == 0, state.population, best_if_infeasible(state, rows, feasible))

    def tell(state: CoevolutionState, genotypes: Array, fitness: Array) -> CoevolutionState:
        fitness, turn = clean(state, fitness), (state.generation - 1) % species
        blocks = fitness.reshape(collaborators, size)
        company = jnp.argmax(blocks, axis=0)
        rows = genotypes.reshape(collaborators, size, space.num_slots)[company, jnp.arange(size)]
        top = jnp.argsort(-fitness[:, 0])[:size]
        first, starters = state.generation == 0, jnp.broadcast_to(genotypes[top], state.members.shape)
        members = jnp.where(first, starters, state.members.at[turn].set(rows))
        scores = jnp.where(first, fitness[top, 0], state.scores.at[turn].set(blocks.max(0)))
        told = state._replace(population=genotypes, fitness=fitness, members=members, scores=scores)
        return remember(told, genotypes, fitness)

    return Strategy(init, ask, tell, best)
