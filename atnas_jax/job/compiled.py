"""Programs compiled ahead of their call, once for each set of shapes, and time told apart from that of compiling."""

import contextlib
import gc
import os
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from atnas_jax.data.cache import cache_folder
from atnas_jax.devices import gathered, make_mesh, spread
from atnas_jax.job.faults import device_fault
from atnas_jax.job.kept import PROGRAMS, kept_program


def compiled(
    function: Callable,
    clock: dict[str, float],
    donate: tuple[int, ...] = (),
    mesh: Mesh | None = None,
    note: Callable[[str], None] | None = None,
    **how: bool,
) -> Callable:
    """Return `function` compiled at its first call for each set of shapes and types.

    A call whose shapes and types were seen before never compiles, whatever its values: so it serves all genotypes.

    Args:
        function: of arrays and pytrees of arrays.
        clock: the seconds of lowering and compiling, or of loading, are added to clock["compile_s"].
        donate: arguments whose buffers may be reused.
        mesh: of the devices that it runs on, see `on_mesh`; None is the first alone.
        note: is told, before the first call runs, what it was to compile and how much memory the run will take.
        how: `quickly` and `by_core`, see `options_for`.

    Raises:
        Fault, by the call: it does not compile, or the device has not the memory for it.
    """
    programs, mesh = {}, mesh or make_mesh(1)

    def call(*args):
        # Of plain numbers the type, as jnp.result_type of a hundred leaves would take twice as long as the call itself.
        shapes = tuple((np.shape(leaf), getattr(leaf, "dtype", type(leaf))) for leaf in jax.tree.leaves(args))
        args = spread(args, mesh)
        if shapes not in programs:
            began = time.perf_counter()
            with _no_collection(), _explained(function.__name__):
                programs[shapes] = kept_program(mesh, function, args, donate, **how)
            memory = None if note is None else memory_mb(programs[shapes])  # it takes 20 ms to say
            seconds = time.perf_counter() - began
            clock["compile_s"] += seconds
            if note is not None:
                note(f"compiled {function.__name__} in {seconds:.1f} s; {memory:,.0f} MB a device")
        with _explained(function.__name__, programs[shapes]):
            return gathered(programs[shapes](*args))

    return call


def memory_mb(program: jax.stages.Compiled) -> float:
    """Return what XLA plans for a run of the program on one device: arguments, results and scratch, megabytes."""
    plan = program.memory_analysis()
    if plan is None:
        return float("nan")
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return (held + plan.temp_size_in_bytes) / 1e6


@contextlib.contextmanager
def _explained(name: str, program: jax.stages.Compiled | None = None):
    """Turn an error of XLA into a line that says what to lower."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise device_fault(error, name, None if program is None else memory_mb(program)) from error


@contextlib.contextmanager
def _no_collection():
    """Hold the garbage collector: tracing makes a million objects that live on, and it would look at them all again.

    It looks at them once in the end, or it would do so in the middle of what comes next, and be timed with it.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
            gc.collect(1)


def stopwatch(clock: dict[str, float]) -> Callable[[], float]:
    """Return seconds(), the time since now less what `compiled` programs of this clock spent on compiling meanwhile."""
    began = time.perf_counter() - clock["compile_s"]
    return lambda: time.perf_counter() - clock["compile_s"] - began


def divide_cpu(devices: int) -> None:
    """Let the CPU count as several devices, before jax starts: `devices`, or one a core where it is 0.

    A core that computes on its own keeps its cache to itself and never waits for the other within an operation.
    JAX_NUM_CPU_DEVICES, or the flag of XLA that does the same, is left as it is.
    """
    given = "JAX_NUM_CPU_DEVICES" in os.environ or "device_count" in os.environ.get("XLA_FLAGS", "")
    if devices or not given:
        jax.config.update("jax_num_cpu_devices", devices or cores())


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_a_core(rows: int, most: int = 0) -> bool:
    """Return whether all cores of a CPU can share the rows, each as a device of its own.

    How many devices there are is not asked, as results do not depend on that: fewer leave cores idle now and then.

    Args:
        rows: what is shared.
        most: a limit on devices, see `devices_for`; below the number of cores each device is to have several.
    """
    return jax.default_backend() == "cpu" and rows % cores() == 0 and (not most or most >= cores())


def keep_compiled() -> None:
    """Keep compiled programs in `compiled/` of the user's cache folder, so that a second start compiles nothing.

    JAX_COMPILATION_CACHE_DIR names another folder; set to "" it keeps none. Beside what JAX keeps there lie whole
    programs, see `kept.py`, if the folder is of a file system.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    folder = jax.config.jax_compilation_cache_dir or ""
    os.environ[PROGRAMS] = os.path.join(folder, "programs") if folder and "://" not in folder else ""
