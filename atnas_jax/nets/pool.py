"""Pooling; the gradient of max-pooling is one that XLA:CPU compiles correctly."""

import functools

import jax.numpy as jnp

from atnas_jax.types import Array


def larger(a: Array, b: Array) -> Array:
    """Return the elementwise maximum; the gradient goes to the larger, of equals to the first, and NaN is handed on.

    Selection is on purpose. `jnp.maximum` and reshape().max() find the winner's gradient by comparing the maximum for
    equality with its operands. XLA:CPU of jax 0.10 computes those anew inside each fusion, rounded in another way, so
    that inside a jitted network nothing equals the maximum and its gradient is lost.
    """
    return jnp.where((a >= b) | jnp.isnan(a), a, b)


def max_pool3(x: Array, stride: int = 1) -> Array:
    """Max-pool 3x3 with symmetric padding; float [n,H,W,C] -> [n,ceil(H/stride),ceil(W/stride),C]."""
    return _reduce3(larger, x, stride, float(jnp.finfo(x.dtype).min))


def mean_pool3(x: Array, stride: int = 1) -> Array:
    """Mean-pool 3x3, zeros beyond the border counting; float [n,H,W,C] -> [n,ceil(H/stride),ceil(W/stride),C]."""
    return _reduce3(jnp.add, x, stride, 0.0) / 9.0


def _reduce3(combine, x, stride, beyond):
    """Combine the values of every 3x3 window, axis by axis; `beyond` is the value past the border."""
    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=beyond)
    x = functools.reduce(combine, [x[:, :, j : j + w : stride] for j in range(3)])
    return functools.reduce(combine, [x[:, i : i + h : stride] for i in range(3)])


def max_pool2(x: Array) -> Array:
    """Max-pool 2x2 with stride 2; float [n,H,W,C] -> [n,H//2,W//2,C], an axis of length 1 stays as it is."""
    h, w = x.shape[1:3]
    x = larger(x[:, :, 0 : w - 1 : 2], x[:, :, 1:w:2]) if w > 1 else x
    return larger(x[:, 0 : h - 1 : 2], x[:, 1:h:2]) if h > 1 else x
