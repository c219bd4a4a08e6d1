"""A data set in a few lines of text."""

import hashlib

import numpy as np

from atnas_jax.data.table import SPLITS, DataSet, channel_statistics, class_sizes, split_classes


def summarise(dataset: DataSet) -> str:
    """Return lines of counts, shapes, splits and fingerprint, and the largest N, K and Q that each split allows."""
    number, height, width, channels = dataset.table.images.shape
    lines = [
        f"source     {dataset.source}, split {dataset.split_name}",
        f"images     {number} of {height}x{width}x{channels} uint8, {len(dataset.class_names)} classes, "
        f"{len(set(dataset.class_groups) - {''})} groups",
        f"fingerprint {dataset.fingerprint}",
    ]
    for split in SPLITS:
        sizes = class_sizes(dataset, split)
        if not len(sizes):
            lines.append(f"{split:10} no classes")
            continue
        least = int(sizes.min())
        groups = {dataset.class_groups[k] for k in np.asarray(split_classes(dataset.table, split))} - {""}
        lines.append(
            f"{split:10} {len(sizes)} classes in {len(groups) or 'no'} groups, {least} to {sizes.max()} images each; "
            f"N up to {len(sizes)}, K and queries a class up to {least - 1} each and {least} together"
        )
    if dataset.table.meta_train.shape[0]:
        mean, std = (", ".join(f"{value:.4f}" for value in part) for part in channel_statistics(dataset))
        lines.append(f"meta_train mean {mean}; std {std} (of x/255)")
    shared = shared_images(dataset)
    if shared:
        lines.append(f"warning    {shared} images stand, byte for byte, in more than one split")
    return "\n".join(lines)


def shared_images(dataset: DataSet) -> int:
    """Return the number of distinct images that stand, byte for byte, in more than one split."""
    images, offsets = np.asarray(dataset.table.images), np.asarray(dataset.table.offsets)
    seen: dict[bytes, set[str]] = {}
    for split in SPLITS:
        for k in np.asarray(split_classes(dataset.table, split)):
            for image in images[offsets[k] : offsets[k + 1]]:
                seen.setdefault(hashlib.sha256(image).digest(), set()).add(split)
    return sum(len(splits) > 1 for splits in seen.values())
