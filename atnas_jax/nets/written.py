"""Convolutions at stride 1 whose derivatives are written down, which makes all orders run on two products."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from atnas_jax.nets.lax_conv import lax_unless_batched
from atnas_jax.nets.windows import columns, in_halves, shift_rows
from atnas_jax.types import Array

# Numbers that a CPU gathers at a time, for each set of weights: 2.4 MB of float32, more do not stay in a core's caches.
CACHED = 600_000


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv_written(x: Array, kernel: Array, dilation: int, implementation: str) -> Array:
    """Convolve at stride 1, reverse mode only, with derivatives that are written down.

    That by x is a convolution with the turned kernel, that by the kernel is `kernel_gradient`, and the derivatives of
    the latter are convolutions again: all orders run on these two and cost the same. XLA's own derivative by the kernel
    is slow on a CPU, and pads and dilates.

    Args:
        x: float [n,H,W,c].
        kernel: float [s,s,c,d], s odd.
        dilation: distance between the taps.
        implementation: "rows"; "auto" for XLA's convolution unless kernels are batched; "mixed" for products of
            bfloat16 numbers whose sums are float32.

    Returns:
        float [n,H,W,d].
    """
    if implementation == "rows":
        return _rows(x, kernel, dilation)
    halves = implementation == "mixed"
    by_rows = functools.partial(_rows, dilation=dilation, halves=halves)
    by_xla = functools.partial(lax_unless_batched, by_rows, stride=1, dilation=dilation, halves=halves)
    if not halves:
        return by_xla(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=functools.partial(_map_chunks, by_rows), default=by_xla)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def kernel_gradient(x: Array, y: Array, size: int, dilation: int, implementation: str) -> Array:
    """Return sum_p x[p + dilation*(t - size//2)] y[p]^T, [size,size,c,d]; x [n,H,W,c], y [n,H,W,d].

    It is the derivative of <conv(x, kernel), y> by the kernel, linear in both; `implementation` is that of its own
    derivatives, and "mixed" that of its products too.
    """

    def product(x, y, hold=lambda turned: turned):
        summed = _sum(x, y, size, dilation, implementation == "mixed", hold)
        return summed.astype(jnp.promote_types(x.dtype, jnp.float32))

    turning = functools.partial(product, hold=_as_written)
    summed = lax.platform_dependent(x, y, cpu=functools.partial(_sum_chunks, turning, size), default=product)
    return summed.reshape(size, y.shape[-1], size, x.shape[-1]).transpose(0, 2, 3, 1).astype(x.dtype)


def turn(kernel: Array) -> Array:
    """Return the kernel of the transposed convolution, [s,s,c,d] -> [s,s,d,c]."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _written_backward(dilation, implementation, kept, y):
    x, kernel = kept
    by_kernel = kernel_gradient(x, y, kernel.shape[0], dilation, implementation)
    return conv_written(y, turn(kernel), dilation, implementation), by_kernel


def _gradient_backward(size, dilation, implementation, kept, kernel):
    x, y = kept
    by_x = conv_written(y, turn(kernel), dilation, implementation)
    return by_x, conv_written(x, kernel, dilation, implementation)


conv_written.defvjp(lambda x, kernel, *static: (conv_written(x, kernel, *static), (x, kernel)), _written_backward)
kernel_gradient.defvjp(lambda x, y, *static: (kernel_gradient(x, y, *static), (x, y)), _gradient_backward)


@jax.custom_vjp
def tall_product(a: Array, b: Array) -> Array:
    """Return a @ b, float [m,k] and [k,n] -> [m,n], reverse mode only, for m far above k and n.

    The derivative by b is a sum over m, which a CPU takes 2.4 times as long for if its result has more rows than
    columns, and XLA turns results as it likes. Elsewhere to turn so small a result costs nothing.
    """
    return a @ b


def _over_rows(a: Array, y: Array) -> Array:
    """Return a^T y, float [m,k] and [m,n] -> [k,n]."""
    return a.T @ y if a.shape[1] <= y.shape[1] else lax.optimization_barrier(y.T @ a).T


tall_product.defvjp(lambda a, b: (a @ b, (a, b)), lambda kept, y: (y @ kept[1].T, _over_rows(kept[0], y)))


def _rows(x: Array, kernel: Array, dilation: int, halves: bool = False) -> Array:
    """One matrix product a kernel row: y[r] = sum_i (columns(x) @ kernel[i])[r + shift_i].

    Gathering along columns alone makes arrays `size` times smaller than patches, which a cache may hold.
    """
    size, _, _, c_out = kernel.shape
    gather = functools.partial(columns, size=size, dilation=dilation)
    gathered = in_halves(gather, x) if halves else gather(x)
    flat, product = gathered.reshape(-1, gathered.shape[-1]), _half_product if halves else jnp.matmul
    rows = [product(flat, row.reshape(-1, c_out)).reshape(*x.shape[:3], c_out) for row in kernel]
    return sum(shift_rows(row, dilation * (i - size // 2)) for i, row in enumerate(rows)).astype(x.dtype)


def _sum(x: Array, y: Array, size: int, dilation: int, halves: bool, hold: Callable[[Array], Array]) -> Array:
    """Return `kernel_gradient` as [size*d,size*c], y shifted along rows times x gathered along columns.

    y is turned before it is shifted, and `hold` may keep the compiler from leaving that to the product or the shifts:
    on a CPU the product then takes up to 1.7 times as long, the shifts 2.6 times.
    """
    gather = functools.partial(columns, size=size, dilation=dilation)
    gathered = in_halves(gather, x) if halves else gather(x)
    turned = hold((y.astype(jnp.bfloat16) if halves else y).transpose(3, 0, 1, 2))
    shifted = jnp.concatenate([shift_rows(turned, -dilation * (i - size // 2), axis=2) for i in range(size)])
    flat, wide = gathered.reshape(-1, gathered.shape[-1]), jnp.promote_types(x.dtype, jnp.float32)
    shifted = shifted.reshape(-1, len(flat))
    return _half_product(shifted, flat) if halves else jnp.matmul(shifted, flat, preferred_element_type=wide)


def _as_written(x: Array) -> Array:
    """Return x, which XLA then lays out in memory in the order of its axes, where it would call turning a layout."""
    return lax.optimization_barrier(with_layout_constraint(x, Layout(tuple(range(x.ndim)))))


def _half_product(a: Array, b: Array) -> Array:
    """Return a @ b of bfloat16 numbers, summed in float32."""
    return jnp.matmul(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


def _chunk(x: Array, gathered: int) -> tuple[int, int]:
    """Return how many chunks of how many images there are, where `gathered` numbers are gathered at every place."""
    n, h, w, _ = x.shape
    turns = -(-n * h * w * gathered // CACHED)
    images = max(1, -(-n // max(min(turns, n), 1)))
    return -(-n // images), images


def _map_chunks(f: Callable[[Array, Array], Array], x: Array, kernel: Array) -> Array:
    """Return f(x, kernel), a few images at a time; the last chunk overlaps the one before."""
    turns, images = _chunk(x, kernel.shape[0] * (x.shape[-1] + kernel.shape[-1]))
    if turns == 1:
        return f(x, kernel)

    def some(at, found):
        first = jnp.minimum(at * images, len(x) - images)
        part = f(lax.dynamic_slice_in_dim(x, first, images), kernel)
        return lax.dynamic_update_slice_in_dim(found, part, first, 0)

    return lax.fori_loop(0, turns, some, jnp.zeros((*x.shape[:3], kernel.shape[-1]), x.dtype))


def _sum_chunks(f: Callable[[Array, Array], Array], size: int, x: Array, y: Array) -> Array:
    """Return f(x, y), a sum over images, a few of them at a time."""
    turns, images = _chunk(x, size * (x.shape[-1] + y.shape[-1]))
    if turns == 1:
        return f(x, y)

    def some(at, total):
        return total + f(*(lax.dynamic_slice_in_dim(part, at * images, images) for part in (x, y)))

    (whole, rest), wide = divmod(len(x), images), jnp.promote_types(x.dtype, jnp.float32)
    total = lax.fori_loop(0, whole, some, jnp.zeros((size * y.shape[-1], size * x.shape[-1]), wide))
    return total + f(x[-rest:], y[-rest:]) if rest else total
