"""Strategies that a predictor guides: NAO, and any predictor with any proposer.

Random genotypes first, until the pool holds enough to learn from; then the predictor is fitted to the pool at `tell`
and proposes what is asked. Elites are asked again in every generation, so a lucky score does not outlive the weights
that it was measured with; on a table, where a score is for ever, take elites=0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.rng import stream
from atnas_jax.search.checks import check_common, check_range
from atnas_jax.search.pool import Pool, empty_pool, insert, ranked
from atnas_jax.search.predictors.base import Equivalents, Predictor
from atnas_jax.search.predictors.kernel import gp, ridge
from atnas_jax.search.predictors.mlp import mlp
from atnas_jax.search.predictors.nao import nao_network
from atnas_jax.search.proposers import Proposer, make_proposer
from atnas_jax.search.state import best, clean, remember, start
from atnas_jax.search.variation import Feasible, retry
from atnas_jax.space.slots import SearchSpace, random_genotypes
from atnas_jax.types import Array, PyTree, Strategy

PREDICTORS = {"ridge": ridge, "gp": gp, "mlp": mlp, "nao": nao_network}


class GuidedState(NamedTuple):
    """The fields of `SearchState`, then what guides."""

    population: Array  # int32 [P,E], told last
    fitness: Array  # float32 [P,1], -inf until told
    generation: Array  # int32 [], how many times `tell` was called
    best_genotype: Array  # int32 [E]
    best_fitness: Array  # float32 [], -inf until something finite is told
    pool: Pool
    fitted: PyTree  # of the predictor
    told: Array  # int32 [], evaluations so far
    stale: Array  # int32 [], evaluations since the last fit


def nao(
    space: SearchSpace,
    *,
    population: int = 20,
    seeds: int = 40,
    refit: int = 40,
    pool: int = 300,
    elites: int = 2,
    parents: float = 0.34,
    climb_steps: int = 10,
    fit_steps: int = 500,
    embedding: int = 32,
    hidden: int = 64,
    learning_rate: float = 3e-3,
    targets: str = "rank",
    equivalents: Equivalents | None = None,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return Neural Architecture Optimization (Luo et al. 2018): ascent in the embedding of the best of the pool.

    Published: 600 seeds, a refit and up to 300 new genotypes every 300 evaluations, from the 100 best of the pool.

    Args:
        space: the space to search.
        population: P, genotypes per ask.
        seeds: evaluations of random genotypes before the first fit.
        refit: evaluations between fits.
        pool: size of the pool, in which new genotypes replace the worst; at least P.
        elites: the best of the pool, asked again.
        parents, climb_steps: see `proposers.make_proposer`.
        fit_steps, embedding, hidden, learning_rate, targets, equivalents: see `predictors.nao.nao_network`.
        feasible: int32 [n,E] -> bool [n]; infeasible proposals are dropped.
        tries: draws of random genotypes.

    Raises:
        ValueError: an option out of range.
    """
    network = nao_network(
        space,
        embedding=embedding,
        hidden=hidden,
        fit_steps=fit_steps,
        learning_rate=learning_rate,
        targets=targets,
        equivalents=equivalents,
    )
    propose = make_proposer("ascent", space, network, parents=parents, climb_steps=climb_steps, feasible=feasible)
    sizes = {"population": population, "seeds": seeds, "refit": refit, "pool": pool, "elites": elites}
    return guided(space, network, propose, **sizes, feasible=feasible, tries=tries)


def predictor_search(
    space: SearchSpace,
    *,
    predictor: str | Predictor = "ridge",
    proposer: str = "rank_mutated",
    population: int = 20,
    seeds: int = 20,
    refit: int = 1,
    pool: int = 300,
    elites: int = 2,
    parents: float = 0.25,
    candidates: int = 200,
    kappa: float = 1.0,
    climb_steps: int = 10,
    crossover_rate: float = 0.5,
    mutation_rate: float | None = None,
    feasible: Feasible | None = None,
    tries: int = 8,
) -> Strategy:
    """Return a search by a predictor and a proposer.

    Args:
        space: the space to search.
        predictor: a name of `PREDICTORS`, with its own defaults, or a `Predictor`.
        proposer: "rank_mutated", "ucb" or "ascent".
        population, seeds, refit, pool, elites: as in `nao`.
        parents, candidates, kappa, climb_steps, crossover_rate, mutation_rate: see `proposers.make_proposer`.
        feasible: int32 [n,E] -> bool [n]; infeasible proposals are dropped.
        tries: draws of random genotypes.

    Raises:
        ValueError: a name is unknown, an option out of range, or the two do not go together.
    """
    if isinstance(predictor, str):
        if predictor not in PREDICTORS:
            raise ValueError(f"predictor={predictor!r} is unknown; allowed: {', '.join(PREDICTORS)}")
        predictor = PREDICTORS[predictor](space)
    propose = make_proposer(
        proposer,
        space,
        predictor,
        parents=parents,
        candidates=candidates,
        kappa=kappa,
        climb_steps=climb_steps,
        crossover_rate=crossover_rate,
        mutation_rate=mutation_rate,
        feasible=feasible,
    )
    sizes = {"population": population, "seeds": seeds, "refit": refit, "pool": pool, "elites": elites}
    return guided(space, predictor, propose, **sizes, feasible=feasible, tries=tries)


def guided(
    space: SearchSpace,
    predictor: Predictor,
    propose: Proposer,
    *,
    population: int,
    seeds: int,
    refit: int,
    pool: int,
    elites: int,
    feasible: Feasible | None,
    tries: int,
) -> Strategy:
    """Return the strategy of a predictor and a proposer; each ask is [elites, proposals] once `seeds` were told.

    Under vmap every `tell` fits, whether due or not, since both branches then run.

    Args: as in `nao`.

    Raises:
        ValueError: an option out of range.
    """
    check_common(population, tries)
    check_range("seeds", seeds, 1, None)
    check_range("refit", refit, 1, None)
    check_range("pool", pool, population, None)
    check_range("elites", elites, 0, population - 1)

    def init(key: Array, genotypes: Array | None = None) -> GuidedState:
        key_start, key_fitted = jax.random.split(key)
        first = start(key_start, space, population, 1, genotypes, feasible, tries)
        fitted = predictor.init(key_fitted, pool)
        return GuidedState(*first, empty_pool(space, pool), fitted, jnp.int32(0), jnp.int32(refit))

    def by_predictor(key: Array, state: GuidedState, fresh: Array) -> Array:
        rows = propose(key, state.fitted, state.pool, fresh)
        top = ranked(state.pool)[:elites]
        # A pool of fewer than `elites` distinct genotypes has rows that are no genotypes.
        again = jnp.where(state.pool.filled[top][:, None], state.pool.genotypes[top], rows[population - elites :])
        return jnp.concatenate([again, rows[: population - elites]])

    def ask(key: Array, state: GuidedState) -> Array:
        key_fresh, key_propose = jax.random.split(key)
        avoid = state.pool.genotypes
        fresh = retry(key_fresh, lambda k: random_genotypes(k, space, population), feasible, tries, avoid)
        first = jnp.where(state.generation == 0, state.population, fresh)
        return jax.lax.cond(state.told < seeds, lambda: first, lambda: by_predictor(key_propose, state, fresh))

    def tell(state: GuidedState, genotypes: Array, fitness: Array) -> GuidedState:
        fitness = clean(state, fitness)
        kept = insert(state.pool, genotypes, fitness[:, 0])
        told, stale = state.told + population, state.stale + population
        due = (told >= seeds) & (stale >= refit)
        # tell has no key; the number of the generation tells one fit's minibatches from another's.
        key = stream(0, "fit", state.generation)
        fitted = jax.lax.cond(due, lambda: predictor.fit(key, state.fitted, *kept), lambda: state.fitted)
        state = state._replace(population=genotypes, fitness=fitness, pool=kept, fitted=fitted)
        state = state._replace(told=told, stale=jnp.where(due, 0, stale))
        return remember(state, genotypes, fitness)

    return Strategy(init, ask, tell, best)
