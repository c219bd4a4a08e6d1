"""Episodes drawn on the device from a class table, from keys alone.

An episode of N ways draws N distinct classes, in random order (so which class gets which label is random), and from
each class K + Q/N distinct images: the first K are support, the rest queries. Everything is jittable with a static
`EpisodeSpec`; `check_episode_spec` in `spec.py` is the host's check that the draw is possible.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from atnas_jax.data.augment import warp
from atnas_jax.data.spec import EpisodeSpec
from atnas_jax.data.table import ClassTable, split_classes
from atnas_jax.devices import Axis, map_rows
from atnas_jax.rng import stream
from atnas_jax.types import Array, Episode

Normalise = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation per channel, of x/255
RAW: Normalise = ((0.0,), (1.0,))
DRAWN = 5  # episodes that `drawn_until` draws together


def sample_episode(
    key: Array,
    table: ClassTable,
    classes: Array,
    spec: EpisodeSpec,
    normalise: Normalise = RAW,
    among: Array | None = None,
) -> Episode:
    """Draw one episode from `classes`.

    Args:
        key: consumed.
        table: the images.
        classes: int32 [c], the class ids to draw from, as in `table.meta_train`.
        spec: static.
        normalise: static (mean, std) per channel; images become (x/255 - mean) / std.
        among: int32 [], of how many classes, the first ones, to draw; it may be traced. None: of all.

    Returns:
        An `Episode`; support and queries are laid out class by class and share no image.

    Raises:
        ValueError: fewer classes than ways, or rotations of images that are not square.
    """
    choices = classes.shape[0] * spec.classes_of_one
    height, width = table.images.shape[1:3]
    if spec.ways > choices:
        raise ValueError(f"ways={spec.ways} but only {choices} classes to draw from: type a smaller ways")
    if spec.rotations and height != width:
        raise ValueError(f"rotations need square images, these are {height}x{width}: turn rotations off")
    class_key, item_key, flip_key = jax.random.split(key, 3)
    there = jnp.int32(choices) if among is None else among * spec.classes_of_one
    drawn = _draw_distinct(class_key, there, spec.ways)
    ids, view = classes[drawn // spec.classes_of_one], drawn % spec.classes_of_one
    if spec.alike:
        view = jnp.broadcast_to(jax.random.randint(stream(key, "view"), (), 0, spec.views), view.shape)
    start, size = table.offsets[ids], table.offsets[ids + 1] - table.offsets[ids]
    per_class = spec.shots + spec.queries
    items = start[:, None] + _draw_distinct(item_key, size, per_class)  # [N,K+Q/N]
    images = table.images.at[items].get(mode="promise_in_bounds")  # uint8 [N,K+Q/N,H,W,C]
    if spec.rotations:
        images = _rotate(images, view % 4)
    if spec.mirrors:
        images = _mirror(images, view >= spec.views // 2)
    if spec.flip:
        images = _mirror(images, jax.random.bernoulli(flip_key, shape=items.shape))
    support, query = (
        _to_float(part.reshape(-1, *images.shape[2:]), normalise)
        for part in (images[:, : spec.shots], images[:, spec.shots :])
    )
    if spec.warp:
        support = warp(stream(key, "warp support"), support, spec.warp)
        query = warp(stream(key, "warp query"), query, spec.warp)
    labels = jnp.arange(spec.ways, dtype=jnp.int32)
    return Episode(support, jnp.repeat(labels, spec.shots), query, jnp.repeat(labels, spec.queries))


def sample_episodes(
    key: Array,
    table: ClassTable,
    classes: Array,
    spec: EpisodeSpec,
    number: int,
    normalise: Normalise = RAW,
    axis: Axis | None = None,
    among: Array | None = None,
) -> Episode:
    """Draw `number` independent episodes; every field of the result has a leading T = number.

    Warps take time, so the devices of the mapped `axis` share them, see `devices.py`; the rest each does alone.
    """
    keys = jax.random.split(key, number)

    def one(key):
        return sample_episode(key, table, classes, spec, normalise, among)

    return map_rows(one, keys, axis=axis) if spec.warp else jax.vmap(one)(keys)


def repeated(episodes: Episode, times: int) -> Episode:
    """Return episodes with a leading T * times: each as often, one copy after the other."""
    return episodes if times == 1 else jax.tree.map(lambda x: jnp.repeat(x, times, axis=0), episodes)


def fixed_episodes(
    fingerprint: str,
    split: str,
    seed: int,
    index: Array,
    table: ClassTable,
    spec: EpisodeSpec,
    normalise: Normalise = RAW,
    rotations: bool = False,
) -> Episode:
    """Return evaluation episodes, a pure function of (fingerprint, split, seed, index) and of the spec's N, K and Q.

    Args:
        fingerprint: `DataSet.fingerprint` (static).
        split: one of `SPLITS` (static).
        seed: of the evaluation, not of the run (static).
        index: int32 [T], which episodes; any chunking of the indices gives the same episodes.
        table: the images.
        spec: static; but for N, K and Q it is for training and ignored here.
        normalise: static (mean, std) per channel.
        rotations: whether rotated classes take part, as in MAML's own test code; no by default.

    Returns:
        An `Episode` with a leading T.
    """
    root = stream(jax.random.key(seed, impl="threefry2x32"), "evaluation", fingerprint, split)
    spec = EpisodeSpec(spec.ways, spec.shots, spec.queries, rotations)
    classes = split_classes(table, split)
    return jax.vmap(lambda i: sample_episode(jax.random.fold_in(root, i), table, classes, spec, normalise))(
        jnp.asarray(index, jnp.int32)
    )


def drawn_until(draw: Callable[[Array], Episode], number: int, last: Array) -> Episode:
    """Return the episodes draw(0 .. number - 1), of which only those before `last` are sure to be drawn.

    A race sees a part of its episodes alone; to draw one takes a tenth of what a small network takes on it.

    Args:
        draw: int32 [n] -> an `Episode` with a leading n.
        number: static.
        last: int32 [], at most `number`; it may be traced.

    Returns:
        An `Episode` with a leading T = number; those that are not drawn are zeros.
    """
    if number <= DRAWN:
        return draw(jnp.arange(number))

    def some(turn, held):
        first = jnp.minimum(turn * DRAWN, number - DRAWN)
        new = draw(first + jnp.arange(DRAWN))
        return jax.tree.map(lambda x, part: jax.lax.dynamic_update_slice_in_dim(x, part, first, 0), held, new)

    shapes = jax.eval_shape(draw, jnp.arange(number))
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.fori_loop(0, -(-last // DRAWN), some, blank)


def _draw_distinct(key: Array, size: Array, number: int) -> Array:
    """Draw `number` distinct integers below each `size`, in uniform random order: a Fisher-Yates shuffle cut short.

    The array that is shuffled, a[x] = x, is never made: a[x] is x unless an earlier step i wrote a[slot_i] = value_i,
    so the cost depends on `number` alone and `size` may be traced.

    Args:
        key: consumed.
        size: int32 [...], each at least `number`.
        number: static.

    Returns:
        int32 [..., number].
    """
    steps = jnp.arange(number, dtype=jnp.int32)
    slots = steps + jax.random.randint(key, (*size.shape, number), 0, size[..., None] - steps)

    def step(values, i):
        def read(x):  # a[x] before step i: the last write to x, if any
            hit = (slots == x[..., None]) & (steps < i)
            last = jnp.max(jnp.where(hit, steps, -1), axis=-1)
            written = jnp.take_along_axis(values, jnp.maximum(last, 0)[..., None], axis=-1)[..., 0]
            return jnp.where(last >= 0, written, x)

        drawn = read(jnp.take(slots, i, axis=-1))
        moved = read(jnp.broadcast_to(i, size.shape))
        return jnp.where(steps == i, moved[..., None], values), drawn

    _, drawn = jax.lax.scan(step, jnp.zeros_like(slots), steps)
    return jnp.moveaxis(drawn, 0, -1)


def _rotate(images: Array, quarter: Array) -> Array:
    """Turn class i of images [N,m,H,H,C] by quarter[i] * 90 degrees."""
    turn = quarter[:, None, None, None, None]
    images = jnp.where(turn % 2 == 1, jnp.rot90(images, 1, axes=(2, 3)), images)
    return jnp.where(turn >= 2, images[:, :, ::-1, ::-1], images)


def _mirror(images: Array, mirrored: Array) -> Array:
    """Mirror images [N,m,H,W,C] left to right where `mirrored` [N] or [N,m] says so."""
    where = mirrored.reshape(*mirrored.shape, *(1,) * (images.ndim - mirrored.ndim))
    return jnp.where(where, images[..., ::-1, :], images)


def _to_float(images: Array, normalise: Normalise) -> Array:
    """Convert uint8 to float32 (x/255 - mean) / std."""
    mean, std = (jnp.asarray(part, jnp.float32) for part in normalise)
    return (images.astype(jnp.float32) / 255.0 - mean) / std
