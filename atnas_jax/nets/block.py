"""What follows the sum of candidate ops: normalisation, scale and shift, relu, and the down-sampling of a block."""

import jax.numpy as jnp

from atnas_jax.nets.norm import LEARNED, held, normaliser
from atnas_jax.nets.pool import max_pool2
from atnas_jax.types import Array, Params, Reference


def init_norm(channels: int, name: str = "support") -> Params:
    """Return {"scale": ones [C], "bias": zeros [C]} and zeros [] for what else the normalisation `name` learns."""
    learned = {leaf: jnp.zeros(()) for leaf in LEARNED.get(name, ())}
    return {"scale": jnp.ones(channels), "bias": jnp.zeros(channels)} | learned


def normalise(y: Array, channels: Array, norm: Params, name: str, reference: Reference) -> Array:
    """Normalise, scale and shift; float [n,H,W,C] -> the same, zero where `channels` [C] is zero."""
    slope, shift = _slope_and_shift(y, channels, norm, name, reference)
    return ((y * slope + shift) * channels).astype(y.dtype)


def norm_relu_pool(y: Array, channels: Array, norm: Params, name: str, reference: Reference) -> Array:
    """Compute max_pool2(relu(normalise(y))) on a quarter of the values; float [n,H,W,C] -> [n,H//2,W//2,C].

    Normalisation is affine per channel given its statistics, so it commutes with pooling up to the sign of the scale.
    """
    slope, shift = _slope_and_shift(y, channels, norm, name, reference)
    sign = jnp.where(norm["scale"] < 0, -1.0, 1.0).astype(y.dtype)
    pooled = max_pool2(sign * y)
    return (relu(pooled * held(sign * slope) + shift) * channels).astype(y.dtype)


def _slope_and_shift(y, channels, norm, name, reference) -> tuple[Array, Array]:
    """Return what makes y * slope + shift the normalised, scaled and shifted y.

    Its derivatives are of y alone; (y - mean) * slope would keep y - mean for them, an array as large. Where the mean
    is far above the deviation, y itself is about as far off as what this rounds away.
    """
    mean, inverse = normaliser(y, channels, name, reference, norm)
    slope = inverse * norm["scale"]
    return held(slope), held(norm["bias"] - mean * slope)


def relu(x: Array) -> Array:
    """Return max(x, 0) by selection, whose derivative at 0 is 0 at every order; NaN is handed on, not hidden."""
    return jnp.where(x <= 0, 0.0, x)
