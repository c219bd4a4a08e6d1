"""Genotypes against episodes: the one place where architectures meet learning.

Loops, not batches, by default: an unbatched mask runs one branch a block and a task's working set stays in cache, which
on a CPU is worth two orders of magnitude (DESIGN section 5). `batch` is the dial: chunks of that many are vmapped,
which a GPU wants, together with a supernet of folded execution.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from atnas_jax.meta.losses import accuracy, cross_entropy
from atnas_jax.search.variation import Feasible
from atnas_jax.types import Array, Episode, Evaluation, MetaLearner, Params


def score(learner: MetaLearner, params: Params, mask: Array, episode: Episode) -> tuple[Array, Array]:
    """Adapt to the support and predict the queries; returns accuracy and loss, float32 [] each."""
    adapted = learner.adapt(params, mask, episode.support_x, episode.support_y)
    logits = learner.predict(adapted, mask, episode.support_x, episode.query_x)
    return accuracy(logits, episode.query_y), cross_entropy(logits, episode.query_y)


def score_each(
    learner: MetaLearner, params: Params, masks: Array, episodes: Episode, batch: int = 1
) -> tuple[Array, Array]:
    """Score mask t on episode t; masks [T,E,O], episodes [T,...] -> accuracy and loss, float32 [T] each."""
    return _map(lambda pair: score(learner, params, *pair), (masks, episodes), batch)


def evaluate(
    learner: MetaLearner,
    params: Params,
    masks: Array,
    episodes: Episode,
    objectives: Callable[[Array, Array], Array] | None = None,
    batch: int = 1,
) -> Evaluation:
    """Score every mask on every episode.

    Args:
        learner: adapts and predicts.
        params: meta-parameters.
        masks: float32 [P,E,O].
        episodes: a batch with leading T, the same for every mask.
        objectives: (accuracy [P,T], loss [P,T]) -> fitness [P,M]; None is the mean accuracy.
        batch: masks that are vmapped together.

    Returns:
        Evaluation.
    """

    def one(mask):
        return _map(lambda episode: score(learner, params, mask, episode), episodes, 1)

    right, loss = _map(one, masks, batch)
    fitness = right.mean(1, keepdims=True) if objectives is None else objectives(right, loss)
    return Evaluation(fitness, right, loss)


def drop_infeasible(feasible: Feasible | None, genotypes: Array, fitness: Array) -> Array:
    """Return the fitness float32 [P,M], -inf where a genotype int32 [P,E] keeps no limit; None limits nothing."""
    return fitness if feasible is None else jnp.where(feasible(genotypes)[:, None], fitness, -jnp.inf)


def _map(f, xs, batch):
    return jax.lax.map(f, xs, batch_size=None if batch == 1 else batch)
