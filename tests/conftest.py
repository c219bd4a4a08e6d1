"""Settings of every test process: the CPU, and one compilation cache, which the subprocesses of tests share.

It stays in the user's cache folder, so that the next run of the tests, from whatever checkout, compiles only what is
new: JAX finds a program by its text, its options and the version of the compiler.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atnas_jax.data.cache import cache_folder

REPO = Path(__file__).resolve().parents[1]

# Before anything imports jax. Subprocesses inherit them.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder() / "tests"))
os.environ.pop("ATNAS_PROGRAMS", None)  # of commands alone: tests replace functions, which it cannot see
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.0")  # eager ops are many small programs


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return REPO


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of large data sets beside the repository; the test is skipped where it is absent."""
    folder = REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


@pytest.fixture(scope="session")
def noisy_episodes():
    """Return make(tasks, ways, shots, queries, image, noise): images that are noise around one picture a class.

    So accuracies are neither 0 nor 1.
    """
    import jax.numpy as jnp  # after the environment above
    import numpy as np

    from atnas_jax.types import Episode

    def make(tasks, ways, shots, queries, image, noise):
        rng = np.random.default_rng(0)
        centres, fields = rng.normal(size=(tasks, ways, *image)), []
        for each in (shots, queries):
            labels = np.tile(np.repeat(np.arange(ways), each), (tasks, 1)).astype(np.int32)
            images = np.take_along_axis(centres, labels[:, :, None, None, None], 1)
            fields += [(images + noise * rng.normal(size=images.shape)).astype(np.float32), labels]
        return Episode(*map(jnp.asarray, fields))

    return make


@pytest.fixture(scope="module")
def few_optimisations():
    """Compile with few optimisations: for tests of which compiling is most of the time."""
    import jax  # after the environment above

    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def command(repo) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """Return command(module, *flags): run `python -m launch.MODULE` to its end, in a fork of served.py."""
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "True", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.0"}
    quick["PYTHONDONTWRITEBYTECODE"] = "1"  # of a config file, beside it
    server = subprocess.Popen(
        [sys.executable, str(repo / "tests" / "served.py")], cwd=repo, env=os.environ | quick, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def run(module: object, *flags: object) -> subprocess.CompletedProcess:
        call = [str(module), *map(str, flags)]
        print(json.dumps(call), file=server.stdin, flush=True)
        return subprocess.CompletedProcess(call, *json.loads(server.stdout.readline()))

    yield run
    server.stdin.close()
    server.wait()
