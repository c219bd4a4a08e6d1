"""Successive halving of a population over episodes: who is behind on the first ones is not scored on the others."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from atnas_jax.devices import Axis, place
from atnas_jax.evaluate import score
from atnas_jax.prefixes import score_tree, scores_by_tree
from atnas_jax.types import Array, Episode, MetaLearner, Params

LEAST = 2  # genotypes of the last rung


def halving(population: int, episodes: int, share: float = 0.0) -> np.ndarray:
    """Return the rungs of a race that halves the field, every rung about equally dear.

    Successive halving (Jamieson & Talwalkar 2016, algorithm 1) with episodes as the resource. P = 10 on 30 episodes
    takes 111 evaluations in place of 300 if the field is halved whenever the number of episodes has doubled, and 62
    with a share of 0.2.

    Args:
        population: P.
        episodes: T.
        share: of the P * T evaluations, what the race takes, up to rounding to whole episodes, of which there is one at
            least, and of a large share less, as nobody sees more than T; 0 doubles the episodes from rung to rung, and
            the last `LEAST` genotypes see them all: half of the evaluations for P = 8, a third for 16, a fifth for 32.

    Returns:
        int32 [R,2]; up to how many episodes, all in all, how many genotypes are scored: (genotypes, episodes).
    """
    fields = [population]
    while fields[-1] > LEAST:
        fields.append(max(LEAST, -(-fields[-1] // 2)))
    if share:
        spent = share * population * episodes / len(fields)
        until = np.clip(np.round(np.cumsum(spent / np.asarray(fields))), 1, episodes)
    else:
        until = [-(-episodes // 2 ** (len(fields) - 1 - rung)) for rung in range(len(fields))]
    return np.asarray(list(zip(fields, until, strict=True)), np.int32)


def race(
    learner: MetaLearner,
    params: Params,
    masks: Array,
    episodes: Episode,
    order: Array,
    rungs: Array,
    batch: int = 1,
    axis: Axis | None = None,
    worth: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Score masks on episodes, dropping those behind on the way; one program whatever the rungs are.

    Within a rung masks share what they have in common, where `evaluate` would let them.

    Args:
        learner: adapts and predicts.
        params: meta-parameters.
        masks: float32 [P,E,O].
        episodes: a batch with leading T, the same for every mask.
        order: int32 [P], the masks from first to last; the first ones enter where a rung takes fewer than P.
        rungs: int32 [R,2], see `halving`.
        batch: pairs of mask and episode that are vmapped together.
        axis: the mapped axis of the devices that share the pairs, see `devices.py`.
        worth: float32 [P], what the accuracy of each mask is multiplied by; None is 1.

    Returns:
        (accuracy float32 [P,T] by its worth, 0 where not seen; seen bool [P,T]; order int32 [P], the new standing, best
            first).
    """
    number, tasks = masks.shape[0], episodes.support_y.shape[0]

    def score_pair(p, t):
        return score(learner, params, masks[p], jax.tree.map(lambda x: x[t], episodes))[0]

    def rung(carry, spec):
        order, accuracy, seen, first = carry
        field, last = jnp.minimum(spec[0], number), jnp.maximum(spec[1], first)  # some strategies ask fewer than P
        rank, index = jnp.arange(number), jnp.arange(tasks)
        racing = jnp.zeros(number, bool).at[order].set(rank < field)
        if scores_by_tree(learner, batch):
            found = score_tree(learner, params, masks, episodes, racing, first, last, axis)[0]
        else:
            found = _score_field(score_pair, order, field, first, last, tasks, batch, axis)
        accuracy += found if worth is None else found * worth[:, None]
        seen |= racing[:, None] & (index >= first) & (index < last)
        mean = accuracy.sum(1) / jnp.maximum(seen.sum(1), 1)
        behind = jnp.where(rank < field, -mean[order], jnp.inf)
        return (order[jnp.argsort(behind, stable=True)], accuracy, seen, last), None

    start = (jnp.asarray(order), jnp.zeros((number, tasks)), jnp.zeros((number, tasks), bool), jnp.int32(0))
    order, accuracy, seen, _ = lax.scan(rung, start, jnp.asarray(rungs))[0]
    return accuracy, seen, order


def _score_field(score_pair, order, field, first, last, tasks, batch, axis):
    """Return float32 [P,T], the accuracy of the first `field` masks in order on episodes first..last-1, else 0."""
    devices, own = place(axis)
    pairs, width = field * (last - first), jnp.maximum(field, 1)
    period = jnp.lcm(width, devices * batch)  # the field is turned after it, or a device would have the same ones again

    def some(turn, found):
        pair = (turn * devices + own) * batch + jnp.arange(batch)
        p, t = order[(pair + pair // period) % width], first + pair // width
        value = score_pair(p[0], t[0])[None] if batch == 1 else jax.vmap(score_pair)(p, t)
        return found.at[p, t].add(jnp.where(pair < pairs, value, 0.0))

    turns = -(-pairs // (devices * batch))
    found = lax.fori_loop(0, turns, some, jnp.zeros((len(order), tasks)))
    return found if axis is None else lax.psum(found, axis)


def fitness_of(accuracy: Array, seen: Array, order: Array) -> Array:
    """Return the mean accuracy over all episodes, as far as it is known; float32 [P], largest for the first in order.

    Who was dropped has seen the first episodes alone, which may be easier than the rest. It is therefore compared with
    the winner on those: mean(winner) + mean_{t seen}(accuracy_t - winner_t). Who has seen none has -inf.
    """
    winner = accuracy[order[0]]
    count = seen.sum(1)
    lead = jnp.where(seen, accuracy - winner, 0.0).sum(1) / jnp.maximum(count, 1)
    return jnp.where(count > 0, winner.sum() / jnp.maximum(seen[order[0]].sum(), 1) + lead, -jnp.inf)
