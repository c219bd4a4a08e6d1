"""Decoding, resizing and channels of images: what every reader of files shares."""

import io
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from atnas_jax.data.npz import load_arrays

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MAX_PIXELS = 64 * 2**20  # an image that claims more is refused before it is decoded
MAX_CLASSES = 10**6
MAX_BYTES = 3 * MAX_PIXELS + 2**20  # of its file, as large as one without compression
ImageSize = int | tuple[int, int]  # side of a square, or (H, W), pixels


class LabelledImages(NamedTuple):
    """What a reader returns, before a split is chosen; n images, c classes."""

    images: np.ndarray  # uint8 [n,H,W,C]
    labels: np.ndarray  # int32 [n]
    class_names: tuple[str, ...]  # [c]
    class_groups: tuple[str, ...]  # [c]
    splits: dict[str, tuple[str, ...]]  # name of a split ("" is the one given) -> split of each class [c]


def decode(data: bytes, name: str, image_size: ImageSize = 0, channels: int = 0) -> np.ndarray:
    """Decode one image file.

    Args:
        data: the bytes of a PNG, JPEG or other file that Pillow reads; the first frame counts.
        name: what to call it in an error.
        image_size: resize to this square, or to (H, W) (Lanczos); 0 keeps the size.
        channels: 1 grey, 3 RGB, 0 as the file is.

    Returns:
        uint8 [H,W,C]; EXIF orientation is applied, transparency is laid on white.

    Raises:
        ValueError: not an image, truncated, or too large; one line that names it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound below is the stricter one
            image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{name}: {image.width}x{image.height} pixels, at most 64 megapixels are read: shrink it")
        image = _to_mode(ImageOps.exif_transpose(image), name, channels)
    except Exception as error:  # a damaged file fails in a way of its own in every plugin of Pillow
        if isinstance(error, ValueError) and str(error).startswith(f"{name}: "):
            raise
        reason = (
            str(error).splitlines()[0].replace("<_io.BytesIO object", "<bytes") if str(error) else "no reason given"
        )
        raise ValueError(f"{name}: not a readable image ({reason}): remove or replace it") from None
    if image_size and image.size != (size := _width_and_height(image_size)):
        image = image.resize(size, Image.Resampling.LANCZOS)
    array = np.asarray(image, np.uint8)
    return array[..., None] if array.ndim == 2 else array


def encode_png(image: np.ndarray) -> bytes:
    """Encode uint8 [H,W,C], C in 1, 3, as PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def read_arrays(path: str, required: Sequence[str]) -> dict[str, np.ndarray]:
    """Read an npz: `images` comes back as uint8 [n,H,W,C], `labels`, where present, as int32 [n], the rest as stored.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, an array of `required` is missing, or images and labels are of another kind; one line.
    """
    try:
        arrays = load_arrays(path)
    except ValueError as error:
        raise ValueError(f"npz file {path} cannot be read ({error}): write it with numpy.savez, no objects") from None
    missing = sorted(set(required) - set(arrays))
    if missing:
        raise ValueError(f"npz file {path} lacks {', '.join(missing)} (it has {', '.join(arrays) or 'nothing'})")
    images, labels = arrays["images"], arrays.get("labels")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        given = f"{images.dtype} {list(images.shape)}"
        raise ValueError(f"npz file {path}: images are {given}, need uint8 [n,H,W] or [n,H,W,C], not empty")
    arrays["images"] = images[..., None] if images.ndim == 3 else images
    if arrays["images"].shape[-1] not in (1, 3):
        raise ValueError(f"npz file {path}: images have {images.shape[-1]} channels, need 1 or 3 as the last axis")
    if labels is not None:
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1] or labels.min() < 0:
            given = f"{labels.dtype} {list(labels.shape)}"
            raise ValueError(f"npz file {path}: labels are {given}, need integers [{len(images)}] from 0")
        if labels.max() >= MAX_CLASSES:
            raise ValueError(f"npz file {path}: labels reach {labels.max()}, need numbers below {MAX_CLASSES:,}")
        arrays["labels"] = labels.astype(np.int32)
    return arrays


def stack(images: Sequence[np.ndarray], names: Sequence[str], source: str) -> np.ndarray:
    """Stack images uint8 [H,W,C] into [n,H,W,C], or say in one line what to type so that they agree."""
    first = images[0].shape
    for image, name in zip(images, names):
        if image.shape[-1] != first[-1]:
            raise ValueError(f"{source}: {names[0]} and {name} mix grey and colour: type channels=1 or channels=3")
        if image.shape != first:
            sizes = f"{names[0]} is {first[1]}x{first[0]}, {name} is {image.shape[1]}x{image.shape[0]}"
            raise ValueError(f"{source}: images differ in size ({sizes}): type image_size, for instance image_size=84")
    return np.stack(images)


def fit(images: np.ndarray, image_size: ImageSize = 0, channels: int = 0) -> np.ndarray:
    """Resize (Lanczos) and convert uint8 [n,H,W,C] to `image_size`, see `decode`, and `channels`; 0 keeps either."""
    width, height = _width_and_height(image_size)
    if channels not in (0, 1, 3) or width < 0:
        raise ValueError(f"channels={channels} image_size={image_size}: channels is 0, 1 or 3, image_size is 0 or more")
    if channels == 3 and images.shape[-1] == 1:
        images = np.repeat(images, 3, axis=-1)
    if channels == 1 and images.shape[-1] == 3:
        images = (images.astype(np.uint32) @ np.array([[19595], [38470], [7471]], np.uint32) + 32768 >> 16).astype(
            np.uint8
        )
    if image_size and images.shape[1:3] != (height, width):
        planes = images.transpose(0, 3, 1, 2).reshape(-1, *images.shape[1:3])
        lanczos = Image.Resampling.LANCZOS
        planes = np.stack([np.asarray(Image.fromarray(p).resize((width, height), lanczos)) for p in planes])
        images = planes.reshape(len(images), -1, height, width).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images)


def _width_and_height(image_size: ImageSize) -> tuple[int, int]:
    return (image_size, image_size) if isinstance(image_size, int) else tuple(image_size[::-1])


def _to_mode(image: Image.Image, name: str, channels: int) -> Image.Image:
    """Return an L or RGB image; 16-bit grey keeps its high byte, transparency is laid on white."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"{name}: pixels of 32 bits ({image.mode}), 8 or 16 are read: convert it to 8 bits")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert({0: "L" if grey else "RGB", 1: "L", 3: "RGB"}[channels])
