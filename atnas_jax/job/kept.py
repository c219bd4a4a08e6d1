"""Compiled programs in the user's cache folder, found by what they are made of, so that a second start traces nothing.

JAX's own cache is asked by the text of a lowered program, which takes longer to make than all the rest of a second
start. Here a program has two names. By the first it is known before it is traced: the function with all that it closes
over (`identity.py`), the source that it runs through, the versions, the machine and the shapes of its arguments. Where
that finds nothing, as after any edit, the second does: the text, which most edits leave as it was.

The first name cannot see that a function was replaced in a process that runs. So programs are kept by commands alone,
which say where (`PROGRAMS`), and not by whoever calls the package from Python; and not by one of several processes.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pickle
import platform
import re
import site
import sys
import sysconfig
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from atnas_jax.compiler import compile_on, lower_on, options_for
from atnas_jax.data.cache import in_place_of
from atnas_jax.job.identity import identity

PROGRAMS = "ATNAS_PROGRAMS"  # variable of the environment: the folder; "" or absent keeps none
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
_ELSEWHERE = ("jax_compilation_cache", "jax_persistent_cache", "jax_enable_compilation_cache", "jax_log")
_IMPORTED = time.time() - 0.1  # what is written later may not be what runs here; file systems have coarse clocks


def kept_program(
    mesh: Mesh, function: Callable, args: tuple, donate: tuple[int, ...] = (), **how: bool
) -> jax.stages.Compiled:
    """Return `compile_on` of the same arguments, of an earlier process where one kept it.

    A file that cannot be read is as good as none, and a program that cannot be written is compiled at every start.
    """
    folder, first = os.environ.get(PROGRAMS, ""), None
    if not folder or not jax.config.jax_enable_compilation_cache or jax.process_count() > 1:
        return compile_on(mesh, function, args, donate, **how)
    around = (_called(mesh, args, donate, how), _machine(), _settings())
    if None not in (made := (identity(function), _source())):
        first = _file(folder, function, made, around)
        if (program := _loaded(first, mesh, args)) is not None:
            return program
    lowered = lower_on(mesh, function, args, donate)
    text = lowered.as_text()
    options = options_for(text, **how)
    second = _file(folder, function, text, options, pickle.dumps(lowered.out_tree), around)
    if (program := _loaded(second, mesh, args)) is None:
        with _without_cache():
            program = lowered.compile(compiler_options=options)
        _keep(second, program)
    if first is not None:
        _link(first, second)
    return program


def _file(folder: str, function: Callable, *told: Any) -> Path:
    name = re.sub(r"\W", "", function.__name__)
    return Path(folder) / f"{name}-{hashlib.sha256(repr(told).encode()).hexdigest()}"


def _loaded(file: Path, mesh: Mesh, args: tuple) -> jax.stages.Compiled | None:
    try:
        content = file.read_bytes()
        digest, kept = content[:32], content[32:]
        if hashlib.sha256(kept).digest() != digest:
            return None
        payload, results = pickle.loads(zlib.decompress(kept))
        given, devices = jax.tree.structure((args, {})), list(mesh.devices.flat)
        return serialize_executable.deserialize_and_load(payload, given, results, devices[0].client, devices)
    except Exception:  # of the disk, of pickle or of XLA: it is compiled instead, which says what is wrong in earnest
        return None


def _keep(file: Path, program: jax.stages.Compiled) -> None:
    with contextlib.suppress(Exception):  # a full disk, a program that XLA cannot write: the run goes on without
        payload, _, results = serialize_executable.serialize(program)
        kept = zlib.compress(pickle.dumps((payload, results)), 1)
        with in_place_of(file) as unfinished:
            unfinished.write_bytes(hashlib.sha256(kept).digest() + kept)


def _link(name: Path, file: Path) -> None:
    with contextlib.suppress(OSError), in_place_of(name) as unfinished:  # a file system without links: traced again
        unfinished.symlink_to(file.name)


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


def _called(mesh: Mesh, args: tuple, donate: tuple[int, ...], how: dict[str, bool]) -> tuple[Any, ...]:
    leaves, tree = jax.tree.flatten(args)
    types = [(str(kind := jax.typeof(leaf)), kind.weak_type) for leaf in leaves]
    devices = [(str(one), one.device_kind, getattr(one, "compute_capability", "")) for one in mesh.devices.flat]
    return types, str(tree), devices, mesh.shape_tuple, donate, sorted(how.items())


@functools.cache
def _source() -> str | None:
    """Return a digest of this package, and of every module that is loaded and not of an installed library.

    None where one of them cannot be read, or was written after this process began.
    """
    paths = (*map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")), site.getusersitepackages())
    installed = [Path(path) for path in (*paths, *site.getsitepackages())]
    loaded = {Path(name) for one in list(sys.modules.values()) if (name := getattr(one, "__file__", None))}
    files = {path for path in loaded if path.suffix == ".py" and not any(map(path.is_relative_to, installed))}
    told = hashlib.sha256()
    try:
        for path in sorted(files | set(Path(__file__).parents[1].rglob("*.py"))):
            if path.stat().st_mtime > _IMPORTED:
                return None
            told.update(f"{path} {path.stat().st_size} ".encode() + path.read_bytes())
    except OSError:
        return None
    return told.hexdigest()


@functools.cache
def _machine() -> tuple[Any, ...]:
    """Return the versions of all that is installed, and what the processor can do."""
    versions = sorted(f"{found.name} {found.version}" for found in importlib.metadata.distributions())
    return versions, platform.python_version(), platform.machine(), _cpu_flags()


def _settings() -> tuple[Any, ...]:
    settings = sorted(
        (name, str(value)) for name, value in jax.config.values.items() if not name.startswith(_ELSEWHERE)
    )
    return settings, jax.devices()[0].client.platform_version, [os.environ.get(name) for name in _VARIABLES]


def _cpu_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
