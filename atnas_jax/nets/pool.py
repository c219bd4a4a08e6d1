"""Pooling; the gradient of max-pooling is one that XLA:CPU compiles correctly."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

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
    """Max-pool 2x2 with stride 2; float [n,H,W,C] -> [n,H//2,W//2,C], an axis of length 1 stays as it is.

    Its derivative sends all to the winners, whose places are kept, one byte each: the compiler's own keeps a mask a
    comparison and adds up padded arrays.
    """
    return _max_pool2(x, x.shape[1:3])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool2(x, shape):
    return functools.reduce(larger, corners(x))


def corners(x: Array) -> list[Array]:
    """Return what stands at each place of the 2x2 windows, row by row; [n,H,W,C] -> 4 or fewer of [n,H//2,W//2,C]."""
    h, w = x.shape[1:3]
    rows = [x[:, i : h - 1 + i : 2] for i in range(2)] if h > 1 else [x]
    return [row[:, :, j : w - 1 + j : 2] if w > 1 else row for row in rows for j in range(min(w, 2))]


def winners(x: Array) -> Array:
    """Return at which place of its window the maximum stands, as `larger` picks it; int8 [n,H//2,W//2,C]."""
    best, *others = corners(x)
    at = jnp.zeros(best.shape, jnp.int8)
    for place_of, other in enumerate(others, 1):
        stays = (best >= other) | jnp.isnan(best)
        best, at = jnp.where(stays, best, other), jnp.where(stays, at, jnp.int8(place_of))
    return lax.optimization_barrier(at)  # or XLA would look for the winners again in every fusion that asks for them


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def pick(x: Array, at: Array, shape: tuple[int, int]) -> Array:
    """Return the values at these places of the windows, float [n,H//2,W//2,C]; shape (H, W). See `place`."""
    picked, *others = corners(x)
    for place_of, other in enumerate(others, 1):
        picked = jnp.where(at == place_of, other, picked)
    return picked


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def place(y: Array, at: Array, shape: tuple[int, int]) -> Array:
    """Return [n,H,W,C], zero but for y at these places of the windows; shape (H, W). Derivative of `pick`."""
    (h, w), (n, rows, columns, c) = shape, y.shape
    down, right = min(h, 2), min(w, 2)
    places = jnp.arange(down * right, dtype=jnp.int8).reshape(down, 1, right, 1)
    spread = jnp.where(at[:, :, None, :, None] == places, y[:, :, None, :, None], 0.0)
    spread = spread.reshape(n, rows * down, columns * right, c)
    return jnp.pad(spread, ((0, 0), (0, h - rows * down), (0, w - columns * right), (0, 0)))


def _max_pool2_forward(x, shape):
    at = winners(lax.stop_gradient(x))
    return lax.optimization_barrier(pick(x, at, shape)), at


_max_pool2.defvjp(_max_pool2_forward, lambda shape, at, y: (place(y, at, shape),))
pick.defvjp(lambda x, at, shape: (pick(x, at, shape), at), lambda shape, at, y: (place(y, at, shape), None))
place.defvjp(lambda y, at, shape: (place(y, at, shape), at), lambda shape, at, x: (pick(x, at, shape), None))
