"""Compiled programs in the user's cache folder, found by what they are made of, so that a second start traces nothing.

JAX's own cache is asked by the text of a lowered program, which takes longer to make than all the rest of a second
start. Here a program has two names. By the first it is known before it is traced: the function with all that it closes
over (`identity.py`), the source that it runs through, the versions, the machine and the shapes of its arguments. Where
that finds nothing, as after any edit, the second does: the text, which most edits leave as it was.

The first name cannot see that a function was replaced in a process that runs. So programs are kept by commands alone,
which say where (`PROGRAMS`), and not by whoever calls the package from Python.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pickle
import platform
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from atnas_jax.compiler import compile_lowered, lower_on
from atnas_jax.job.identity import identity

PROGRAMS = "ATNAS_PROGRAMS"  # variable of the environment: the folder; "" or absent keeps none
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
_ELSEWHERE = ("cache", "log", "traceback", "profil", "coordinator", "distributed")  # settings that change no program


def kept_program(
    mesh: Mesh, function: Callable, args: tuple, donate: tuple[int, ...], quickly: bool
) -> jax.stages.Compiled:
    """Return `compile_on` of these arguments, of an earlier process where one kept it.

    A file that cannot be read is as good as none, and a program that cannot be written is compiled at every start.
    """
    folder, own = os.environ.get(PROGRAMS, ""), None
    keeps = bool(folder) and jax.process_count() == 1
    leaves, tree = jax.tree.flatten(args)
    shapes = [(jnp.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves]
    called = (shapes, str(tree), [str(one) for one in mesh.devices.flat], mesh.shape_tuple, donate, quickly)
    if keeps and (made := identity(function)) is not None:
        own = _file(folder, function, made, _source(), _surroundings(), called)
        if (program := _loaded(own, mesh, args)) is not None:
            return program
    lowered = lower_on(mesh, function, args, donate)
    if not keeps:
        return compile_lowered(lowered, quickly)
    shared = _file(folder, function, lowered.as_text(), _surroundings(), called)
    program = _loaded(shared, mesh, args)
    if program is None:
        with _without_cache():
            program = compile_lowered(lowered, quickly)
        _keep(shared, program)
    if own is not None:
        _link(own, shared)
    return program


def _file(folder: str, function: Callable, *told: Any) -> Path:
    return Path(folder) / f"{function.__name__}-{hashlib.sha256(repr(told).encode()).hexdigest()}"


def _loaded(file: Path, mesh: Mesh, args: tuple) -> jax.stages.Compiled | None:
    try:
        payload, results = pickle.loads(file.read_bytes())
        given, devices = jax.tree.structure((args, {})), list(mesh.devices.flat)
        return serialize_executable.deserialize_and_load(payload, given, results, devices[0].client, devices)
    except Exception:  # of the disk, of pickle or of XLA: it is compiled instead, which says what is wrong in earnest
        return None


def _keep(file: Path, program: jax.stages.Compiled) -> None:
    with contextlib.suppress(Exception):  # a full disk, a program that XLA cannot write: the run goes on without
        payload, _, results = serialize_executable.serialize(program)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(pickle.dumps((payload, results)))
        unfinished.replace(file)


def _link(name: Path, file: Path) -> None:
    with contextlib.suppress(OSError):
        unfinished = name.with_suffix(f".{os.getpid()}")
        unfinished.symlink_to(file.name)
        unfinished.replace(name)


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
    """Keep JAX's cache out: a program that it read of a file cannot be written to another, which then lacks parts."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


@functools.cache
def _source() -> str:
    """Return a digest of this package, and of every module that is loaded and not of an installed library."""
    installed = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    loaded = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    files = {str(path) for path in Path(__file__).parents[1].rglob("*.py")}
    files |= {path for path in loaded if path.endswith(".py") and not path.startswith(installed)}
    told = hashlib.sha256()
    for path in sorted(files):
        told.update(path.encode() + Path(path).read_bytes())
    return told.hexdigest()


@functools.cache
def _surroundings() -> tuple[Any, ...]:
    """Return the versions, the settings of JAX and the machine."""
    versions = sorted(f"{found.name} {found.version}" for found in importlib.metadata.distributions())
    settings = sorted((k, str(v)) for k, v in jax.config.values.items() if not any(word in k for word in _ELSEWHERE))
    machine = (platform.python_version(), platform.machine(), jax.devices()[0].client.platform_version, _cpu_flags())
    return versions, settings, machine, [os.environ.get(name) for name in _VARIABLES]


def _cpu_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
