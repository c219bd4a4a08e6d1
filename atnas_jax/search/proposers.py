"""What a predictor is asked: where candidates come from, and which of them are worth an evaluation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from atnas_jax.search.checks import check_range
from atnas_jax.search.pool import Pool, equal, ranked
from atnas_jax.search.predictors.base import Predictor, climb
from atnas_jax.search.variation import Feasible, recombination
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, PyTree

Proposer = Callable[[Array, PyTree, Pool, Array], Array]  # key, fitted, pool, random int32 [n,E] -> int32 [n,E]
PROPOSERS = ("rank_mutated", "ucb", "ascent")


def make_proposer(
    name: str,
    space: SearchSpace,
    predictor: Predictor,
    *,
    parents: float = 0.25,
    candidates: int = 200,
    kappa: float = 1.0,
    climb_steps: int = 10,
    starts: int = 100,
    crossover_rate: float = 0.5,
    mutation_rate: float | None = None,
    feasible: Feasible | None = None,
) -> Proposer:
    """Return the proposer of that name; it asks the candidates of highest score that are feasible and unseen.

    "rank_mutated": children of the best of the pool, by the predicted mean (PNAS, Liu et al. 2018; BANANAS, White et
    al. 2021; Once-for-All). "ucb": the same by mean + kappa * deviation (GP-UCB, Srinivas et al. 2010). "ascent":
    what `base.climb` leads to from the best of the pool with eta = 1..climb_steps, by the predicted mean. NAO stops at
    the first eta with enough unseen genotypes; going on and ranking finds better ones.

    Args:
        name: one of `PROPOSERS`.
        space: of the genotypes.
        predictor: gives the scores.
        parents: share of the filled pool that breeds or is climbed from, in (0, 1]; rounded up.
        candidates: of "rank_mutated" and "ucb".
        kappa: of "ucb", deviations added to the mean.
        climb_steps: of "ascent", the largest eta.
        starts: of "ascent", at most so many rows of the pool.
        crossover_rate, mutation_rate: see `variation.recombination`.
        feasible: int32 [n,E] -> bool [n]; infeasible candidates are dropped.

    Raises:
        ValueError: an unknown name, an option out of range, or "ucb" with a predictor that has no deviation.
    """
    if name not in PROPOSERS:
        raise ValueError(f"proposer={name!r} is unknown; allowed: {', '.join(PROPOSERS)}")
    if name == "ucb" and predictor.deviation is None:
        raise ValueError("proposer='ucb' needs a predictor with a deviation; take predictor 'gp' or 'ridge'")
    check_range("parents", parents, 1e-9, 1)
    check_range("kappa", kappa, 0, None)
    for option, value in (("candidates", candidates), ("climb_steps", climb_steps), ("starts", starts)):
        check_range(option, value, 1, None)
    vary = recombination(space, crossover_rate, mutation_rate)

    def top(pool: Pool) -> Array:
        return jnp.maximum(jnp.ceil(parents * pool.filled.sum() - 1e-4), 1).astype(jnp.int32)

    def bred(key: Array, fitted: PyTree, pool: Pool) -> Array:
        key_parents, key_vary = jax.random.split(key)
        chosen = ranked(pool)[jax.random.randint(key_parents, (2, candidates), 0, top(pool))]
        return vary(key_vary, pool.genotypes[chosen[0]], pool.genotypes[chosen[1]])

    def climbed(key: Array, fitted: PyTree, pool: Pool) -> Array:
        most = min(starts, pool.filled.shape[0])
        # Rows beyond the share start where the best does: copies, which `choose` drops.
        start = ranked(pool)[jnp.where(jnp.arange(most) < top(pool), jnp.arange(most), 0)]
        moved = climb(predictor, fitted, pool.genotypes[start])
        return jax.lax.map(moved, 1.0 + jnp.arange(climb_steps)).reshape(-1, space.num_slots)

    def score(fitted: PyTree, rows: Array) -> Array:
        codes = predictor.encode(fitted, rows)
        bonus = kappa * predictor.deviation(fitted, codes) if name == "ucb" else 0
        return predictor.mean(fitted, codes) + bonus

    def propose(key: Array, fitted: PyTree, pool: Pool, fresh: Array) -> Array:
        rows = (climbed if name == "ascent" else bred)(key, fitted, pool)
        return choose(rows, score(fitted, rows), fresh, feasible, pool)

    return propose


def choose(rows: Array, score: Array, fresh: Array, feasible: Feasible | None, pool: Pool) -> Array:
    """Return int32 [n,E]: feasible ones first, of them new ones, of them `rows` [c,E] by `score` [c], then `fresh`.

    New: neither in the pool nor equal to an earlier row. `fresh` int32 [n,E] stands in where rows are too few.
    """
    both = jnp.concatenate([rows, fresh])
    new = ~(equal(both, pool.genotypes).any(-1) | jnp.tril(equal(both, both), -1).any(-1))
    fits = jnp.ones(len(both), bool) if feasible is None else feasible(both)
    worth = jnp.concatenate([jnp.where(jnp.isnan(score), -jnp.inf, score), jnp.full(len(fresh), -jnp.inf)])
    return both[jnp.lexsort((-worth, ~new, ~fits))[: len(fresh)]]
