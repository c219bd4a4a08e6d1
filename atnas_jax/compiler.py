"""How programs are compiled: for all devices of a mesh, with the options that suit the machine."""

import contextlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from atnas_jax.devices import on_mesh, replicated

LIBRARY = "xla_cpu_experimental_ynn_fusion_type"  # what YNNPACK computes, a CPU's library of kernels
CPU_OPTIONS = {LIBRARY: "LIBRARY_FUSION_TYPE_REDUCE", "xla_disable_hlo_passes": "cse_barrier_expander"}
# Of programs that multiply bfloat16 numbers. Of others it would change the rounding, and slow products of few columns.
PRODUCTS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
# Where every core is a device: in four fifths of the time of XLA's own, which is by all cores that idle, this by one.
CONVOLUTIONS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # of a CPU


def compile_on(
    mesh: Mesh, function: Callable, args: tuple, donate: tuple[int, ...] = (), **how: bool
) -> jax.stages.Compiled:
    """Return `function` compiled; arguments of `lower_on`, and by name those of `options_for`."""
    lowered = lower_on(mesh, function, args, donate)
    return lowered.compile(compiler_options=options_for(lowered.as_text(), **how))


def lower_on(mesh: Mesh, function: Callable, args: tuple, donate: tuple[int, ...] = ()) -> jax.stages.Lowered:
    """Return `function` traced and lowered for the mesh, see `on_mesh`, and arguments like these.

    Args:
        mesh: of the devices.
        function: of arrays and pytrees of arrays.
        args: arrays of the shapes that it will be called with, `spread` on the mesh.
        donate: arguments whose buffers may be reused.
    """
    whole = replicated(mesh)
    jitted = jax.jit(on_mesh(function, mesh), in_shardings=whole, out_shardings=whole, donate_argnums=donate)
    return jitted.lower(*args)


def options_for(text: str, quickly: bool = False, by_core: bool = False) -> dict[str, str | bool | int]:
    """Return the options to compile a lowered program with.

    Args:
        text: of the program.
        quickly: on a CPU, compile in little more than half the time what then may run for twice as long.
        by_core: every core computes for itself where there is a device for each, see `one_a_core`.
    """
    options = compiler_options(halves=jax.default_backend() == "cpu" and "bf16" in text, by_core=by_core)
    return options | QUICKLY if quickly and options else options


def compiler_options(halves: bool = False, by_core: bool = False) -> dict[str, str]:
    """Return the options of XLA that suit this package's programs on this machine; those without one do not know it.

    On a CPU its library of kernels is faster than XLA for sums, and slower for products of few columns. And XLA:CPU
    drops optimisation barriers before it fuses unless the pass that does so, once made for other uses of them,
    is left out; with the barriers, what is dear to compute twice is kept (`nets/pool.py`).

    Args:
        halves: of a program that multiplies bfloat16 numbers, for which that library alone has the CPU's instructions.
        by_core: of a program that every core runs for itself, see `options_for`.
    """
    if jax.default_backend() != "cpu":
        return {}
    more = [PRODUCTS] * halves + [CONVOLUTIONS] * by_core
    for kinds in (more, [PRODUCTS] * halves, []):
        options = CPU_OPTIONS | ({LIBRARY: ",".join([CPU_OPTIONS[LIBRARY], *kinds])} if kinds else {})
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(jnp.negative).lower(0.0).compile(compiler_options=options)
            return options
    return {}
