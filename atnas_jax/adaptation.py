"""A novel task from its support alone: a short search over the pseudo-episodes that `pseudo.py` makes of it.

Whether what is found is worth leaving the shared best architecture for is asked in `incumbent.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.devices import Axis
from atnas_jax.evaluate import drop_infeasible, evaluate, mean_over, real_episodes
from atnas_jax.search.variation import Feasible
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.types import Array, Episode, MetaLearner, Params, PyTree, Strategy


def mean_ranks(values: Array) -> Array:
    """Return float32 [n], the mean over columns v of a row's mid-rank in 0..1, 1 where it is the largest of all.

    f_i = 1/V sum_v r_v(i),  r_v(i) = (#{j: v_j < v_i} + 1/2 #{j != i: v_j = v_i}) / (n - 1).

    Ranks have no unit, so a loss in nats and a log-determinant weigh the same whatever their spread is.

    Args:
        values: float32 [n,V], each column to be maximised; no NaN, n at least 2.
    """
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1) - 1
    return ((below + 0.5 * equal) / (len(values) - 1)).mean(1)


class Leader(NamedTuple):
    """The best genotype so far."""

    genotype: Array  # int32 [E]
    values: Array  # float32 [V], what it is ranked by, each to be maximised
    fitness: Array  # float32 [], V = 1: the value; else its mean rank when it last led; -inf: none has led yet


Carry = tuple[PyTree, Leader]  # the state of the strategy, and the best so far


def first_carry(key: Array, strategy: Strategy, warm: Array | None, mixed: bool = False) -> Carry:
    """Return what a search carries before its first generation; arguments as of `adapt_architecture`."""
    state, nothing = strategy.init(key, warm), jnp.float32(-jnp.inf)
    return state, Leader(strategy.best(state), jnp.full(1 + mixed, nothing), nothing)


def make_generation(
    learner: MetaLearner,
    space: SearchSpace,
    strategy: Strategy,
    params: Params,
    episodes: Episode,
    batch: int = 1,
    feasible: Feasible | None = None,
    axis: str | None = None,
    score: Callable[[Array], Array] | None = None,
    mixed: bool = False,
) -> Callable[[Carry, Array], tuple[Carry, None]]:
    """Return generation(carry, key) -> (carry, None), a round of ask and tell; arguments as of `adapt_architecture`."""

    def negative_loss(accuracy: Array, loss: Array) -> Array:
        del accuracy
        return -mean_over(loss, real_episodes(learner, episodes))

    def values_of(genotypes: Array) -> Array:
        masks, columns = mask_of(space, genotypes), []
        if score is None or mixed:
            columns.append(evaluate(learner, params, masks, episodes, negative_loss, batch, axis).fitness[:, 0])
        if score is not None:
            columns.append(score(masks))
        values = jnp.stack(columns, -1)
        return drop_infeasible(feasible, genotypes, jnp.where(jnp.isnan(values), -jnp.inf, values))

    def generation(carry: Carry, key: Array) -> tuple[Carry, None]:
        state, leader = carry
        asked = strategy.ask(key, state)
        genotypes = jnp.concatenate([leader.genotype[None], asked])
        values = jnp.concatenate([leader.values[None], values_of(asked)])
        fitness = values[:, 0]
        if mixed:  # what keeps no limit, or has not been told, has no rank
            fitness = drop_infeasible(feasible, genotypes, mean_ranks(values)[:, None])[:, 0]
            fitness = fitness.at[0].set(jnp.where(leader.fitness == -jnp.inf, -jnp.inf, fitness[0]))
        state = strategy.tell(state, asked, fitness[1:, None])
        top = jnp.argmax(fitness)  # the first of equals: who leads stays
        return (state, Leader(genotypes[top], values[top], fitness[top])), None

    return generation


def adapt_architecture(
    key: Array,
    learner: MetaLearner,
    space: SearchSpace,
    strategy: Strategy,
    params: Params,
    warm: Array | None,
    episodes: Episode,
    generations: int,
    batch: int = 1,
    feasible: Feasible | None = None,
    axis: Axis | None = None,
    score: Callable[[Array], Array] | None = None,
    mixed: bool = False,
) -> tuple[Array, Array]:
    """Search for the genotype that does best on pseudo-episodes; jittable.

    Fitness is the negative mean loss: a handful of pseudo-queries makes accuracy too coarse to rank by. Or it is a
    `score`, such as a proxy on the support, that trains nothing; or the mean rank by both, see `mean_ranks`, among the
    genotypes of a generation and the best one before it.

    Args:
        key: consumed.
        learner: adapts and predicts.
        space: what the genotypes mean.
        strategy: asks and tells; its population times `generations` is the number of evaluations.
        params: meta-parameters.
        warm: int32 [n,E], the population found across tasks, or None for a cold start.
        episodes: from `pseudo_episodes`.
        generations: rounds of ask and tell, at least 1.
        batch: pairs of mask and episode evaluated together, see `evaluate.py`.
        feasible: int32 [n,E] -> bool [n]; the others have fitness -inf.
        axis: the mapped axis of the devices that share the evaluations, see `devices.py`.
        score: masks float32 [P,E,O] -> float32 [P], to be maximised, instead of the loss of pseudo-episodes.
        mixed: rank by the loss and by the score.

    Returns:
        (the best genotype int32 [E], its fitness float32 []).
    """
    first, rest = jax.random.split(key)
    generation = make_generation(
        learner, space, strategy, params, episodes, batch, feasible, axis, score=score, mixed=mixed
    )
    carry = first_carry(first, strategy, warm, mixed)
    (_, leader), _ = jax.lax.scan(generation, carry, jax.random.split(rest, generations))
    return leader.genotype, leader.fitness
