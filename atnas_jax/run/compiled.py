"""Programs compiled ahead of their call, once for each set of shapes, and time told apart from that of compiling."""

import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from atnas_jax.data.cache import cache_folder


def compiled(function: Callable, clock: dict[str, float], donate: tuple[int, ...] = ()) -> Callable:
    """Return `function` compiled at its first call for each set of shapes.

    A call whose shapes were seen before never compiles, whatever its values: that is what serves all genotypes.

    Args:
        function: of arrays and pytrees of arrays.
        clock: the seconds of lowering and compiling are added to clock["compile_s"].
        donate: arguments whose buffers may be reused.
    """
    programs = {}

    def call(*args):
        shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(args))
        if shapes not in programs:
            began = time.perf_counter()
            programs[shapes] = jax.jit(function, donate_argnums=donate).lower(*args).compile()
            clock["compile_s"] += time.perf_counter() - began
        return programs[shapes](*args)

    return call


def stopwatch(clock: dict[str, float]) -> Callable[[], float]:
    """Return seconds(), the time since now less what `compiled` programs of this clock spent on compiling meanwhile."""
    began = time.perf_counter() - clock["compile_s"]
    return lambda: time.perf_counter() - clock["compile_s"] - began


def keep_compiled() -> None:
    """Keep compiled programs in `compiled/` of the user's cache folder, so that a second start compiles nothing.

    JAX_COMPILATION_CACHE_DIR names another folder; set to "" it keeps none.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
