"""The classification loss and accuracy of an episode."""

import jax
import jax.numpy as jnp

from atnas_jax.types import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the mean of -log softmax(logits)[label], in nats; logits float [n,N], labels int32 [n]."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)
    return -chosen.mean()


def accuracy(logits: Array, labels: Array) -> Array:
    """Return the share of rows whose largest logit is the label; a tie over all N classes counts 1/N.

    Ties are shared out so that a network without any information scores chance, not the share of class 0.
    """
    best = logits == logits.max(-1, keepdims=True)
    return (jnp.take_along_axis(best, labels[:, None], -1)[:, 0] / jnp.maximum(best.sum(-1), 1)).mean()
