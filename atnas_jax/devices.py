"""Work spread over devices: all run one program on the same values, and each takes its share of the rows.

A function that is spread names the mapped axis (`axis`) and is called through `on_mesh`; without one it is for a single
device. What leaves it is the same on every device, to the bit, and does not depend on how many there are.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from atnas_jax.types import Array, PyTree

AXIS = "devices"
CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
    "xla_disable_hlo_passes": "cse_barrier_expander",
}
LANES = 8  # partial sums of a sum over rows, whose order is then that of the rows on up to as many devices


def make_mesh(number: int) -> Mesh:
    """Return a mesh of the first `number` devices."""
    return Mesh(jax.devices()[:number], (AXIS,), axis_types=(AxisType.Auto,))


def devices_for(rows: int) -> int:
    """Return how many of the devices can have the same number of `rows`: the largest divisor that there are."""
    return max(number for number in range(1, jax.device_count() + 1) if rows % number == 0)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what is whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def on_mesh(function: Callable, mesh: Mesh) -> Callable:
    """Return `function` run on every device of the mesh, all arguments and results being whole on each."""
    whole = PartitionSpec()
    return jax.shard_map(function, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)


def compile_on(mesh: Mesh, function: Callable, args: tuple, donate: tuple[int, ...] = ()) -> jax.stages.Compiled:
    """Return `function` compiled for the mesh, see `on_mesh`, and arguments like these.

    Args:
        mesh: of the devices.
        function: of arrays and pytrees of arrays.
        args: arrays of the shapes that it will be called with, which must then be `replicated`.
        donate: arguments whose buffers may be reused.
    """
    whole = replicated(mesh)
    jitted = jax.jit(on_mesh(function, mesh), in_shardings=whole, out_shardings=whole, donate_argnums=donate)
    return jitted.lower(*args).compile(compiler_options=compiler_options())


def place(axis: str | None) -> tuple[int, int | Array]:
    """Return how many devices share the work, and the number of this one."""
    return (1, 0) if axis is None else (lax.axis_size(axis), lax.axis_index(axis))


def map_rows(f: Callable[[PyTree], PyTree], xs: PyTree, batch: int = 1, axis: str | None = None) -> PyTree:
    """Return f of every row, computed by the devices in equal shares.

    Args:
        f: one row of `xs` -> a pytree of arrays.
        xs: a pytree of arrays [n,...].
        batch: rows that are vmapped together; 1 is a loop.
        axis: the mapped axis of the devices, None on one.

    Returns:
        A pytree of arrays [n,...].
    """
    size = None if batch == 1 else batch
    if axis is None:
        return lax.map(f, xs, batch_size=size)
    rows = jax.tree.leaves(xs)[0].shape[0]
    devices, number = place(axis)
    share = -(-rows // devices)
    own = jnp.minimum(number * share + jnp.arange(share), rows - 1)
    found = lax.map(f, jax.tree.map(lambda x: x[own], xs), batch_size=size)
    return jax.tree.map(lambda x: x[:rows], lax.all_gather(found, axis, tiled=True))


def sum_rows(f: Callable[[PyTree], PyTree], xs: PyTree, axis: str | None = None) -> PyTree:
    """Return the sum of f over rows, one row at a time on each device.

    The rows are summed in `LANES` lanes or fewer, which are then added, whatever the number of devices; so the memory
    of the sum does not grow with the rows either.

    Args:
        f: one row of `xs` -> a pytree of float arrays.
        xs: a pytree of arrays [n,...].
        axis: the mapped axis of the devices, None on one.

    Raises:
        ValueError: the rows cannot be shared equally.
    """
    rows = jax.tree.leaves(xs)[0].shape[0]
    devices, number = place(axis)
    if rows % devices:
        raise ValueError(f"{rows} rows cannot be shared by {devices} devices; give a multiple of {devices}")
    lanes = math.gcd(rows, LANES)
    lanes = devices if lanes % devices else lanes
    own = number * (lanes // devices)
    xs = jax.tree.map(lambda x: x.reshape(lanes, rows // lanes, *x.shape[1:]), xs)
    xs = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, own, lanes // devices), xs)
    first = jax.tree.map(lambda x: x[0, 0], xs)
    f, held = jax.closure_convert(f, first)  # traced once; a long gradient is half of a cached start
    shapes = jax.eval_shape(f, first, *held)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(total, row):
        return jax.tree.map(jnp.add, total, f(row, *held)), None

    sums = lax.map(lambda lane: lax.scan(add, zeros, lane)[0], xs)
    sums = sums if axis is None else lax.all_gather(sums, axis, tiled=True)
    return jax.tree.map(lambda x: x.sum(0), sums)


def compiler_options() -> dict[str, str]:
    """Return the options of XLA that suit this package's programs on this machine; those without one do not know it.

    On a CPU its library of kernels (YNNPACK) is faster than XLA for sums, and slower for products of few columns. And
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
