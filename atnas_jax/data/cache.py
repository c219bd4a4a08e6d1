"""The user's cache folder."""

import os
from pathlib import Path


def cache_folder(given: str | None = None) -> Path:
    """Return `given`, else `$ATNAS_CACHE`, else `~/.cache/atnas_jax`; it need not exist."""
    return Path(given or os.environ.get("ATNAS_CACHE") or Path.home() / ".cache" / "atnas_jax")
