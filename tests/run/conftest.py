"""One tiny data set and one finished tiny run, shared by all tests of the host loops."""

import contextlib
import fcntl
import importlib.util
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from atnas_jax.evidence import choose
from atnas_jax.novel.meta_network import MetaNetwork, load_meta_network
from atnas_jax.run import units
from atnas_jax.run.search import across_task_search

TINY = Path(__file__).with_name("tiny.py")
SPLIT = ("meta_train",) * 8 + ("meta_valid",) * 6 + ("meta_test",) * 6
SHORT = {"meta_test.rows": ("adapted", "best", "conv4"), "meta_test.other_normalisation": False}


@contextlib.contextmanager
def quick_compilation() -> Iterator[None]:
    """Compile with few optimisations and keep every program, here and in the subprocesses that are started here."""
    names = {"jax_disable_most_optimizations": True, "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: jax.config.values[name] for name in names}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(autouse=True, scope="module")
def _quick():
    with quick_compilation():
        yield


def once(tmp_path_factory, name: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder that fill(folder) has filled, the same one for all workers of pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / f"{name}.done").exists():
            fill(root / name)
            (root / f"{name}.done").touch()
    return root / name


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """An npz of 20 classes with 10 images 10x10 each, a noisy pattern per class; no two images are equal."""

    def fill(folder: Path) -> None:
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(len(SPLIT)), 10)
        images = rng.integers(0, 156, (len(SPLIT), 10, 10))[labels] + rng.integers(0, 100, (len(labels), 10, 10))
        folder.mkdir()
        np.savez(folder / "tiny.npz", images=images.astype(np.uint8), labels=labels, class_split=SPLIT)

    return once(tmp_path_factory, "data", fill) / "tiny.npz"


@pytest.fixture(scope="session")
def classes(tiny_data) -> np.ndarray:
    """The images of `tiny_data` by class, uint8 [20,10,10,10]; those of meta_test are the last six."""
    with np.load(tiny_data) as file:
        return file["images"].reshape(len(SPLIT), 10, 10, 10)


@pytest.fixture(scope="session")
def tiny(tiny_data) -> Callable[..., ConfigDict]:
    """Return tiny({dotted name: value}) -> the config of tiny.py with these changes."""
    spec = importlib.util.spec_from_file_location("tiny", TINY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def make(changes: dict[str, Any] | None = None) -> ConfigDict:
        config = module.get_config()
        config.update_from_flattened_dict({"data.source": str(tiny_data)} | (changes or {}))
        return config

    return make


class Finished(NamedTuple):
    """A finished run; `compiled` counts programs by name, `late` names those of all units but the first two."""

    workdir: str
    config: ConfigDict
    results: dict[str, Any]
    compiled: dict[str, int]
    late: list[str]


def _watched_run(config: ConfigDict, workdir: Path) -> None:
    """Run a search and count its compilations, into compiled.json."""
    compiled, late, in_late_unit, search_unit = Counter(), [], [], units.search_unit

    def listen(event: str, _: float, **about) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled[about["fun_name"]] += 1
            late.extend([about["fun_name"]] * len(in_late_unit))

    def watched(run, state, unit):
        in_late_unit.extend([unit] * (unit >= 2))
        state = search_unit(run, state, unit)
        in_late_unit.clear()
        return state

    jax.monitoring.register_event_duration_secs_listener(listen)
    with quick_compilation(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "search_unit", watched)
        patch.setattr(choose, "CHUNK", 4)  # of 6 episodes: two chunks, the second filled up
        across_task_search(config, str(workdir), quiet=True)
    (workdir / "compiled.json").write_text(json.dumps([compiled, late]))


def _finished(config: ConfigDict, workdir: Path) -> Finished:
    results, counts = json.loads((workdir / "results.json").read_text()), workdir / "compiled.json"
    return Finished(str(workdir), config, results, *(json.loads(counts.read_text()) if counts.exists() else ({}, [])))


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory) -> Finished:
    """A run of the whole tiny config, whose compilations were counted."""
    config = tiny()
    return _finished(config, once(tmp_path_factory, "finished", lambda folder: _watched_run(config, folder)))


@pytest.fixture(scope="module")
def network(finished) -> MetaNetwork:
    """The meta-network of the finished run."""
    return load_meta_network(finished.workdir)


@pytest.fixture(scope="session")
def short(tiny, tmp_path_factory) -> Finished:
    """A run of the tiny config with three rows in one normalisation."""
    config = tiny(SHORT)

    def fill(folder: Path) -> None:
        with quick_compilation():
            across_task_search(config, str(folder), quiet=True)

    return _finished(config, once(tmp_path_factory, "short", fill))
