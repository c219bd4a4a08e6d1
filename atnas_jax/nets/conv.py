"""How a convolution is computed; every convolution of the package goes through here."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from atnas_jax.types import Array

IMPLEMENTATIONS = ("auto", "rows", "patches", "lax")
FEW_CHANNELS = 8  # of the input: below, `patches` is faster than `rows`


def windows(x: Array, size: int, stride: int, dilation: int = 1) -> Array:
    """Gather the window around every output position, first along columns, then along rows.

    Symmetric zero padding of `dilation * (size // 2)`, so there are ceil(H/stride) rows. Going axis by axis takes
    2*size slices instead of size**2, which a supernet of many ops feels in its compile time.

    Args:
        x: float [n,H,W,C].
        size: odd window length.
        stride: 1 or 2.
        dilation: distance between the taps.

    Returns:
        [n,ceil(H/stride),ceil(W/stride),size*size*C], taps row by row.
    """
    h, w = x.shape[1:3]
    if size == 1:
        return x[:, ::stride, ::stride]
    pad = dilation * (size // 2)
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    taps = [dilation * i for i in range(size)]
    x = jnp.concatenate([x[:, :, j : j + w : stride] for j in taps], -1)
    return jnp.concatenate([x[:, i : i + h : stride] for i in taps], -1)


def conv(x: Array, kernel: Array, stride: int = 1, dilation: int = 1, implementation: str = "auto") -> Array:
    """Convolve with symmetric padding: y[p] = sum_t x[stride*p + dilation*(t - size//2)] @ kernel[t].

    `patches` gathers the window and does one matrix product, `rows` does one a kernel row; both stay batched products
    when kernels are batched (one set of weights a task). `lax` is XLA's convolution, which becomes a slow grouped one
    there. `auto` is patches, but with windows larger than a pixel and `FEW_CHANNELS` or more: at stride 1 `lax` for one
    kernel and `rows` for batched ones, both with the derivatives of `conv_written`; at stride 2 `lax` for one kernel in
    what nothing differentiates (queries, a body that stays), where it is twice as fast.

    Args:
        x: float [n,H,W,c].
        kernel: float [s,s,c,d], s odd.
        stride: 1 or 2.
        dilation: distance between the taps.
        implementation: one of `IMPLEMENTATIONS`; "rows" at stride 1 alone, elsewhere it is patches.

    Returns:
        float [n,ceil(H/stride),ceil(W/stride),d].
    """
    size, _, c_in, _ = kernel.shape
    if implementation == "lax":
        return _conv_lax(x, kernel, stride, dilation)
    suits_lax = implementation == "auto" and size > 1 and c_in >= FEW_CHANNELS
    if stride == 1 and (implementation == "rows" or suits_lax):
        return conv_written(x, kernel, dilation, implementation)
    if suits_lax:
        return _conv_lax_unless_differentiated(x, kernel, stride, dilation)
    return _conv_patches(x, kernel, stride, dilation)


def _conv_patches(x, kernel, stride, dilation):
    patches, c_out = windows(x, kernel.shape[0], stride, dilation), kernel.shape[-1]
    return (patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, c_out)).reshape(*patches.shape[:3], c_out)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv_lax_unless_differentiated(x, kernel, stride, dilation):
    return _lax_unless_batched(lambda x, k: _conv_patches(x, k, stride, dilation), x, kernel, stride, dilation)


_conv_lax_unless_differentiated.defvjp(
    lambda x, kernel, *static: jax.vjp(lambda x, k: _conv_patches(x, k, *static), x, kernel),
    lambda stride, dilation, pull, y: pull(y),
)


def _conv_lax(x, kernel, stride, dilation):
    pad = dilation * (kernel.shape[0] // 2)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _conv_rows(x, kernel, dilation):
    """One matrix product a kernel row: y[r] = sum_i (columns(x) @ kernel[i])[r + shift_i].

    Gathering along columns alone makes arrays `size` times smaller than patches, which a cache may hold.
    """
    size, _, _, c_out = kernel.shape
    gathered = columns(x, size, dilation)
    flat = gathered.reshape(-1, gathered.shape[-1])
    rows = [(flat @ row.reshape(-1, c_out)).reshape(*x.shape[:3], c_out) for row in kernel]
    return sum(shift_rows(row, dilation * (i - size // 2)) for i, row in enumerate(rows))


def _lax_unless_batched(batched_conv, x, kernel, stride, dilation):
    """`_conv_lax` of one kernel; under a vmap over kernels `batched_conv(x, kernel)`, vmapped."""

    @jax.custom_batching.custom_vmap
    def run(x, kernel):
        return _conv_lax(x, kernel, stride, dilation)

    @run.def_vmap
    def _(size, batched, x, kernel):
        if batched[1]:
            return jax.vmap(batched_conv, (0 if batched[0] else None, 0))(x, kernel), True
        y = _lax_unless_batched(batched_conv, x.reshape(-1, *x.shape[2:]), kernel, stride, dilation)
        return y.reshape(*x.shape[:2], *y.shape[1:]), True

    return run(x, kernel)


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
        implementation: "rows", or "auto" for XLA's convolution unless kernels are batched.

    Returns:
        float [n,H,W,d].
    """
    if implementation == "rows":
        return _conv_rows(x, kernel, dilation)
    return _lax_unless_batched(lambda x, k: _conv_rows(x, k, dilation), x, kernel, 1, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def kernel_gradient(x: Array, y: Array, size: int, dilation: int, implementation: str) -> Array:
    """Return sum_p x[p + dilation*(t - size//2)] y[p]^T, [size,size,c,d]; x [n,H,W,c], y [n,H,W,d].

    It is the derivative of <conv(x, kernel), y> by the kernel, linear in both; `implementation` is that of its own
    derivatives.
    """
    gathered = columns(x, size, dilation)
    shifted = jnp.concatenate([shift_rows(y, -dilation * (i - size // 2)) for i in range(size)], -1)
    product = shifted.reshape(-1, shifted.shape[-1]).T @ gathered.reshape(-1, gathered.shape[-1])
    return product.reshape(size, y.shape[-1], size, x.shape[-1]).transpose(0, 2, 3, 1)


def columns(x: Array, size: int, dilation: int) -> Array:
    """Gather the window along columns alone, zeros beyond the border; [n,H,W,c] -> [n,H,W,size*c]."""
    pad, w = dilation * (size // 2), x.shape[2]
    x = jnp.pad(x, ((0, 0), (0, 0), (pad, pad), (0, 0)))
    return jnp.concatenate([x[:, :, dilation * j : dilation * j + w] for j in range(size)], -1)


def shift_rows(x: Array, by: int) -> Array:
    """Return x [n,H,W,C] with row r + by at row r, zeros beyond the border."""
    if by == 0:
        return x
    by = max(-x.shape[1], min(by, x.shape[1]))
    kept = x[:, by:] if by > 0 else x[:, :by]
    return jnp.pad(kept, ((0, 0), (max(-by, 0), max(by, 0)), (0, 0), (0, 0)))


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


def depthwise(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolve every channel with its own kernel: y[p, c] = sum_t x[stride*p + t - size//2, c] * kernel[t, c].

    Args:
        x: float [n,H,W,c].
        kernel: float [s,s,c], s odd.
        stride: 1 or 2.

    Returns:
        float [n,ceil(H/stride),ceil(W/stride),c].
    """
    size, _, channels = kernel.shape
    patches = windows(x, size, stride)
    return (patches.reshape(*patches.shape[:3], size * size, channels) * kernel.reshape(-1, channels)).sum(-2)


def take_channels(x: Array, channels: int) -> Array:
    """Zero-pad or cut the last axis of x to `channels`."""
    have = x.shape[-1]
    if have >= channels:
        return x[..., :channels]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, channels - have)])


def check_implementation(name: str) -> None:
    """Raise ValueError unless `name` is a known implementation of the convolution."""
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"net.conv={name!r} is unknown; choose one of {', '.join(IMPLEMENTATIONS)}")
