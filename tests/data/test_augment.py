"""Pseudo-queries: small moves, near enough to the image, different in every copy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.ndimage import map_coordinates
from scipy.fft import dctn

from atnas_jax.data import augment


def smooth(number, side=28, channels=1):
    """Return smooth images [n,side,side,channels]: a blob off centre in each."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    blobs = [np.exp(-((y - 0.1 * np.sin(i)) ** 2 + (x - 0.1 * np.cos(i)) ** 2) / 0.02) for i in range(number)]
    return jnp.asarray(np.repeat(np.stack(blobs)[..., None], channels, -1), jnp.float32)


def test_copies_follow_their_image_and_differ():
    images = smooth(4, channels=3)
    moved = jax.jit(augment.pseudo_queries, static_argnums=2)(jax.random.key(0), images, 5)
    assert moved.shape == (20, 28, 28, 3) and moved.dtype == jnp.float32
    distance = jnp.abs(moved[:, None] - images[None]).mean((2, 3, 4))
    assert (distance.argmin(1) == jnp.repeat(jnp.arange(4), 5)).mean() > 0.7
    flat = np.asarray(moved).reshape(20, -1)
    assert min(np.abs(flat[i] - flat[j]).max() for i in range(20) for j in range(i)) > 1e-3
    assert flat.min() >= 0 and flat.max() <= 1


def test_no_move_is_the_identity(monkeypatch):
    for name in ("ROTATION", "SCALE", "SHEAR", "SHIFT"):
        monkeypatch.setattr(augment, name, 0.0)
    images = jax.random.uniform(jax.random.key(1), (3, 9, 7, 2))
    moved = augment.pseudo_queries(jax.random.key(0), images, 2)
    np.testing.assert_allclose(moved, np.repeat(images, 2, 0), atol=1e-6)


def test_reading_agrees_with_an_independent_one():
    image = jax.random.uniform(jax.random.key(0), (11, 8, 1))
    where = jax.random.uniform(jax.random.key(1), (500, 2), minval=-3.0, maxval=13.0)
    inside = jnp.clip(where, 0, jnp.array([10.0, 7.0]))
    want = map_coordinates(image[..., 0], list(inside.T), order=1)
    np.testing.assert_allclose(augment._read_bilinear(image, where)[:, 0], want, atol=1e-5)


def test_moves_stay_within_their_bounds():
    """A point moves by at most the shift plus what rotation, scale and shear do to the corner."""
    side = 29
    ramp = jnp.stack(jnp.meshgrid(jnp.arange(side), jnp.arange(side), indexing="ij"), -1)[None].astype(jnp.float32)
    moved = augment.pseudo_queries(jax.random.key(2), ramp, 400)
    middle = np.asarray(moved)[:, side // 2, side // 2] - side // 2  # the centre moves by the shift alone
    assert np.abs(middle).max() <= 2 + 1e-4 and np.abs(middle).max() > 1.8
    step = np.asarray(moved)[:, side // 2, side // 2 + 1] - np.asarray(moved)[:, side // 2, side // 2]
    assert np.abs(np.linalg.norm(step, axis=1) - 1).max() < 0.24  # (1 + scale) * (1 + shear) = 1.21 at most
    turn = np.degrees(np.arctan2(-step[:, 0], step[:, 1]))
    assert np.abs(turn).max() < 17 and np.abs(turn).max() > 9  # 10 degrees, and the shear


def test_one_pixel_images_and_no_copies():
    assert augment.pseudo_queries(jax.random.key(0), jnp.ones((2, 1, 1, 3)), 2).shape == (4, 1, 1, 3)
    with pytest.raises(ValueError, match="copies=0"):
        augment.pseudo_queries(jax.random.key(0), jnp.ones((2, 4, 4, 1)), 0)


def test_a_warp_of_no_strength_is_the_identity_to_the_bit():
    images = jax.random.uniform(jax.random.key(1), (3, 9, 7, 2))
    np.testing.assert_array_equal(augment.warp(jax.random.key(0), images, 0.0), images)


def moves_of(monkeypatch, strength, still, number=400, side=(12, 8)):
    """Return where the pixels of warped images are read, less where they are, [number,H,W,2], and the sides."""
    for name in still:
        monkeypatch.setattr(augment, name, 0.0)
    monkeypatch.setattr(augment, "_read_bilinear", lambda image, where: where)  # two channels hold the position
    where = augment.warp(jax.random.key(0), jnp.zeros((number, *side, 2)), strength)
    return np.asarray(where) - np.stack(np.mgrid[: side[0], : side[1]], -1), np.array(side)


def test_a_warp_bends_smoothly_and_as_far_as_it_says(monkeypatch):
    """Its displacements have no other cosines than the first ones, and the stated root mean square."""
    moves, side = moves_of(monkeypatch, 1.0, ("ROTATION", "SCALE", "SHEAR"))
    np.testing.assert_allclose(np.sqrt(np.square(moves).mean((0, 1, 2))) / side, augment.BEND, rtol=0.05)
    waves = dctn(moves, axes=(1, 2), norm="ortho")
    assert np.abs(waves[:, : augment.WAVES, : augment.WAVES]).max() > 1
    waves[:, : augment.WAVES, : augment.WAVES] = 0
    np.testing.assert_allclose(waves, 0, atol=1e-4)
    assert np.abs(moves[0] - moves[1]).max() > 0.1
    half, _ = moves_of(monkeypatch, 0.5, ())
    np.testing.assert_allclose(half, moves / 2, atol=1e-5)


def test_a_warp_turns_scales_and_shears_within_its_ranges(monkeypatch):
    moves, side = moves_of(monkeypatch, 1.0, ("BEND",))
    grid = np.stack(np.mgrid[: side[0], : side[1]], -1).reshape(-1, 2) - (side - 1) / 2
    where = (moves.reshape(len(moves), -1, 2) + grid).swapaxes(0, 1).reshape(len(grid), -1)
    maps, left, *_ = np.linalg.lstsq(grid, where)
    np.testing.assert_allclose(left, 0, atol=1e-6)
    maps = maps.reshape(2, -1, 2).transpose(1, 2, 0)  # rotation and shear keep areas
    scale = np.sqrt(np.linalg.det(maps))
    assert np.abs(scale - 1).max() < 0.1 + 1e-4 and np.abs(scale - 1).max() > 0.09
    angle = np.rad2deg(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert 9 < np.abs(angle).max() < 10.01
