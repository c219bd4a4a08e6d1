"""Genotypes of a population that begin alike, scored on an episode with what they share computed once.

Sorted, genotypes are the leaves of a tree whose nodes at depth b are the different beginnings of b blocks. One nested
loop per block walks through it, and keeps what stands after each block while it is among the leaves below: memory does
not grow with the population. Genotypes that are the same network are scored once.
"""

import jax
import jax.numpy as jnp
from jax import lax

from atnas_jax.devices import Axis, place
from atnas_jax.meta.adapt import real_rows, support_of
from atnas_jax.meta.losses import scores_of
from atnas_jax.types import Array, Episode, MetaLearner, Params, PyTree

Scores = tuple[Array, Array]  # accuracy and loss


def scores_by_tree(learner: MetaLearner, batch: int) -> bool:
    """Return whether `score_tree` takes the place of scoring pairs of mask and episode, `batch` of them together."""
    return learner.blockwise is not None and batch == 1


def score_tree(
    learner: MetaLearner,
    params: Params,
    masks: Array,
    episodes: Episode,
    member: Array,
    first: Array | int,
    last: Array | int,
    axis: Axis | None = None,
) -> Scores:
    """Adapt every member to each of some episodes and predict the queries.

    Args:
        learner: a blockwise one.
        params: meta-parameters.
        masks: float32 [P,E,O], one-hot.
        episodes: a batch with leading T.
        member: bool [P], which masks are scored.
        first, last: on the episodes first..last-1.
        axis: the mapped axis of the devices, each of which takes as many neighbours of the tree as the others.

    Returns:
        (accuracy, loss) float32 [P,T] each, 0 where not scored.
    """
    body, tasks = learner.blockwise.body, episodes.support_y.shape[0]
    order, ends = tree_of(body.kinds(masks), member)
    masks, prepared = masks[order], body.prepare(params)
    # Or XLA would know how often a loop turns, dissolve it where that is once, and round otherwise (`devices._each`).
    number = lax.optimization_barrier(member.sum())
    devices, device = place(axis)
    pairs = number * (last - first)
    share = -(-pairs // devices)
    begin, end = jnp.minimum(device * share, pairs), jnp.minimum((device + 1) * share, pairs)

    def some(turn: Array, found: Scores) -> Scores:
        episode = jax.tree.map(lambda x: x[first + turn], episodes)
        start, stop = jnp.maximum(begin - turn * number, 0), jnp.minimum(end - turn * number, number)
        scores = _walk(learner, params, prepared, masks, ends, episode, start, stop)
        return tuple(all_.at[order, first + turn].set(some_) for all_, some_ in zip(found, scores, strict=True))

    width = jnp.maximum(number, 1)
    found = lax.fori_loop(begin // width, -(-end // width), some, (jnp.zeros((len(masks), tasks)),) * 2)
    return found if axis is None else tuple(lax.psum(scores, axis) for scores in found)


def tree_of(kinds: Array, member: Array) -> tuple[Array, Array]:
    """Sort genotypes so that those which begin alike are neighbours.

    Args:
        kinds: int32 [P,B], see `Blockwise`.
        member: bool [P]; the others come last.

    Returns:
        (order int32 [P]; ends int32 [B,P], the place in that order behind the last one that begins like the one at a
            place, block b included).
    """
    order = jnp.lexsort((*kinds.T[::-1], ~member))
    kinds, size = kinds[order], len(kinds)
    differs = jnp.cumsum(kinds[1:] != kinds[:-1], axis=1).T > 0  # [B,P-1], from the one before
    parts = jnp.where(differs, jnp.arange(1, size), size)
    ends = jnp.concatenate([lax.cummin(parts, axis=1, reverse=True), jnp.full((kinds.shape[1], 1), size)], axis=1)
    return order, ends


def _walk(learner, params, prepared, masks, ends, episode, start, stop) -> Scores:
    """Return the scores float32 [P] of the sorted masks start..stop-1 on an episode, 0 of the others."""
    (body, solve), at, support_y = learner.blockwise, jnp.arange(len(masks)), episode.support_y
    reference = support_of(len(support_y), len(episode.query_y), real_rows(support_y, learner.padded))

    def below(block: int, value: PyTree, start: Array, stop: Array, found: Scores) -> Scores:
        if block == len(body.blocks):
            here = (at >= start) & (at < stop)
            scores = scores_of(solve(params, value, support_y), episode.query_y, learner.padded)
            return tuple(jnp.where(here, one, all_) for one, all_ in zip(scores, found, strict=True))

        def turn(carry):
            here, found = carry
            after = jnp.minimum(ends[block, here], stop)
            reached = body.blocks[block](prepared, value, masks[here], reference)
            return after, below(block + 1, reached, here, after, found)

        return lax.while_loop(lambda carry: carry[0] < stop, turn, (start, found))[1]

    images = jnp.concatenate([episode.support_x, episode.query_x])
    return below(0, body.start(images), start, stop, (jnp.zeros(len(masks)),) * 2)
