"""Many arrays as one of bytes, and their sum."""

import hashlib

import numpy as np


def packed(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return the bytes of all arrays, one after the other, behind a zero; uint8 [1 + bytes], never empty."""
    return np.concatenate([np.zeros(1, np.uint8), *map(_bytes, arrays.values())])


def unpacked(data: np.ndarray, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays that `packed` made `data` of, with the names, order, shapes and dtypes of `like`."""
    found, at = {}, 1
    for name, blank in like.items():
        part = np.array(data[at : at + blank.nbytes])  # a copy, which is aligned
        found[name] = part.view(blank.dtype).reshape(blank.shape)
        at += blank.nbytes
    return found


def sum_of(arrays: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 sum of the names, dtypes, shapes and bytes of arrays, in hexadecimal.

    A scalar counts as of shape (1,), as it always has: the sums of older checkpoints are compared with these.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {value.dtype.name} {value.shape} ".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
