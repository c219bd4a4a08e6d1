"""The classification loss and accuracy of an episode."""

import jax
import jax.numpy as jnp

from atnas_jax.types import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the mean of -log softmax(logits)[label], in nats; logits float [n,N], labels int32 [n]."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)
    return -chosen.mean()


def accuracy(logits: Array, labels: Array) -> Array:
    """Return the share of rows whose largest logit, the first one of equals, is the label.

    A row with a logit that is not finite is wrong: an architecture that diverges must not be worth a guess.

    By argmax, not by comparing with the maximum: XLA may compute the two sides of such a comparison in different
    fusions, whose roundings differ.
    """
    right = (jnp.argmax(logits, -1) == labels) & jnp.isfinite(logits).all(-1)
    return right.mean(dtype=logits.dtype)


def scores_of(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Return accuracy and loss of an episode's queries, float [] each."""
    return accuracy(logits, labels), cross_entropy(logits, labels)
