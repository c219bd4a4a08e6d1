"""Across-task neural architecture search in JAX.

`MetaNetwork`, `load_meta_network`, `adapt` and, for many tasks, `make_adapter` are what a user of a searched
meta-network needs; `load_adapted` reads what an adaptation wrote; `FewShotClassifier` is the same for scikit-learn. The
rest is imported by module.
"""

import importlib

__version__ = "0.1.0"
_HOMES = {
    "FewShotClassifier": "estimator",
    "MetaNetwork": "meta_network",
    "adapt": "adapt",
    "load_adapted": "adapted_network",
    "load_meta_network": "meta_network",
    "make_adapter": "adapt",
}
__all__ = ["MetaNetwork", "adapt", "load_adapted", "load_meta_network", "make_adapter"]


def __getattr__(name: str):
    """Import the public names at first use, so that `import atnas_jax.types` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'atnas_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"atnas_jax.novel.{_HOMES[name]}"), name)
