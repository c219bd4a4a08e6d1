"""Work spread over devices: all run one program on the same values, and each takes its share of the rows.

A function that is spread names the mapped axis or axes (`axis`) and is called through `on_mesh`; without one it is for
a single device. What leaves it is the same on every device, to the bit, and does not depend on how many there are, up
to `LANES` of them; on a CPU it does on the cores, see `job/compiled.py`.

One mesh serves all: the episodes of an outer step are shared along its axis of tasks, each line of the population axis
doing the same; an evaluation is shared by all of its devices. With several processes every one runs the same host loop
on values of its own, and they meet in these programs alone, see `job/processes.py`.
"""

import math
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from atnas_jax.types import Array, PyTree

Axis = str | tuple[str, ...]
TASKS, POPULATION = "tasks", "population"
AXIS = (TASKS, POPULATION)  # all devices of a mesh
LANES = 8  # partial sums of a sum over rows, whose order is then that of the rows on up to as many devices


def make_mesh(tasks: int, population: int = 1) -> Mesh:
    """Return a mesh of the first devices of each process, as many as `tasks` times `population`.

    Neighbours along the axis of tasks sit in one process where they can, since gradients cross it in every outer step.

    Raises:
        ValueError: the processes cannot have equal shares.
    """
    number, processes = tasks * population, jax.process_count()
    if number % processes:
        raise ValueError(f"{number} devices cannot be shared equally by {processes} processes; give a multiple of them")
    first = [device for p in range(processes) for device in jax.local_devices(p)[: number // processes]]
    grid = np.asarray(first).reshape(population, tasks).T
    return Mesh(grid, AXIS, axis_types=(AxisType.Auto,) * 2)


def devices_for(rows: int, most: int = 0) -> int:
    """Return how many of the devices can have the same number of `rows`: the largest divisor that there are.

    Args:
        rows: what is shared.
        most: a limit, or one a process where that is more; 0 is none.

    Raises:
        ValueError: there are more processes than that, or they cannot have equal shares.
    """
    processes = jax.process_count()
    limit = min(max(most, processes), jax.device_count()) if most else jax.device_count()
    fitting = [n for n in range(1, limit + 1) if rows % n == 0 and n % processes == 0]
    if not fitting:
        raise ValueError(
            f"train.tasks / train.task_batch is {rows}, which {processes} processes cannot share; make it a multiple, "
            f"or give --mesh=tasks:1,population:{jax.device_count()}"
        )
    return max(fitting)


def mesh_for(rows: int, layout: str = "", most: int = 0) -> Mesh:
    """Return the mesh of a run whose outer steps have so many `rows`.

    Args:
        rows: episodes of an outer step, or chunks of them, that devices share.
        layout: "tasks:A,population:B", where A times B is the number of devices and A divides the rows; "" takes as
            many devices as can share the rows, all along the axis of tasks.
        most: see `devices_for`.

    Raises:
        ValueError: the layout is none, or does not fit the devices, their limit or the rows.
    """
    if not layout:
        return make_mesh(devices_for(rows, most))
    found = re.fullmatch(r"tasks:([1-9]\d*),population:([1-9]\d*)", layout)
    if not found:
        raise ValueError(f"--mesh is {layout!r}; it must be like tasks:4,population:2, of whole numbers above 0")
    if most:
        raise ValueError(f"--mesh={layout} lays out all devices, and devices {most} limits them; leave one of both out")
    tasks, population = map(int, found.groups())
    if tasks * population != (number := jax.device_count()):
        raise ValueError(f"--mesh={layout} is of {tasks * population} devices; make it of the {number} that there are")
    if rows % tasks:
        raise ValueError(
            f"--mesh={layout} cannot share train.tasks / train.task_batch, which is {rows}; give tasks:N with N one of "
            f"its divisors, such as tasks:{math.gcd(rows, tasks)}"
        )
    return make_mesh(tasks, population)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what is whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def spread(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return values that every process has as arrays that are whole on every device of the mesh."""
    whole = replicated(mesh)

    def there(x):  # which costs nothing, where putting it there again would take 50 us
        return isinstance(x, jax.Array) and x.sharding == whole

    def put(x):
        own = [jax.device_put(x, device) for device in mesh.local_devices]
        return jax.make_array_from_single_device_arrays(own[0].shape, whole, own)

    leaves, form = jax.tree.flatten(tree)
    away = [i for i, x in enumerate(leaves) if not there(x)]
    moved = [leaves[i] for i in away]
    moved = jax.device_put(moved, whole) if jax.process_count() == 1 else map(put, moved)
    for i, x in zip(away, moved, strict=True):
        leaves[i] = x
    return form.unflatten(leaves)


def gathered(tree: PyTree) -> PyTree:
    """Return arrays that are whole on every device as this process's own, so that no other has to join in using them.

    With one process they are left on all of its devices. With several this waits until all of them are there: on a CPU
    the messages of a program that still runs could be taken for those of the next.
    """
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda x: x.addressable_data(0), jax.block_until_ready(tree))


def on_mesh(function: Callable, mesh: Mesh) -> Callable:
    """Return `function` run on every device of the mesh, all arguments and results being whole on each."""
    whole = PartitionSpec()
    return jax.shard_map(function, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)


def place(axis: Axis | None) -> tuple[int, int | Array]:
    """Return how many devices share the work, and the number of this one."""
    return (1, 0) if axis is None else (lax.axis_size(axis), lax.axis_index(axis))


def map_rows(
    f: Callable[[PyTree], PyTree], xs: PyTree, batch: int = 1, axis: Axis | None = None, real: Array | None = None
) -> PyTree:
    """Return f of every row, computed by the devices in equal shares.

    Args:
        f: one row of `xs` -> a pytree of arrays.
        xs: a pytree of arrays [n,...].
        batch: rows that are vmapped together; 1 is a loop.
        axis: the mapped axis or axes of the devices, None on one.
        real: int32 [], of a loop (`batch` 1) alone: how many of the first rows are, the others being padding, which
            takes no time and comes out as 0. None: all.

    Returns:
        A pytree of arrays [n,...].
    """
    if real is not None:
        return _map_real(f, xs, axis, real)
    if axis is None:
        return lax.map(f, xs, batch_size=None if batch == 1 else batch)
    rows = jax.tree.leaves(xs)[0].shape[0]
    devices, number = place(axis)
    share = -(-rows // devices)
    own = jax.tree.map(lambda x: x[jnp.minimum(number * share + jnp.arange(share), rows - 1)], xs)
    found = _each(f, own, share) if batch == 1 else lax.map(f, own, batch_size=batch)
    return jax.tree.map(lambda x: x[:rows], lax.all_gather(found, axis, tiled=True))


def _map_real(f: Callable[[PyTree], PyTree], xs: PyTree, axis: Axis | None, real: Array) -> PyTree:
    """Return what `map_rows` does, the shares being equal ones of the first `real` rows."""
    rows = jax.tree.leaves(xs)[0].shape[0]
    devices, number = place(axis)
    most, share = -(-rows // devices), jnp.maximum(-(-real // devices), 1)
    own = jax.tree.map(lambda x: x[jnp.minimum(number * share + jnp.arange(most), rows - 1)], xs)
    found = _each(f, own, jnp.clip(real - number * share, 0, share))
    found = jax.tree.map(lambda x: x[None], found) if axis is None else lax.all_gather(found, axis)
    at = jnp.minimum(jnp.arange(rows), real - 1)
    behind = jnp.arange(rows) >= real

    def in_order(x):
        return jnp.where(behind.reshape(-1, *(1,) * (x.ndim - 2)), jnp.zeros((), x.dtype), x[at // share, at % share])

    return jax.tree.map(in_order, found)


def _each(f: Callable[[PyTree], PyTree], xs: PyTree, number: int | Array) -> PyTree:
    """Return f of the first `number` rows, 0 for the others, by a loop that stays one, however few its turns.

    XLA dissolves a loop of one turn in what is around it and then rounds otherwise, so the results of a device with one
    row would not be those of a device with two. It cannot know how often a loop turns whose end is behind a barrier.
    """
    first = jax.tree.map(lambda x: x[0], xs)
    f, held = jax.closure_convert(f, first)
    rows = jax.tree.leaves(xs)[0].shape[0]
    blank = jax.tree.map(lambda s: jnp.zeros((rows, *s.shape), s.dtype), jax.eval_shape(f, first, *held))

    def turn(i: Array, found: PyTree) -> PyTree:
        here = f(jax.tree.map(lambda x: x[i], xs), *held)
        return jax.tree.map(lambda all_, one: all_.at[i].set(one), found, here)

    return lax.fori_loop(0, lax.optimization_barrier(jnp.int32(number)), turn, blank)


def sum_rows(f: Callable[[PyTree], PyTree], xs: PyTree, axis: Axis | None = None) -> PyTree:
    """Return the sum of f over rows, one row at a time on each device.

    The rows are summed in `LANES` lanes or fewer, which are then added, whatever the number of devices; so the memory
    of the sum does not grow with the rows either. More devices than that add their sums in an order of their own, as
    the gradients of all of them would fill each.

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
    lanes = devices if devices > LANES or lanes % devices else lanes
    own = number * (lanes // devices)
    xs = jax.tree.map(lambda x: x.reshape(lanes, rows // lanes, *x.shape[1:]), xs)
    xs = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, own, lanes // devices), xs)
    first = jax.tree.map(lambda x: x[0, 0], xs)
    f, held = jax.closure_convert(f, first)  # traced once; a long gradient is half of tracing
    shapes = jax.eval_shape(f, first, *held)
    zeros = jax.tree.map(lambda s: jnp.zeros((lanes // devices, *s.shape), s.dtype), shapes)
    length = rows // lanes

    def turn(i: Array, sums: PyTree) -> PyTree:
        lane, row = i // length, i % length
        found = f(jax.tree.map(lambda x: x[lane, row], xs), *held)
        return jax.tree.map(lambda total, one: total.at[lane].add(one), sums, found)

    sums = lax.fori_loop(0, lax.optimization_barrier(jnp.int32(rows // devices)), turn, zeros)  # see `_each`
    if devices > LANES:
        return jax.tree.map(lambda x: lax.psum(x[0], axis), sums)
    sums = sums if axis is None else lax.all_gather(sums, axis, tiled=True)
    return jax.tree.map(lambda x: x.sum(0), sums)


def agreed(tree: PyTree, axis: str = POPULATION) -> PyTree:
    """Return the values of the first line of devices along an axis on all of them, bit for bit.

    Lines that do the same would drift apart where a device's arithmetic is not repeatable, as atomic sums of a GPU.
    """
    if lax.axis_size(axis) == 1:
        return tree

    def one(x):
        # A sum of bits, as a float sum with zeros would lose the sign of a zero, and a gather would hold all lines.
        floats = jnp.issubdtype(x.dtype, jnp.floating)
        bits = lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}") if floats else x.astype(jnp.int32)
        bits = lax.psum(jnp.where(lax.axis_index(axis) == 0, bits, 0), axis)
        return lax.bitcast_convert_type(bits, x.dtype) if floats else bits.astype(x.dtype)

    return jax.tree.map(one, tree)
