"""Augmentation on the device: moved copies of support images in place of queries where K = 1, and warps in training."""

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.types import Array

ROTATION = 10.0  # degrees, either way
SCALE = 0.1  # scale is 1 - SCALE .. 1 + SCALE
SHEAR = 0.1  # pixels a pixel, either way
SHIFT = 2.0  # pixels, either way, along each axis
WAVES = 4  # cosines along each axis that make up a smooth displacement
BEND = 0.04  # root mean square of a smooth displacement along each axis, as a share of the side


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
    grid, centre = _grid(height, width)
    where = jnp.einsum("scab,pb->scpa", _affine(draw), grid) + centre + SHIFT * draw[..., None, 3:]  # [S,copies,H*W,2]
    moved = jax.vmap(_read_bilinear)(images, where.reshape(number, -1, 2))
    return moved.reshape(number * copies, height, width, channels)


def warp(key: Array, images: Array, strength: float) -> Array:
    """Return images, each under its own small affine map and smooth displacement, read bilinearly.

    Pixel p shows the image at A (p - c) + c + u(p): A as in `pseudo_queries` with its ranges times `strength`, and
    u(p) = sum_ab w_ab cos(pi a (y + 1/2) / H) cos(pi b (x + 1/2) / W), a, b < `WAVES`, with normal weights of variance
    proportional to 1 / (1 + a^2 + b^2)^2: an elastic distortion (Simard et al. 2003, section 2) that is smooth by
    construction. Pixels from beyond the frame repeat its edge.

    Args:
        key: consumed.
        images: float32 [n,H,W,C].
        strength: 0 returns the images as they are; at 1 a pixel moves by `BEND` of the side, root mean square, and by
            the affine map.
    """
    number, height, width, _ = images.shape
    affine_key, bend_key = jax.random.split(key)
    grid, centre = _grid(height, width)
    waves, spread = _waves(height, width)
    affine = _affine(strength * jax.random.uniform(affine_key, (number, 3), minval=-1.0, maxval=1.0)) - jnp.eye(2)
    sides = jnp.array([[height], [width]], jnp.float32)
    bend = strength * BEND * sides * spread * jax.random.normal(bend_key, (number, 2, len(waves)))
    # One matrix product for all displacements: on a CPU as cheap as reading the pixels.
    moves = jnp.matmul(
        jnp.concatenate([affine, bend], -1), jnp.concatenate([grid.T, waves]), precision=jax.lax.Precision.HIGHEST
    )
    where = (grid + centre) + jnp.swapaxes(moves, 1, 2)
    return jax.vmap(_read_bilinear)(images, where).reshape(images.shape)


def _grid(height: int, width: int) -> tuple[Array, Array]:
    """Return the pixels' positions relative to the centre, float32 [H*W,2] (row, column), and the centre [2]."""
    centre = jnp.array([height - 1, width - 1], jnp.float32) / 2
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1)
    return grid.reshape(-1, 2) - centre, centre


def _affine(draw: Array) -> Array:
    """Return scale * rotation * shear [...,2,2] of draws [...,3+] in -1..1."""
    angle, scale, shear = jnp.deg2rad(ROTATION) * draw[..., 0], 1 + SCALE * draw[..., 1], SHEAR * draw[..., 2]
    cos, sin = scale * jnp.cos(angle), scale * jnp.sin(angle)
    return jnp.stack([cos, cos * shear - sin, sin, sin * shear + cos], -1).reshape(*draw.shape[:-1], 2, 2)


def _waves(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cos(pi a (y + 1/2) / H) cos(pi b (x + 1/2) / W) at every pixel, float32 [WAVES**2,H*W], and the deviations
    [WAVES**2] of their weights that make sums of mean square 1.
    """
    rows, columns = (np.cos(np.pi * np.outer(np.arange(WAVES), (np.arange(n) + 0.5) / n)) for n in (height, width))
    waves = (rows[:, None, :, None] * columns[None, :, None, :]).reshape(WAVES**2, -1)
    squares = np.square(np.arange(WAVES))
    spread = 1.0 / (1 + squares[:, None] + squares).reshape(-1)
    spread /= np.sqrt((np.square(spread) * np.square(waves).mean(1)).sum())
    return waves.astype(np.float32), spread.astype(np.float32)


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
