"""The convolution of every channel with its own kernel, with derivatives that are written down."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from atnas_jax.types import Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolve every channel with its own kernel: y[p, c] = sum_t x[stride*p + t - size//2, c] * kernel[t, c].

    A sum of shifted images, which is one pass over memory, where a gathered window is as many as it has taps. Reverse
    mode only: that by x is such a convolution again, so that all orders cost and compile alike.

    Args:
        x: float [n,H,W,c].
        kernel: float [s,s,c], s odd.
        stride: 1 or 2.

    Returns:
        float [n,ceil(H/stride),ceil(W/stride),c].
    """
    return functools.reduce(jnp.add, (tap * kernel[at] for at, tap in _taps(x, kernel.shape[0], stride)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_gradient(x: Array, y: Array, size: int, stride: int) -> Array:
    """Return sum_p x[stride*p + t - size//2, c] y[p, c], [size,size,c]: of <depthwise(x, kernel), y> by the kernel.

    Args:
        x: float [n,H,W,c].
        y: float [n,ceil(H/stride),ceil(W/stride),c].
        size: s, odd.
        stride: 1 or 2.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)  # a sum of many bfloat16 numbers is none
    sums = [(tap * y).sum((0, 1, 2), dtype=wide) for _, tap in _taps(x, size, stride)]
    return jnp.stack(sums).reshape(size, size, -1).astype(x.dtype)


def _taps(x: Array, size: int, stride: int) -> list[tuple[tuple[int, int], Array]]:
    """Return ((i, j), what the tap in row i and column j sees at each place), zeros beyond the border."""
    (h, w), pad = x.shape[1:3], size // 2
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return [((i, j), x[:, i : i + h : stride, j : j + w : stride]) for i in range(size) for j in range(size)]


def _by_image(y: Array, kernel: Array, stride: int, shape: tuple[int, ...]) -> Array:
    """Return the derivative of <depthwise(x, kernel), y> by x, of this shape."""
    if stride > 1:
        gaps = [(0, have - stride * (own - 1) - 1, stride - 1) for have, own in zip(shape[1:3], y.shape[1:3])]
        y = lax.pad(y, jnp.zeros((), y.dtype), ((0, 0, 0), *gaps, (0, 0, 0)))
    return depthwise(y, kernel[::-1, ::-1], 1)


def _backward(stride, kept, y):
    x, kernel = kept
    return _by_image(y, kernel, stride, x.shape), depthwise_gradient(x, y, kernel.shape[0], stride)


def _gradient_backward(size, stride, kept, kernel):
    x, y = kept
    return _by_image(y, kernel, stride, x.shape), depthwise(x, kernel, stride)


depthwise.defvjp(lambda x, kernel, stride: (depthwise(x, kernel, stride), (x, kernel)), _backward)
depthwise_gradient.defvjp(lambda x, y, *static: (depthwise_gradient(x, y, *static), (x, y)), _gradient_backward)
