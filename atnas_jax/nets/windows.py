"""What the window of a convolution sees at each place: the gathering that makes it a matrix product."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from atnas_jax.types import Array


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


def columns(x: Array, size: int, dilation: int) -> Array:
    """Gather the window along columns alone, zeros beyond the border; [n,H,W,c] -> [n,H,W,size*c]."""
    pad, w = dilation * (size // 2), x.shape[2]
    x = jnp.pad(x, ((0, 0), (0, 0), (pad, pad), (0, 0)))
    return jnp.concatenate([x[:, :, dilation * j : dilation * j + w] for j in range(size)], -1)


def shift_rows(x: Array, by: int, axis: int = 1) -> Array:
    """Return x [n,H,W,C] with row r + by at row r, zeros beyond the border; `axis` is that of the rows."""
    if by == 0:
        return x
    rows = x.shape[axis]
    by = max(-rows, min(by, rows))
    kept = lax.slice_in_dim(x, max(by, 0), rows + min(by, 0), axis=axis)
    padding = [(0, 0)] * x.ndim
    padding[axis] = (max(-by, 0), max(by, 0))
    return jnp.pad(kept, padding)


def in_halves(gather: Callable[[Array], Array], x: Array) -> Array:
    """Return gather(x) of x as bfloat16, where `gather` moves and joins whole rows of the last axis, and no more.

    They move in pairs, since a CPU moves numbers of 32 bits twice as fast as those of 16.
    """
    x = x.astype(jnp.bfloat16)
    if x.shape[-1] % 2:
        return gather(x)
    gathered = gather(lax.bitcast_convert_type(x.reshape(*x.shape[:-1], -1, 2), jnp.uint32))
    return lax.bitcast_convert_type(gathered, jnp.bfloat16).reshape(*gathered.shape[:-1], -1)
