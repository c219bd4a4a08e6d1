"""Class folders of images, on disk or inside a tar: with split folders above the classes, or without."""

import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from atnas_jax.data.images import MAX_BYTES, SUFFIXES, LabelledImages, decode, stack
from atnas_jax.data.splits import ALIASES


class ImageFile(NamedTuple):
    """An image that is yet to be read."""

    parts: tuple[str, ...]  # folders below the root, then the file's name
    read: Callable[[], bytes]


def read_folder(path: str, image_size: int = 0, channels: int = 0) -> LabelledImages:
    """Read `path/[split/]class/image` from disk.

    Args:
        path: a folder; split folders are called meta_train|train, meta_valid|valid|val, meta_test|test.
        image_size: resize each image to this square (Lanczos), 0 keeps the size.
        channels: 1 grey, 3 RGB, 0 as the files are, which must then agree.

    Raises:
        FileNotFoundError: no such folder. ValueError: one line that names the faulty file or class.
    """
    return _assemble(list_images(Path(path)), path, image_size, channels)


def read_tar(path: str, image_size: int = 0, channels: int = 0) -> LabelledImages:
    """Read class folders from a tar, plain or compressed, in memory; nothing is extracted.

    Arguments and errors are those of `read_folder`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"tar file {path} does not exist: type a path to one")
    try:
        with tarfile.open(path) as archive:
            files = []
            for member in archive:
                parts = PurePosixPath(member.name).parts
                if member.isfile() and _is_image(parts):
                    _check_size(member.size, f"{path}/{member.name}")
                    data = archive.extractfile(member).read()
                    files.append(ImageFile(parts, lambda data=data: data))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"tar file {path} cannot be read ({str(error).splitlines()[0]}): write it anew") from None
    while _is_wrapped(files):
        files = [ImageFile(file.parts[1:], file.read) for file in files]
    return _assemble(sorted(files, key=lambda f: f.parts), path, image_size, channels)


def list_images(root: Path) -> list[ImageFile]:
    """Return the image files below `root`, links followed, sorted by path; what is hidden does not count."""
    if not root.is_dir():
        raise FileNotFoundError(f"folder {root} does not exist: type a folder of class folders of images")
    found = [p for p in _files_below(root) if _is_image(p.relative_to(root).parts) and p.is_file()]
    for p in found:
        _check_size(p.stat().st_size, f"{p}")
    files = [ImageFile(p.relative_to(root).parts, p.read_bytes) for p in found]
    return sorted(files, key=lambda f: f.parts)


def _files_below(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root, followlinks=True):
        here = Path(folder)
        links = [name for name in below if (here / name).is_symlink()]
        above = {path.resolve() for path in (here, *here.parents)} if links else {}
        for name in links:
            if (here / name).resolve() in above:  # a link that leads round in a circle
                below.remove(name)
        yield from (here / name for name in names)


def decode_all(files: Sequence[ImageFile], source: str, image_size: int, channels: int) -> np.ndarray:
    """Decode `files` into uint8 [n,H,W,C], on a few threads."""
    names = ["/".join(f.parts) for f in files]
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda f, n: decode(f.read(), f"{source}/{n}", image_size, channels), files, names))
    return stack(images, names, source)


def _check_size(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"{name}: {size:,} bytes, at most {MAX_BYTES:,} are read: shrink or remove it")


def _is_image(parts: tuple[str, ...]) -> bool:
    return (
        bool(parts) and parts[-1].lower().endswith(SUFFIXES) and not any(p.startswith((".", "__MACOSX")) for p in parts)
    )


def _is_wrapped(files: Sequence[ImageFile]) -> bool:
    """Tell whether one folder, which is no split, holds everything, and classes lie below it."""
    tops = {file.parts[0] for file in files}
    return len(tops) == 1 and not tops & set(ALIASES) and all(len(file.parts) > 2 for file in files)


def _assemble(files: Sequence[ImageFile], source: str, image_size: int, channels: int) -> LabelledImages:
    """Decode the files and read class, group and split from their folders."""
    if not files:
        raise ValueError(f"{source} holds no images: need class folders with {', '.join(SUFFIXES)} files")
    depth = 2 if all(f.parts[0] in ALIASES and len(f.parts) > 2 for f in files) else 1
    for file in files:
        if len(file.parts) <= depth:
            raise ValueError(
                f"{source}/{'/'.join(file.parts)} is in no class folder: need class/image or split/class/image"
            )
    of_class: dict[str, str] = {}
    for file in files:
        name, split = "/".join(file.parts[depth - 1 : -1]), ALIASES[file.parts[0]] if depth == 2 else ""
        if of_class.setdefault(name, split) != split:
            raise ValueError(
                f"{source}: class {name!r} is in {of_class[name]} and {split}: a class belongs to one split"
            )
    names = tuple(sorted(of_class))
    index = {name: k for k, name in enumerate(names)}
    labels = np.array([index["/".join(f.parts[depth - 1 : -1])] for f in files], np.int32)
    groups = tuple(name.rpartition("/")[0] for name in names)
    splits = {"": tuple(of_class[name] for name in names)} if depth == 2 else {}
    return LabelledImages(decode_all(files, source, image_size, channels), labels, names, groups, splits)
