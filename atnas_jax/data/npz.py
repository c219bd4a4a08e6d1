"""Reading an npz that somebody else made: no pickles, and nothing is allocated that the file does not hold."""

import math
import os
import zipfile

import numpy as np
from numpy.lib import format as npy

_DEFLATE_MOST = 1032  # bytes that one byte of a deflate stream can stand for
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load_arrays(path: str) -> dict[str, np.ndarray]:
    """Return the arrays of an npz by name.

    Every header is read before any array: one that says another size than its member of the archive has, objects, or
    more bytes than the machine has memory are refused, so neither a false shape nor a bomb of zeros is ever allocated.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what is wrong with it, in a few words; the caller names the path.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"npz file {path} does not exist: type a path to one")
    try:
        with zipfile.ZipFile(path) as archive:
            needed = sum(_checked_size(archive, member) for member in archive.infolist())
        if needed > (memory := _memory()):
            raise ValueError(f"its arrays take {needed:,} bytes and this machine has {memory:,}")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except PermissionError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0][:200]) from error


def _checked_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Return the bytes of one array, or raise ValueError where its header is not true."""
    name, stored = member.filename, min(member.compress_size, os.path.getsize(archive.filename))
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"array {name!r} is compressed otherwise than numpy does it")
    if member.file_size > stored * (_DEFLATE_MOST if member.compress_type else 1):
        raise ValueError(f"array {name!r} says {member.file_size:,} bytes and is stored in {stored:,}")
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in _READERS:
            raise ValueError(f"array {name!r} has npy version {version}")
        shape, _, dtype = _READERS[version](file, max_header_size=10_000)
        if dtype.hasobject:
            raise ValueError(f"array {name!r} holds Python objects, which are never unpickled")
        size, held = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
    if min(shape, default=0) < 0 or size != held:
        raise ValueError(f"array {name!r} says {list(shape)} {dtype}, {size:,} bytes, and holds {held:,}")
    return size


def _memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
