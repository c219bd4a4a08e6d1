"""Augmentation on the device: slightly moved copies of support images, to stand in for queries where K = 1."""

import jax
import jax.numpy as jnp

from atnas_jax.types import Array

ROTATION = 10.0  # degrees, either way
SCALE = 0.1  # scale is 1 - SCALE .. 1 + SCALE
SHEAR = 0.1  # pixels a pixel, either way
SHIFT = 2.0  # pixels, either way, along each axis


def pseudo_queries(key: Array, images: Array, copies: int) -> Array:
    """Return randomly moved copies of images, each under its own small affine map, read bilinearly.

    Pixel p of a copy shows the image at A (p - c) + c + t with c the centre, A = scale * rotation * shear and t the
    shift, all uniform in the ranges above; pixels from beyond the frame repeat its edge.

    Args:
        key: consumed.
        images: float32 [S,H,W,C].
        copies: static, at least 1.

    Returns:
        float32 [S*copies,H,W,C]; the copies of image i are rows i*copies .. (i+1)*copies - 1, so their labels are
        `jnp.repeat(labels, copies)`.
    """
    if copies < 1:
        raise ValueError(f"copies={copies}: need at least 1")
    number, height, width, channels = images.shape
    draw = jax.random.uniform(key, (number, copies, 5), minval=-1.0, maxval=1.0)
    angle, scale, shear = jnp.deg2rad(ROTATION) * draw[..., 0], 1 + SCALE * draw[..., 1], SHEAR * draw[..., 2]
    cos, sin = scale * jnp.cos(angle), scale * jnp.sin(angle)
    affine = jnp.stack([cos, cos * shear - sin, sin, sin * shear + cos], -1).reshape(number, copies, 2, 2)
    centre = jnp.array([height - 1, width - 1], jnp.float32) / 2
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1).reshape(-1, 2) - centre
    where = jnp.einsum("scab,pb->scpa", affine, grid) + centre + SHIFT * draw[..., None, 3:]  # [S,copies,H*W,2]
    moved = jax.vmap(_read_bilinear)(images, where.reshape(number, -1, 2))
    return moved.reshape(number * copies, height, width, channels)


def _read_bilinear(image: Array, where: Array) -> Array:
    """Read image [H,W,C] at positions [m,2] (row, column, pixels): [m,C]; beyond the frame the edge repeats."""
    height, width, channels = image.shape
    where = jnp.clip(where, 0.0, jnp.array([height - 1, width - 1], jnp.float32))
    low = jnp.clip(jnp.floor(where), 0, jnp.array([max(height - 2, 0), max(width - 2, 0)])).astype(jnp.int32)
    part = where - low
    down, right = jnp.int32(width if height > 1 else 0), jnp.int32(1 if width > 1 else 0)
    pixels, first = image.reshape(-1, channels), low[:, 0] * width + low[:, 1]

    def read(index: Array) -> Array:
        return pixels.at[index].get(mode="promise_in_bounds")

    y, x = part[:, :1], part[:, 1:]
    top = read(first) * (1 - x) + read(first + right) * x
    return top * (1 - y) + (read(first + down) * (1 - x) + read(first + down + right) * x) * y
