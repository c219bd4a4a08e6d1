"""The class table: every image of a data set, sorted by class, with the classes of each split."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from atnas_jax.types import Array

SPLITS = ("meta_train", "meta_valid", "meta_test")


class ClassTable(NamedTuple):
    """What the device holds; n images, c classes. Pass it to a jitted function as an argument, do not close over it."""

    images: Array  # uint8 [n,H,W,C], sorted by class
    offsets: Array  # int32 [c+1], class k owns images[offsets[k]:offsets[k+1]]
    meta_train: Array  # int32 [classes of the split], class ids, ascending
    meta_valid: Array  # int32 [classes of the split]
    meta_test: Array  # int32 [classes of the split]


@dataclass(frozen=True)
class DataSet:
    """What the host knows of a data set beside its table."""

    table: ClassTable
    class_names: tuple[str, ...]
    class_groups: tuple[str, ...]  # alphabet, superclass, script; "" where the data names none
    source: str
    split_name: str
    fingerprint: str  # first 16 hex digits of a SHA-256 over images, class sizes and splits


def build_dataset(
    images: np.ndarray,
    labels: np.ndarray,
    class_split: Sequence[str],
    class_names: Sequence[str] | None = None,
    class_groups: Sequence[str] | None = None,
    source: str = "arrays",
    split_name: str = "given",
) -> DataSet:
    """Build a checked `DataSet` from arrays.

    Args:
        images: uint8 [n,H,W] or [n,H,W,C].
        labels: integers [n] in 0..c-1; every class has at least one image.
        class_split: [c], each of `SPLITS` or "" (the class is left out).
        class_names: [c] distinct names; "0", "1", ... when absent.
        class_groups: [c] group of each class; "" when absent.
        source: what the data is called in reports.
        split_name: what the split is called in reports.

    Raises:
        ValueError: one line that names the fault.
    """
    images, labels = _check_arrays(np.asarray(images), np.asarray(labels), source)
    classes = len(class_split)
    names = tuple(map(str, class_names)) if class_names is not None else tuple(map(str, range(classes)))
    groups = tuple(map(str, class_groups)) if class_groups is not None else ("",) * classes
    _check_classes(labels, names, groups, class_split, source)
    order = np.argsort(labels, kind="stable")
    images = np.ascontiguousarray(images[order])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=classes))]).astype(np.int32)
    ids = [np.array([k for k, s in enumerate(class_split) if s == split], np.int32) for split in SPLITS]
    table = ClassTable(*map(jnp.asarray, (images, offsets, *ids)))
    return DataSet(table, names, groups, source, split_name, _fingerprint(images, offsets, ids))


def split_classes(table: ClassTable, split: str) -> Array:
    """Return the class ids int32 [classes of the split] of `split`, one of `SPLITS`."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} does not exist: type one of {', '.join(SPLITS)}")
    return getattr(table, split)


def class_sizes(dataset: DataSet, split: str) -> np.ndarray:
    """Return the number of images int32 [classes of the split] of each class of `split`."""
    return np.diff(np.asarray(dataset.table.offsets))[np.asarray(split_classes(dataset.table, split))]


def channel_statistics(dataset: DataSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return per-channel (mean, standard deviation) of x/255 over the images of meta_train classes only.

    Returns:
        Two tuples of C floats; a constant channel gets the deviation 1.
    """
    table = dataset.table
    offsets, ids = np.asarray(table.offsets), np.asarray(table.meta_train)
    if not len(ids):
        raise ValueError(
            f"{dataset.source} has no meta_train class to measure mean and deviation on: type another split"
        )
    images, channels = np.asarray(table.images), table.images.shape[-1]
    counts = np.zeros((channels, 256))  # histograms: exact in float64, and no float copy of the images
    for k in ids:
        block = images[offsets[k] : offsets[k + 1]]
        for channel in range(channels):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values, total = np.arange(256) / 255.0, counts.sum(1)
    mean = counts @ values / total
    std = np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 0))
    return tuple(mean.tolist()), tuple(np.where(std > 1e-6, std, 1.0).tolist())


def _check_arrays(images: np.ndarray, labels: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images [n,H,W,C] and labels int32 [n], or raise."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(
            f"{source}: images are {images.dtype} {list(images.shape)}, need uint8 [n,H,W] or [n,H,W,C], not empty"
        )
    images = images[..., None] if images.ndim == 3 else images
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"{source}: images have {images.shape[-1]} channels, need 1 or 3 as the last axis")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{source}: labels are {labels.dtype} {list(labels.shape)}, need integers [{images.shape[0]}], one an image"
        )
    return images, labels.astype(np.int32)


def _check_classes(labels, names, groups, class_split, source: str) -> None:
    """Raise unless labels, names, groups and split describe the same classes."""
    classes = len(class_split)
    for what, value in (("class_names", names), ("class_groups", groups)):
        if len(value) != classes:
            raise ValueError(f"{source}: {what} has {len(value)} entries but class_split has {classes}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{source}: labels range over {labels.min()}..{labels.max()}, need 0..{classes - 1}")
    empty = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if len(empty):
        raise ValueError(f"{source}: class {names[empty[0]]!r} has no image: remove it or add images")
    seen: dict[str, str] = {}
    for name, split in zip(names, class_split):
        if split not in (*SPLITS, ""):
            raise ValueError(f"{source}: class {name!r} is in split {split!r}: type one of {', '.join(SPLITS)}")
        if name in seen:
            where = f"both {seen[name]} and {split}" if seen[name] != split else f"{split} twice"
            raise ValueError(
                f"{source}: class {name!r} is in {where}: a class belongs to one split, rename or remove it"
            )
        seen[name] = split


def _fingerprint(images: np.ndarray, offsets: np.ndarray, ids: Sequence[np.ndarray]) -> str:
    """Return 16 hex digits that change with any pixel, shape, class size, class order or split."""
    digest = hashlib.sha256(repr(images.shape).encode())
    for array in (images, offsets, *ids):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]
