"""Whether an architecture found on one task's support is better than the shared best one by more than chance."""

import jax.numpy as jnp
import numpy as np
import optax

from atnas_jax.evaluate import map_pairs, real_episodes
from atnas_jax.meta.losses import mean_of
from atnas_jax.search.variation import Feasible
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.types import Array, Episode, MetaLearner, Params


def query_losses(
    learner: MetaLearner, params: Params, masks: Array, episodes: Episode, axis: str | None = None
) -> Array:
    """Return the cross-entropy of every query after adaptation, nats; masks [P,E,O], episodes [T,...] -> [P,T,Q].

    That of a query which is padding means nothing.
    """

    def losses(mask: Array, episode: Episode) -> Array:
        logits = learner.solve(params, mask, *episode[:3])
        return optax.softmax_cross_entropy_with_integer_labels(logits, episode.query_y)

    return map_pairs(losses, masks, episodes, axis=axis, real=real_episodes(learner, episodes))


def paired_difference(differences: Array, sources: Array, images: int) -> tuple[Array, Array]:
    """Return the mean of paired differences and its standard error, float32 [] each.

    mean d = 1/n sum_i d_i;  se^2 = G/(G-1) 1/n^2 sum_g (sum_{i in g} (d_i - mean d))^2

    over the G groups g of pseudo-queries made of the same image: copies of an image err together, so that a hundred of
    them are one observation (the cluster-robust variance of a mean, Cameron & Miller 2015, section II). With one query
    an image it is the usual sd / sqrt(n).

    Args:
        differences: float32 [n].
        sources: int [n], the image of each, 0..images-1, at least two different ones; -1 is padding and does not count.
        images: how many there may be, static.
    """
    real = sources >= 0
    mean, number = mean_of(differences, real), real.sum()
    sums = jnp.zeros(images).at[sources].add(jnp.where(real, differences - mean, 0))
    groups = jnp.zeros(images, bool).at[sources].max(real).sum()
    return mean, jnp.sqrt(groups / (groups - 1) * jnp.square(sums).sum()) / number


def keep_unless_better(
    learner: MetaLearner,
    space: SearchSpace,
    params: Params,
    incumbent: Array,
    found: Array,
    episodes: Episode,
    sources: Array,
    images: int,
    margin: float,
    feasible: Feasible | None = None,
    axis: str | None = None,
) -> tuple[Array, Array]:
    """Choose between two genotypes: the found one only where it is better by more than chance; jittable.

    It is taken where mean d > margin * se, d_i the loss of pseudo-query i under the incumbent less that under the found
    one, see `paired_difference`, or where all of its losses are finite and not all of that one's. With margin 1 that is
    the one-standard-error rule of Breiman et al. (1984, Classification and Regression Trees, 3.4.3), turned to the
    model that many tasks have chosen instead of the simplest one.

    Args:
        learner, space, params: of the search.
        incumbent: int32 [E], the shared best genotype.
        found: int32 [E], what the search on the support ended with.
        episodes: from `pseudo_episodes`; where they are moved copies, better not those of the search, which chose
            among many genotypes by them.
        sources: int [T,Q], `held` of `pseudo_rows`.
        images: of the support, padding included.
        margin: standard errors; -inf takes whatever was found.
        feasible: int32 [n,E] -> bool [n]; an incumbent beyond the limits is not kept.
        axis: the mapped axis of the devices that share the evaluations.

    Returns:
        (genotype int32 [E], (mean d, se) float32 [2] in nats).
    """
    both = jnp.stack([incumbent, found])
    losses = query_losses(learner, params, mask_of(space, both), episodes, axis).reshape(2, -1)
    sources = sources.reshape(-1)
    gain, error = paired_difference(losses[0] - losses[1], sources, images)
    sound = (jnp.isfinite(losses) | (sources < 0)).all(1)
    better = (gain > margin * error) | (sound[1] & ~sound[0]) | (margin == -np.inf)
    if feasible is not None:
        fits = feasible(both)
        better = (better | ~fits[0]) & fits[1]
    return jnp.where(better, found, incumbent), jnp.stack([gain, error])
