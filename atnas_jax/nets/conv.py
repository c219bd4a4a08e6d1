"""How a convolution is computed; every convolution of the package goes through here."""

import jax.numpy as jnp
from jax import lax

from atnas_jax.types import Array

IMPLEMENTATIONS = ("auto", "patches", "lax")


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

    `patches` gathers the window and does one matrix product, which stays one batched product when kernels are
    batched (one set of weights a task); `lax` is XLA's convolution, which becomes a slow grouped one there.

    Args:
        x: float [n,H,W,c].
        kernel: float [s,s,c,d], s odd.
        stride: 1 or 2.
        dilation: distance between the taps.
        implementation: one of `IMPLEMENTATIONS`; auto is patches.

    Returns:
        float [n,ceil(H/stride),ceil(W/stride),d].
    """
    size, _, _, channels = kernel.shape
    if implementation == "lax":
        pad = dilation * (size // 2)
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((pad, pad), (pad, pad)),
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
    patches = windows(x, size, stride, dilation)
    return (patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, channels)).reshape(*patches.shape[:3], channels)


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
