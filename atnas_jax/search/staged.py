"""Staged beam search over groups of slots: the multi-level search of AutoGAN (Gong et al. 2019, 1908.03835, 3.3)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.search.asng import asng
from atnas_jax.search.checks import check_common, check_range
from atnas_jax.search.genetic import genetic
from atnas_jax.search.mdenas import mdenas
from atnas_jax.search.random_search import random_search
from atnas_jax.search.reinforce import reinforce
from atnas_jax.search.state import best, best_if_infeasible, clean, remember, start
from atnas_jax.search.variation import Feasible, retry
from atnas_jax.space.slots import SearchSpace, slot_groups
from atnas_jax.types import Array, PyTree, Strategy

INNER = {"random": random_search, "genetic": genetic, "reinforce": reinforce, "mdenas": mdenas, "asng": asng}


class StagedState(NamedTuple):
    """A `SearchState` of the genotypes told last, and the beams. B is the width of the beam."""

    population: Array  # int32 [P,E]
    fitness: Array  # float32 [P,1], -inf until told
    generation: Array  # int32 [], how many times `tell` was called
    best_genotype: Array  # int32 [E]
    best_fitness: Array  # float32 []; -inf until something finite is told
    beam: Array  # int32 [B,E], whose slots of the stages before are extended now
    beam_scores: Array  # float32 [B]; -inf where there is none
    found: Array  # int32 [B,E], the best of this stage, no two alike in the slots up to it; the next beam
    found_scores: Array  # float32 [B]; -inf where there is none
    inner: PyTree  # of the search of this stage
    fresh: PyTree  # the same before it was told anything


def staged(
    space: SearchSpace,
    *,
    population: int = 20,
    inner: str = "genetic",
    stages: int = 2,
    beam: int = 5,
    rounds: int = 5,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return a search of one group of slots after the other, which keeps the best B beginnings of each stage.

    Within a stage the inner search proposes; earlier slots are then those of the beam's member that agrees most with
    the proposal (equals at random), and later slots those of the best genotype told so far: all of one ask are compared
    under one ending, which each tell may change. Each stage begins a new inner search, as AutoGAN begins a new
    controller. AutoGAN scores a generator without its later levels, which a supernet of fixed length has not. The last
    stage does not end.

    Args:
        space: the space to search.
        population: P, genotypes per ask.
        inner: the search within a stage, a name of `INNER` with its own defaults.
        stages: groups of consecutive slots, as equal as can be.
        beam: B.
        rounds: asks per stage.
        feasible: int32 [n,E] -> bool [n]; infeasible genotypes are proposed again, at last replaced by the best told.
        tries: proposals per genotype; also spent on copies.

    Raises:
        ValueError: an option out of range.
    """
    check_common(population, tries)
    check_range("stages", stages, 1, space.num_slots)
    check_range("beam", beam, 1, None)
    check_range("rounds", rounds, 1, None)
    if inner not in INNER:
        raise ValueError(f"inner={inner!r} is unknown; allowed: {', '.join(INNER)}")
    owner, search = jnp.asarray(slot_groups(space, stages)), INNER[inner](space, population=population, tries=1)

    def stage_of(generation: Array) -> Array:
        return jnp.minimum(generation // rounds, stages - 1)

    def init(key: Array, genotypes: Array | None = None) -> StagedState:
        first = start(key, space, population, 1, genotypes, feasible, tries)
        rows = first.population[jnp.arange(beam) % population]
        nothing, fresh = jnp.full((beam,), -jnp.inf, jnp.float32), search.init(key, first.population)
        return StagedState(*first, rows, nothing, rows, nothing, fresh, fresh)

    def ask(key: Array, state: StagedState) -> Array:
        stage = stage_of(state.generation)

        def propose(key: Array) -> Array:
            key_inner, key_equal = jax.random.split(key)
            rows = search.ask(key_inner, state.inner)
            agree = ((rows[:, None] == state.beam) & (owner < stage)).sum(-1)
            agree = agree + jax.random.uniform(key_equal, agree.shape)
            chosen = jnp.argmax(jnp.where(state.beam_scores > -jnp.inf, agree, agree - space.num_slots - 1), axis=-1)
            later = jnp.where(owner == stage, rows, state.best_genotype)
            return jnp.where(owner < stage, state.beam[chosen], later)

        rows = retry(key, propose, feasible, tries, jnp.zeros((0, space.num_slots), jnp.int32))
        return jnp.where(state.generation == 0, state.population, best_if_infeasible(state, rows, feasible))

    def tell(state: StagedState, genotypes: Array, fitness: Array) -> StagedState:
        fitness, stage = clean(state, fitness), stage_of(state.generation)
        rows, scores = jnp.concatenate([state.found, genotypes]), jnp.concatenate([state.found_scores, fitness[:, 0]])
        kept = distinct_best(rows, scores, owner <= stage)[:beam]
        found, found_scores = rows[kept], scores[kept]
        ends = stage_of(state.generation + 1) > stage
        told = state._replace(
            population=genotypes,
            fitness=fitness,
            beam=jnp.where(ends, found, state.beam),
            beam_scores=jnp.where(ends, found_scores, state.beam_scores),
            found=found,
            found_scores=jnp.where(ends, -jnp.inf, found_scores),
            inner=jax.tree.map(
                lambda new, old: jnp.where(ends, old, new), search.tell(state.inner, genotypes, fitness), state.fresh
            ),
        )
        return remember(told, genotypes, fitness)

    return Strategy(init, ask, tell, best)


def distinct_best(genotypes: Array, scores: Array, slots: Array) -> Array:
    """Return int32 [n], rows from best to worst, those behind all others that agree with a better one in `slots`.

    Args:
        genotypes: int32 [n,E].
        scores: float32 [n].
        slots: bool [E].
    """
    order = jnp.argsort(-scores)
    rows = genotypes[order]
    copy = jnp.tril(((rows[:, None] == rows) | ~slots).all(-1), -1).any(-1)
    return order[jnp.argsort(copy, stable=True)]
