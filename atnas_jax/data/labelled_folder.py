"""The user's own task: a folder of a few labelled images per class, and images to classify."""

from pathlib import Path

import numpy as np

from atnas_jax.data.folder import decode_all, list_images
from atnas_jax.data.images import ImageSize, fit, read_arrays


def read_support(path: str, image_size: ImageSize, channels: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read labelled images, class by class; classes may have unequal counts.

    Args:
        path: a folder of class folders of images, or an npz with `images`, `labels` and optionally `class_names`.
        image_size: side or (H, W) to resize to, as the meta-network was trained.
        channels: 1 or 3, as the meta-network was trained.

    Returns:
        (images uint8 [S,H,W,C], labels int32 [S] ascending, class names [N] in the order of the labels).

    Raises:
        ValueError: fewer than two classes, images outside class folders, unreadable files; one line.
        FileNotFoundError: no such folder or file.
    """
    images, names, labels, class_names = _read(path, image_size, channels)
    if labels is None:
        raise ValueError(f"{path}: {names[0]} is in no class folder: put each class's images in a folder of its own")
    present = np.unique(labels)
    if len(present) < 2:
        raise ValueError(f"{path} has {len(present)} class: need at least 2 class folders with images")
    labels = np.searchsorted(present, labels).astype(np.int32)
    order = np.argsort(labels, kind="stable")
    return images[order], labels[order], tuple(class_names[k] for k in present)


def read_images(
    path: str, image_size: ImageSize, channels: int, class_names: tuple[str, ...] = ()
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray | None]:
    """Read images to classify, and their labels where the folders name classes.

    Args:
        path: a flat folder of images, a folder of class folders, or an npz with `images` and optionally `labels`.
        image_size, channels: as for `read_support`.
        class_names: of the support; when given, labels count in its order and an unknown class is an error.

    Returns:
        (images uint8 [n,H,W,C], file names below `path` [n], labels int32 [n], or None if there are no classes).

    Raises:
        ValueError, FileNotFoundError: as for `read_support`.
    """
    images, names, labels, own_names = _read(path, image_size, channels)
    if labels is None or not class_names:
        return images, names, labels
    unknown = [own_names[k] for k in np.unique(labels) if own_names[k] not in class_names]
    if unknown:
        known = ", ".join(class_names)
        raise ValueError(f"{path}: class {unknown[0]!r} has no support images: rename its folder to one of {known}")
    return images, names, np.array([class_names.index(own_names[k]) for k in labels], np.int32)


def _read(path: str, image_size: ImageSize, channels: int):
    """Return images, file names, labels or None, and class names."""
    if path.endswith(".npz"):
        arrays = read_arrays(path, required=("images",))
        labels = arrays.get("labels")
        images = fit(arrays["images"], image_size, channels)
        count = 0 if labels is None else int(labels.max()) + 1
        class_names = tuple(map(str, np.atleast_1d(arrays.get("class_names", np.arange(count)))))
        if len(class_names) < count:
            raise ValueError(f"{path}: labels reach {count - 1} but class_names has {len(class_names)} entries")
        return images, tuple(f"image {i}" for i in range(len(images))), labels, class_names
    files = list_images(Path(path))
    if not files:
        raise ValueError(f"{path} holds no images: need PNG, JPEG or other image files, or class folders of them")
    names = tuple("/".join(file.parts) for file in files)
    flat = [len(file.parts) == 1 for file in files]
    if any(flat) and not all(flat):
        stray = names[flat.index(True)]
        raise ValueError(f"{path}: {stray} lies beside class folders: move it into one, or make the folder flat")
    images = decode_all(files, path, image_size, channels)
    if all(flat):
        return images, names, None, ()
    classes = ["/".join(file.parts[:-1]) for file in files]
    class_names = tuple(sorted(set(classes)))
    return images, names, np.array([class_names.index(name) for name in classes], np.int32), class_names
