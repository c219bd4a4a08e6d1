"""The user's cache folder, and files of it that are there whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_folder(given: str | None = None) -> Path:
    """Return `given`, else `$ATNAS_CACHE`, else `~/.cache/atnas_jax`; it need not exist."""
    return Path(given or os.environ.get("ATNAS_CACHE") or Path.home() / ".cache" / "atnas_jax")


@contextlib.contextmanager
def in_place_of(file: Path) -> Iterator[Path]:
    """Give a path that becomes the file if all goes well, whatever other processes do meanwhile.

    Raises:
        OSError: the folder cannot be made or written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix="unfinished-") as own:
        unfinished = Path(own) / file.name
        yield unfinished
        unfinished.replace(file)
