"""How programs are compiled: for all devices of a mesh, with the options that suit the machine."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from atnas_jax.devices import on_mesh, replicated

CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
    "xla_disable_hlo_passes": "cse_barrier_expander",
}
HALVES = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # of a CPU


def compile_on(
    mesh: Mesh, function: Callable, args: tuple, donate: tuple[int, ...] = (), quickly: bool = False
) -> jax.stages.Compiled:
    """Return `function` compiled for the mesh, see `on_mesh`, and arguments like these.

    Args:
        mesh: of the devices.
        function: of arrays and pytrees of arrays.
        args: arrays of the shapes that it will be called with, `spread` on the mesh.
        donate: arguments whose buffers may be reused.
        quickly: on a CPU, compile in little more than half the time what then may run for twice as long.
    """
    whole = replicated(mesh)
    jitted = jax.jit(on_mesh(function, mesh), in_shardings=whole, out_shardings=whole, donate_argnums=donate)
    lowered, options = jitted.lower(*args), compiler_options()
    if options:
        options = options | (QUICKLY if quickly else {}) | (HALVES if "bf16" in lowered.as_text() else {})
    return lowered.compile(compiler_options=options)


def compiler_options() -> dict[str, str]:
    """Return the options of XLA that suit this package's programs on this machine; those without one do not know it.

    On a CPU its library of kernels (YNNPACK) is faster than XLA for sums, and slower for products of few columns; of
    products of bfloat16 numbers it alone makes what the CPU has instructions for (`HALVES`, see `compile_on`). And
    XLA:CPU drops optimisation barriers before it fuses unless the pass that does so, once made for other uses of them,
    is left out; with the barriers, what is dear to compute twice is kept (`nets/pool.py`).
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(jnp.negative).lower(0.0).compile(compiler_options=CPU_OPTIONS)
    except jax.errors.JaxRuntimeError:
        return {}
    return CPU_OPTIONS
