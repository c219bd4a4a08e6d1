"""Normalisations, each saying which images it looks at.

| name               | statistics over                                    | sees other queries |
|--------------------|----------------------------------------------------|--------------------|
| support            | the support images, for support and queries (MetaBN, Bronskill et al. 2020, section 3) | no |
| batch_transductive | the batch itself: queries are normalised by queries (MAML's published numbers)         | YES |
| instance           | height and width of one image, per channel         | no                 |
| group              | groups of 8 channels of one image                  | no                 |
| layer              | all of one image                                   | no                 |

No running statistics exist, hence nothing is mutable and a subnet needs no re-calibration.
"""

import jax.numpy as jnp
from jax import lax

from atnas_jax.types import Array

NORMALISATIONS = ("support", "batch_transductive", "instance", "group", "layer")
GROUP = 8
EPSILON = 1e-5


def other_normalisation(name: str) -> str | None:
    """Return the normalisation of the other mode that the same weights allow, or None if there is none."""
    return {"support": "batch_transductive", "batch_transductive": "support"}.get(name)


def is_transductive(name: str) -> bool:
    """Return whether a query's logits depend on the other queries under this normalisation."""
    return name == "batch_transductive"


def check_normalisation(name: str) -> None:
    """Raise ValueError unless `name` is a known normalisation."""
    if name not in (*NORMALISATIONS, "none"):
        raise ValueError(f"net.normalisation={name!r} is unknown; choose one of {', '.join(NORMALISATIONS)}")


def normaliser(x: Array, channels: Array, name: str, reference: int | None) -> tuple[Array, Array]:
    """Return the mean and the inverse standard deviation that normalise x.

    Args:
        x: float [n,H,W,C], the sum of the candidate ops.
        channels: float [C], 1 where the channel exists in this subnet; group and layer statistics leave the rest out.
        name: one of `NORMALISATIONS`, or "none": mean 0 and inverse 1.
        reference: with `support`, the number of leading rows whose statistics serve all rows; None means all rows.

    Returns:
        mean and inverse standard deviation, float32 at least, broadcastable to [n,H,W,C].
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # a sum of many bfloat16 numbers is none
    if name == "none":
        return jnp.zeros((), x.dtype), jnp.ones((), x.dtype)
    if name in ("support", "batch_transductive"):
        rows = x[:reference] if name == "support" and reference is not None else x
        mean = rows.mean((0, 1, 2))
        return mean, lax.rsqrt(jnp.square(rows - mean).mean((0, 1, 2)) + EPSILON)
    if name == "instance":
        mean = x.mean((1, 2), keepdims=True)
        return mean, lax.rsqrt(jnp.square(x - mean).mean((1, 2), keepdims=True) + EPSILON)
    size = GROUP if name == "group" else x.shape[-1]
    group = jnp.arange(x.shape[-1]) // size
    member = (group[:, None] == group[None, :]) * channels[None, :]  # [C,C], row c: who shares c's statistics
    share = member / jnp.maximum(member.sum(1, keepdims=True), 1.0)
    mean = (x.mean((1, 2)) @ share.T)[:, None, None, :]
    variance = (jnp.square(x - mean).mean((1, 2)) @ share.T)[:, None, None, :]
    return mean, lax.rsqrt(variance + EPSILON)
