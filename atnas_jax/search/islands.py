"""Islands: several populations that evolve alone and now and then send their best to the next one.

The island model with a ring of migrants that replace the worst (Whitley, Rana & Heckendorn 1999, "The island model
genetic algorithm: on separability, population size and convergence"; Cantu-Paz 1998, "A survey of parallel genetic
algorithms", section 6). Isolated populations settle on different optima, which one large population loses.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.search.checks import check_common, check_range
from atnas_jax.search.genetic import genetic
from atnas_jax.search.regularised import regularised_evolution
from atnas_jax.search.state import SearchState, best, clean, remember
from atnas_jax.search.variation import Feasible
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, PyTree, Strategy

INNER = {"genetic": genetic, "regularised": regularised_evolution}  # which breed from population and fitness alone
LEAST = 3  # genotypes of an island


class IslandsState(NamedTuple):
    """A `SearchState` of all islands together, and that of each. G islands of n genotypes, P = G*n."""

    population: Array  # int32 [P,E], island by island
    fitness: Array  # float32 [P,1], -inf until told
    generation: Array  # int32 [], how many times `tell` was called
    best_genotype: Array  # int32 [E]
    best_fitness: Array  # float32 []; -inf until something finite is told
    islands: PyTree  # `SearchState` of every island, leading G


def islands(
    space: SearchSpace,
    *,
    population: int = 20,
    islands: int | None = None,
    inner: str = "genetic",
    migrate_every: int = 5,
    migrants: int = 1,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return G searches of one kind side by side; every m generations each one's best replace the worst of the next.

    Migrants keep the fitness that they were told. All islands are told the scores of the same episodes, so these can be
    compared. A warm start fills the islands one after the other.

    Args:
        space: the space to search.
        population: P, genotypes of all islands together; a multiple of `islands`.
        islands: G, each of at least three genotypes; None is the most, up to four, that divide P so.
        inner: the search of an island, a name of `INNER` with its own defaults; of "regularised" half of an island, or
            the largest divisor below, are children.
        migrate_every: m, generations between exchanges.
        migrants: genotypes that an island sends.
        feasible: int32 [n,E] -> bool [n]; see the inner search.
        tries: variations per child; see the inner search.

    Raises:
        ValueError: an option out of range.
    """
    check_common(population, tries)
    check_range("population", population, LEAST, None)
    most = population // LEAST
    if islands is None:
        islands = max(number for number in range(1, min(4, most) + 1) if population % number == 0)
    check_range("islands", islands, 1, most)
    check_range("migrate_every", migrate_every, 1, None)
    if population % islands:
        raise ValueError(f"population={population} is not a multiple of islands={islands}; change one of them")
    size = population // islands
    check_range("migrants", migrants, 0, size // 2)
    sent = migrants if islands > 1 else 0
    if inner not in INNER:
        raise ValueError(f"inner={inner!r} is unknown; allowed: {', '.join(INNER)}")
    options = {"children": _half(size)} if inner == "regularised" else {}
    search = INNER[inner](space, population=size, feasible=feasible, tries=tries, **options)

    def apart(rows: Array) -> Array:
        return rows.reshape(islands, -1, *rows.shape[1:])

    def joined(found: SearchState) -> tuple[Array, Array]:
        return found.population.reshape(population, -1), found.fitness.reshape(population, -1)

    def init(key: Array, genotypes: Array | None = None) -> IslandsState:
        warm = jnp.zeros((0, space.num_slots), jnp.int32) if genotypes is None else jnp.asarray(genotypes, jnp.int32)
        # The last island gets all that are left, so that too many are refused.
        parts = jnp.split(warm, [min(size * i, len(warm)) for i in range(1, islands)])
        found = [search.init(k, part) for k, part in zip(jax.random.split(key, islands), parts, strict=True)]
        every = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
        rows, fitness = joined(every)
        return IslandsState(rows, fitness, jnp.int32(0), rows[0], jnp.float32(-jnp.inf), every)

    def ask(key: Array, state: IslandsState) -> Array:
        return jax.vmap(search.ask)(jax.random.split(key, islands), state.islands).reshape(-1, space.num_slots)

    def tell(state: IslandsState, genotypes: Array, fitness: Array) -> IslandsState:
        fitness = clean(state, fitness)
        told = jax.vmap(search.tell)(state.islands, apart(genotypes), apart(fitness))
        due = (state.generation + 1) % migrate_every == 0
        told = jax.tree.map(lambda new, old: jnp.where(due, new, old), migrate(told, sent), told)
        rows, scores = joined(told)
        return remember(state._replace(population=rows, fitness=scores, islands=told), genotypes, fitness)

    return Strategy(init, ask, tell, best)


def _half(size: int) -> int:
    """Return the largest divisor of an island's size up to a half of it: a queue of that many ages by shares."""
    return max(number for number in range(1, size // 2 + 1) if size % number == 0)


def migrate(islands: SearchState, migrants: int) -> SearchState:
    """Return the islands after the best `migrants` of each have replaced the worst of the next one in the ring.

    Args:
        islands: population int32 [G,n,E] and fitness float32 [G,n,M], the first objective counts; others stay.
        migrants: at most n/2.
    """
    number, size = islands.fitness.shape[:2]
    order, own = jnp.argsort(-islands.fitness[..., 0], axis=1), jnp.arange(number)[:, None]
    sent, lost = order[:, :migrants], order[:, size - migrants :]

    def exchanged(rows: Array) -> Array:
        return rows.at[own, lost].set(jnp.roll(rows[own, sent], 1, axis=0))

    return islands._replace(population=exchanged(islands.population), fitness=exchanged(islands.fitness))
