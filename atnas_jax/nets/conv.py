"""How a convolution is computed; every convolution of the package goes through here."""

import functools

import jax
import jax.numpy as jnp

from atnas_jax.nets.lax_conv import conv_lax, lax_unless_batched
from atnas_jax.nets.windows import windows
from atnas_jax.nets.written import conv_written, tall_product
from atnas_jax.types import Array

IMPLEMENTATIONS = ("auto", "mixed", "rows", "patches", "lax")
FEW_CHANNELS = 8  # of the input: below, `patches` is faster than `rows`


def conv(x: Array, kernel: Array, stride: int = 1, dilation: int = 1, implementation: str = "auto") -> Array:
    """Convolve with symmetric padding: y[p] = sum_t x[stride*p + dilation*(t - size//2)] @ kernel[t].

    `patches` gathers the window and does one matrix product, `rows` does one a kernel row; both stay batched products
    when kernels are batched (one set of weights a task). `lax` is XLA's convolution, which becomes a slow grouped one
    there. `auto` is patches, but with windows larger than a pixel and `FEW_CHANNELS` or more: at stride 1 `lax` for one
    kernel and `rows` for batched ones, both with the derivatives of `conv_written`; at stride 2 `lax` for one kernel in
    what nothing differentiates (queries, a body that stays), where it is twice as fast. `mixed` is auto, but in what
    auto takes for stride 1 products, those of the derivatives too, are of bfloat16 numbers and summed in float32
    (Kalamkar et al. 2019, arXiv 1905.12322, section 3), which a CPU with AVX512_BF16 does twice as fast.

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
        return conv_lax(x, kernel, stride, dilation)
    large = implementation in ("auto", "mixed") and size > 1 and c_in >= FEW_CHANNELS
    if stride == 1 and (implementation == "rows" or large):
        return conv_written(x, kernel, dilation, implementation)
    if large:
        return _conv_lax_unless_differentiated(x, kernel, stride, dilation)
    return _conv_patches(x, kernel, stride, dilation)


def _conv_patches(x, kernel, stride, dilation):
    patches, c_out = windows(x, kernel.shape[0], stride, dilation), kernel.shape[-1]
    product = tall_product(patches.reshape(-1, patches.shape[-1]), kernel.reshape(-1, c_out))
    return product.reshape(*patches.shape[:3], c_out)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv_lax_unless_differentiated(x, kernel, stride, dilation):
    return lax_unless_batched(lambda x, k: _conv_patches(x, k, stride, dilation), x, kernel, stride, dilation)


_conv_lax_unless_differentiated.defvjp(
    lambda x, kernel, *static: jax.vjp(lambda x, k: _conv_patches(x, k, *static), x, kernel),
    lambda stride, dilation, pull, y: pull(y),
)


def take_channels(x: Array, channels: int) -> Array:
    """Zero-pad or cut the last axis of x to `channels`."""
    have = x.shape[-1]
    if have >= channels:
        return x[..., :channels]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, channels - have)])


def in_full(name: str) -> str:
    """Return the implementation like `name` that rounds nothing to bfloat16."""
    return "auto" if name == "mixed" else name


def check_implementation(name: str) -> None:
    """Raise ValueError unless `name` is a known implementation of the convolution."""
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"net.conv={name!r} is unknown; choose one of {', '.join(IMPLEMENTATIONS)}")
