"""Across-task neural architecture search in JAX.

`load_meta_network`, `adapt` and, for many tasks, `make_adapter` are what a user of a searched meta-network needs; the
rest is imported by module.
"""

__version__ = "0.1.0"
__all__ = ["adapt", "load_meta_network", "make_adapter"]


def __getattr__(name: str):
    """Import the public functions at first use, so that `import atnas_jax.types` stays light."""
    if name not in __all__:
        raise AttributeError(f"module 'atnas_jax' has no attribute {name!r}")
    from atnas_jax.run import adapt as module

    return getattr(module, name)
