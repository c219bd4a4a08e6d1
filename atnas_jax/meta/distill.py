"""In-place distillation: the largest subnet teaches the one that trains, on the same task and from the same weights."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.types import Array, Episode, Params


class Teacher(NamedTuple):
    """Who teaches and how much it counts.

    mask: float32 [E,O], of the largest subnet
    weight: of its divergence beside the cross-entropy
    """

    mask: Array
    weight: float


def divergence(teacher: Array, student: Array) -> Array:
    """Return the mean over rows of KL(softmax(teacher) || softmax(student)), nats; logits float [n,N] -> float []."""
    wanted, found = jax.nn.log_softmax(teacher), jax.nn.log_softmax(student)
    return (jnp.exp(wanted) * (wanted - found)).sum(-1).mean()


def distillation(
    solve: Callable[..., Array], teacher: Teacher | None
) -> Callable[[Params, Episode, Array], Array | float]:
    """Return taught(params, episode, logits [Q,N]) = weight * KL(teacher || student) on the queries; 0 with no teacher.

    The teacher adapts to the same support by the same `solve`, and no gradient passes through it: in-place distillation
    (Yu et al. 2020, BigNAS, 3.1). In Once-for-All (Cai et al. 2020, 3.3) the teacher is trained before and then fixed.

    Args:
        solve: (params, mask, support_x, support_y, query_x) -> logits [Q,N], see `types.MetaLearner`.
        teacher: the largest subnet, or None.
    """
    if teacher is None:
        return lambda params, episode, logits: 0.0

    def taught(params: Params, episode: Episode, logits: Array) -> Array:
        held = jax.lax.stop_gradient(params)
        soft = solve(held, teacher.mask, episode.support_x, episode.support_y, episode.query_x)
        return teacher.weight * divergence(jax.lax.stop_gradient(soft), logits)

    return taught
