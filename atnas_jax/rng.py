"""Keys by name and number, so that no key is ever stored and a resumed run draws what an uninterrupted one drew."""

import zlib

import jax

from atnas_jax.types import Array


def stream(seed: int | Array, *path: str | int | Array) -> Array:
    """Return the key at `path` below the root `seed`: `key = fold_in(...fold_in(root, path[0])..., path[-1])`.

    Args:
        seed: the run's seed, or a key to start from.
        path: names (hashed by CRC-32, stable across processes) and numbers (Python or traced int32).

    Returns:
        A typed PRNG key, the same for the same arguments on every machine.
    """
    key = jax.random.key(seed) if isinstance(seed, int) else seed
    for part in path:
        key = jax.random.fold_in(key, zlib.crc32(part.encode()) if isinstance(part, str) else part)
    return key
