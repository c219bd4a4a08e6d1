"""Max-pooling whose gradient XLA:CPU compiles correctly."""

import functools

import jax.numpy as jnp
from jax import lax

from atnas_jax.types import Array


def largest(views: list[Array]) -> Array:
    """Return the elementwise maximum of the views; its gradient goes to the first view that attains it.

    The winner is found on stopped values, so the transpose is a selection and the second derivative is exact. Pairwise
    `jnp.maximum` and reshape().max() are avoided on purpose: XLA:CPU of jax 0.10 gets their gradients wrong inside
    a jitted network.
    """
    stopped = [lax.stop_gradient(view) for view in views]
    best = functools.reduce(jnp.maximum, stopped)
    out, taken = jnp.zeros_like(best), jnp.zeros(best.shape, bool)
    for view, value in zip(views, stopped, strict=True):
        hit = (value == best) & ~taken
        out, taken = jnp.where(hit, view, out), taken | hit
    return jnp.where(taken, out, best)  # nothing equals a NaN: hand it on rather than hide it


def max_pool3(x: Array, stride: int = 1) -> Array:
    """Max-pool 3x3 with symmetric padding; float [n,H,W,C] -> [n,ceil(H/stride),ceil(W/stride),C]."""
    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=float(jnp.finfo(x.dtype).min))
    x = largest([x[:, :, j : j + w : stride] for j in range(3)])
    return largest([x[:, i : i + h : stride] for i in range(3)])


def max_pool2(x: Array) -> Array:
    """Max-pool 2x2 with stride 2; float [n,H,W,C] -> [n,H//2,W//2,C], an axis of length 1 stays as it is."""
    h, w = x.shape[1:3]
    x = largest([x[:, :, 0 : w - 1 : 2], x[:, :, 1:w:2]]) if w > 1 else x
    return largest([x[:, 0 : h - 1 : 2], x[:, 1:h:2]]) if h > 1 else x
