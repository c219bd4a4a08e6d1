"""The classification loss and accuracy of an episode."""

import jax
import jax.numpy as jnp

from atnas_jax.types import Array


def mean_of(values: Array, real: Array | None = None) -> Array:
    """Return the mean of values [n], of those alone that are `real` bool [n]; 0 where none is."""
    if real is None:
        return values.mean()
    return jnp.where(real, values, 0).sum() / jnp.maximum(real.sum(), 1)


def cross_entropy(logits: Array, labels: Array, padded: bool = False) -> Array:
    """Return the mean of -log softmax(logits)[label], in nats; logits float [n,N], labels int32 [n].

    With `padded`, rows of label -1 do not count.
    """
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)
    return -mean_of(chosen, labels[:, None] >= 0 if padded else None)


def accuracy(logits: Array, labels: Array, padded: bool = False) -> Array:
    """Return the share of rows whose largest logit, the first one of equals, is the label.

    A row with a logit that is not finite is wrong: an architecture that diverges must not be worth a guess. With
    `padded`, rows of label -1 do not count.

    By argmax, not by comparing with the maximum: XLA may compute the two sides of such a comparison in different
    fusions, whose roundings differ.
    """
    right = (jnp.argmax(logits, -1) == labels) & jnp.isfinite(logits).all(-1)
    return mean_of(right.astype(logits.dtype), labels >= 0 if padded else None)


def scores_of(logits: Array, labels: Array, padded: bool = False) -> tuple[Array, Array]:
    """Return accuracy and loss of an episode's queries, float [] each; `padded` as of `cross_entropy`."""
    return accuracy(logits, labels, padded), cross_entropy(logits, labels, padded)
