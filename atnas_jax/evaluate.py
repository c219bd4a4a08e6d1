"""Genotypes against episodes: where architectures meet learning.

Loops, not batches, by default: an unbatched mask runs one branch a block and a task's working set stays in cache, which
on a CPU is worth two orders of magnitude (DESIGN section 5). `batch` is the dial: chunks of so many pairs are vmapped,
which a GPU wants, together with a supernet of folded execution.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from atnas_jax.devices import Axis, map_rows, sum_rows
from atnas_jax.meta.losses import mean_of, scores_of
from atnas_jax.prefixes import score_tree, scores_by_tree
from atnas_jax.search.variation import Feasible
from atnas_jax.types import Array, Episode, Evaluation, MetaLearner, Params, PyTree


def score(learner: MetaLearner, params: Params, mask: Array, episode: Episode) -> tuple[Array, Array]:
    """Adapt to the support and predict the queries; returns accuracy and loss, float32 [] each."""
    return scores_of(learner.solve(params, mask, *episode[:3]), episode.query_y, learner.padded)


def score_each(
    learner: MetaLearner, params: Params, masks: Array, episodes: Episode, batch: int = 1, axis: Axis | None = None
) -> tuple[Array, Array]:
    """Score mask t on episode t; masks [T,E,O], episodes [T,...] -> accuracy and loss, float32 [T] each."""
    return map_rows(lambda pair: score(learner, params, *pair), (masks, episodes), batch, axis)


def evaluate(
    learner: MetaLearner,
    params: Params,
    masks: Array,
    episodes: Episode,
    objectives: Callable[[Array, Array], Array] | None = None,
    batch: int = 1,
    axis: Axis | None = None,
) -> Evaluation:
    """Score every mask on every episode; the memory of it does not grow with P.

    Where the learner is blockwise and `batch` is 1, what masks have in common is computed once, see `prefixes.py`.

    Args:
        learner: adapts and predicts.
        params: meta-parameters.
        masks: float32 [P,E,O].
        episodes: a batch with leading T, the same for every mask; what is padding of a `padded` learner comes last and
            scores 0.
        objectives: (accuracy [P,T], loss [P,T]) -> fitness [P,M]; None is the mean accuracy.
        batch: pairs of mask and episode that are vmapped together.
        axis: the mapped axis of the devices that share the pairs of mask and episode, see `devices.py`.

    Returns:
        Evaluation.
    """
    number, tasks, real = masks.shape[0], episodes.support_y.shape[0], real_episodes(learner, episodes)

    def evaluation(right: Array, loss: Array) -> Evaluation:
        right, loss = (x if real is None else jnp.where(real, x, 0) for x in (right, loss))
        fitness = mean_over(right, real) if objectives is None else objectives(right, loss)
        return Evaluation(fitness, right, loss)

    if scores_by_tree(learner, batch):
        last = tasks if real is None else real.sum()
        found = score_tree(learner, params, masks, episodes, jnp.ones(number, bool), 0, last, axis)
        return evaluation(*found)

    def one(mask, episode):
        return score(learner, params, mask, episode)

    return evaluation(*map_pairs(one, masks, episodes, batch, axis, real))


def map_pairs(
    f: Callable[[Array, Episode], PyTree],
    masks: Array,
    episodes: Episode,
    batch: int = 1,
    axis: Axis | None = None,
    real: Array | None = None,
) -> PyTree:
    """Return f of every mask and episode, a pytree of arrays [P,T,...].

    Args:
        f: mask float32 [E,O] and one episode -> a pytree of arrays.
        masks, episodes, batch, axis: as of `evaluate`.
        real: of `real_episodes`; in a loop, the others take no time and come out as 0.
    """
    number, tasks = masks.shape[0], episodes.support_y.shape[0]

    def one(pair):
        # Episode by episode, so that equal shares of the pairs hold all genotypes and take equally long.
        episode = jax.tree.map(lambda x: x[pair // number], episodes)
        return f(masks[pair % number], episode)

    last = None if real is None or batch > 1 else real.sum() * number
    found = map_rows(one, jnp.arange(number * tasks), batch, axis, last)
    return jax.tree.map(lambda x: jnp.swapaxes(x.reshape(tasks, number, *x.shape[1:]), 0, 1), found)


def real_episodes(learner: MetaLearner, episodes: Episode) -> Array | None:
    """Return which episodes are not padding, bool [T]; None: none can be."""
    return (episodes.support_y >= 0).any(1) if learner.padded else None


def mean_over(scores: Array, real: Array | None) -> Array:
    """Return the mean of scores [P,T] over the episodes that are `real`, [P,1]."""
    return scores.mean(1, keepdims=True) if real is None else jax.vmap(mean_of, (0, None))(scores, real)[:, None]


def mask_gradient(
    learner: MetaLearner, params: Params, mask: Array, episodes: Episode, batch: int = 1, axis: Axis | None = None
) -> tuple[Array, Array, Array]:
    """Differentiate the mean query loss after adaptation with respect to one mask.

    Args:
        learner: adapts and predicts, by a static number of inner steps; its net must be of folded execution.
        params: meta-parameters, held constant.
        mask: float32 [E,O].
        episodes: a batch with leading T, a multiple of `batch`.
        batch: episodes that are differentiated together.
        axis: the mapped axis of the devices that share the episodes, see `devices.py`.

    Returns:
        (loss float32 [], accuracy float32 [], dloss/dmask float32 [E,O]), means over the episodes.
    """
    tasks = episodes.support_y.shape[0]
    chunks = jax.tree.map(lambda x: x.reshape(tasks // batch, batch, *x.shape[1:]), episodes)

    def loss_of(mask, episode):
        right, loss = score(learner, params, mask, episode)
        return loss, right

    def one(episode):
        (loss, right), slope = jax.value_and_grad(loss_of, has_aux=True)(mask, episode)
        return loss, right, slope

    def some(chunk):
        if batch == 1:
            return one(jax.tree.map(lambda x: x[0], chunk))
        return jax.tree.map(lambda x: x.sum(0), jax.vmap(one)(chunk))

    return jax.tree.map(lambda x: x / tasks, sum_rows(some, chunks, axis))


def drop_infeasible(feasible: Feasible | None, genotypes: Array, fitness: Array) -> Array:
    """Return the fitness float32 [P,M], -inf where a genotype int32 [P,E] keeps no limit; None limits nothing."""
    return fitness if feasible is None else jnp.where(feasible(genotypes)[:, None], fitness, -jnp.inf)
