"""Random smooth warps and colours of glyph masks, in numpy, vectorised over images.

Output pixel p of image i shows the mask at u(p) = A_i p + t_i + d_i(p): a random affine map and a random displacement
d_i, a cubic B-spline surface on a grid of 4 x 4 spans. The warped ink is then measured and the window of p is fitted to
it, so no ink is cut at the frame. Coordinates of the mask and of the canonical window are -1..1.
"""

import numpy as np

SPANS = 4  # spans of the spline grid per axis
REACH = 1.7  # half-width of the window in which warped ink is looked for
_PROBE = 36  # samples per axis of that search


def warp(rng: np.random.Generator, masks: np.ndarray, which: np.ndarray, strength: float, side: int) -> np.ndarray:
    """Warp masks[which] at random.

    Args:
        rng: advanced.
        masks: uint8 [m,M,M], ink 255.
        which: int [n], the mask of each image.
        strength: 0 keeps the mask but for its fit, 1 is the usual warp.
        side: of the output.

    Returns:
        float32 [n,side,side] in 0..1; the longer side of the ink fills 22/28 of the frame.
    """
    number = len(which)
    angle, shear = (strength * rng.normal(0, s, number) for s in (0.20, 0.135))
    stretch = np.exp(strength * rng.normal(0, 0.12, number))
    cos, sin = np.cos(angle), np.sin(angle)
    affine = np.stack([cos * stretch, sin + shear, -sin, cos / stretch], -1).reshape(number, 2, 2).astype(np.float32)
    control = (strength * rng.normal(0, 0.235, (number, SPANS + 3, SPANS + 3, 2))).astype(np.float32)
    smooth = _box_blur(masks)
    probe = np.broadcast_to(np.linspace(-REACH, REACH, _PROBE, dtype=np.float32), (number, 2, _PROBE))
    seen = _sample(smooth, which, _map(probe, affine, control)) > 0.2
    pixel = (np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1
    window = _window(seen)  # centre and half-width of the ink, [n,2], [n]
    half = np.maximum(window[1] * 28 / 22, 0.3)
    axes = window[0][:, :, None] + half[:, None, None] * pixel
    return _sample(smooth, which, _map(axes.astype(np.float32), affine, control))


def colour(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """Paint ink float32 [n,H,W] in random colours that tell nothing of the class.

    Ink and ground each run linearly between two near colours; the two differ by at least 0.45 in brightness-weighted
    distance, on either side, and there is a little noise.

    Returns:
        uint8 [n,H,W,3].
    """
    number, side = ink.shape[:2]
    weight = np.array([0.54, 0.77, 0.34], np.float32)  # square roots of the Rec. 601 luma weights
    ground = rng.random((number, 3)).astype(np.float32)
    ink_colour = rng.random((number, 3)).astype(np.float32)
    near = np.linalg.norm((ground - ink_colour) * weight, axis=-1) < 0.45
    ink_colour[near] = np.where(ground[near] > 0.5, ground[near] - 0.5, ground[near] + 0.5)
    line = np.linspace(-1, 1, side, dtype=np.float32)
    layers = []
    for base in (ground, ink_colour):
        tilt = rng.normal(0, 0.06, (2, number, 1, 1, 3)).astype(np.float32)
        layers.append(base[:, None, None] + tilt[0] * line[:, None, None] + tilt[1] * line[None, :, None])
    noise = rng.normal(0, 0.03, (*ink.shape, 3)).astype(np.float32)
    mixed = layers[0] + ink[..., None] * (layers[1] - layers[0]) + noise
    return np.round(np.clip(mixed, 0, 1) * 255).astype(np.uint8)


def _box_blur(masks: np.ndarray) -> np.ndarray:
    """Average 2 x 2 pixels without losing any: float32 [m,M+1,M+1] in 0..1, against aliasing at half the resolution."""
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1))).astype(np.float32)
    return (padded[:, 1:, 1:] + padded[:, 1:, :-1] + padded[:, :-1, 1:] + padded[:, :-1, :-1]) / (4 * 255)


def _basis(position: np.ndarray) -> np.ndarray:
    """Return the uniform cubic B-spline basis at positions [...] in -REACH..REACH: float32 [...,SPANS+3]."""
    x = (np.clip(position, -REACH, REACH) + REACH) * (SPANS / (2 * REACH))
    distance = np.abs(x[..., None] + 1 - np.arange(SPANS + 3, dtype=np.float32))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)


def _map(axes: np.ndarray, affine: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Return u(p) float32 [n,k,k,2] (y, x) on the grid axes[:,0] x axes[:,1], axes float32 [n,2,k]."""
    basis = _basis(axes)  # [n,2,k,b]
    number, spans, k = len(axes), SPANS + 3, axes.shape[-1]
    rows = np.matmul(basis[:, 0], control.reshape(number, spans, spans * 2)).reshape(number, k, spans, 2)
    shift = np.stack([np.matmul(rows[..., c], basis[:, 1].transpose(0, 2, 1)) for c in (0, 1)], -1)
    y, x = axes[:, 0, :, None, None], axes[:, 1, None, :, None]
    return y * affine[:, None, None, :, 0] + x * affine[:, None, None, :, 1] + shift


def _sample(smooth: np.ndarray, which: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Read the masks bilinearly at `where` float32 [n,k,k,2]; 0 outside."""
    side = smooth.shape[-1]
    at = (where + 1) * ((side - 1) / 2)
    at = np.clip(at, 0, side - 1.001)  # the rim of a mask holds no ink
    low = at.astype(np.int32)
    part = at - low
    flat = smooth.reshape(-1)
    index = which[:, None, None] * side * side + low[..., 0] * side + low[..., 1]
    top = flat[index] * (1 - part[..., 1]) + flat[index + 1] * part[..., 1]
    bottom = flat[index + side] * (1 - part[..., 1]) + flat[index + side + 1] * part[..., 1]
    return top * (1 - part[..., 0]) + bottom * part[..., 0]


def _window(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre [n,2] and half-width [n] of the square around the ink in probes bool [n,_PROBE,_PROBE]."""
    centre, half = [], []
    line = np.linspace(-REACH, REACH, _PROBE, dtype=np.float32)
    for axis in (2, 1):  # rows, then columns
        hit = seen.any(axis)
        low, high = line[hit.argmax(1)], line[_PROBE - 1 - hit[:, ::-1].argmax(1)]
        centre.append((low + high) / 2)
        half.append((high - low) / 2 + REACH / _PROBE)
    return np.stack(centre, -1), np.maximum(*half)
