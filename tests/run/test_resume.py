"""A run that was stopped, and started again, ends bit for bit as if nothing had happened."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from atnas_jax.job.progress import Progress
from atnas_jax.run import search
from atnas_jax.run.generations import read_generations

TIMINGS = ("seconds", "episodes_per_s")
FLAGS = (
    "--config=tests/run/tiny.py",
    "--config.meta_test.rows=('adapted', 'best', 'conv4')",
    "--config.meta_test.other_normalisation=False",
)


def _outcome(workdir):
    """Everything that a run leaves and that does not depend on time."""
    with open(os.path.join(workdir, "results.json"), encoding="utf-8") as file:
        results = {name: value for name, value in json.load(file).items() if name != "ledger"}
    with open(os.path.join(workdir, "metrics.jsonl"), encoding="utf-8") as file:
        rows = [{k: v for k, v in json.loads(line).items() if k not in TIMINGS} for line in file]
    generations, arrays = read_generations(workdir), {}
    for kind in ("meta_network.npz", "meta_test.npz"):
        with np.load(os.path.join(workdir, kind)) as file:
            arrays |= {(kind, name): (file[name].dtype, file[name].shape, file[name].tobytes()) for name in file.files}
    return results, rows, generations, arrays


def _assert_same(one, other):
    for part, twin in zip(_outcome(one), _outcome(other), strict=True):
        assert part == twin


def test_stopped_in_process(short, tmp_path, monkeypatch):
    """Update 1-4 comes after a chunk of the supernet, 5-8 of the control, 9-11 after a row of the meta-test."""
    left, done = [0], 0

    def update(*_, **__):
        left[0] -= 1
        if left[0] == 0:
            raise InterruptedError("stopped")

    monkeypatch.setattr(search, "make_progress", lambda *_: Progress(update, lambda _: None, lambda: None))
    for stop in (3, 6, 9):
        left[0] = stop - done
        with pytest.raises(InterruptedError):
            search.across_task_search(short.config, str(tmp_path), quiet=True)
        assert not (tmp_path / "results.json").exists()
        done = stop - 1  # the unit whose update raised was not saved
    left[0] = 0
    search.across_task_search(short.config, str(tmp_path), quiet=True)
    _assert_same(short.workdir, tmp_path)


def _start(repo, workdir, data):
    call = [sys.executable, "-m", "launch.search", *FLAGS, f"--config.data.source={data}", f"--workdir={workdir}"]
    return subprocess.Popen(call, cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _has_metrics(workdir, phase, rows):
    path = workdir / "metrics.jsonl"
    return path.exists() and path.read_text().count(f'"phase": "{phase}"') >= rows


MOMENTS = {
    "training": lambda workdir: _has_metrics(workdir, "meta_train", 1),
    "a checkpoint is written": lambda workdir: any(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*")),
    "a generation": lambda workdir: _has_metrics(workdir, "search", 1),
    "the meta-test": lambda workdir: (workdir / "meta_network.npz").exists(),
}
STOPPED = 75  # of launch/_main.py


def _kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def _ends_as_if_left_alone(process, workdir, twin):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "adapted" in out and "conv4" in out
    _assert_same(twin, workdir)
    return err


def test_killed_in_a_process_of_its_own(short, tmp_path, repo):
    workdir = tmp_path / "run"
    for moment, reached in MOMENTS.items():
        process = _start(repo, workdir, short.config.data.source)
        while process.poll() is None and not reached(workdir):
            time.sleep(0.002)
        assert process.poll() is None, f"ended before {moment}: {process.communicate()}"
        if moment == "a generation":  # one of them is asked to end, which it does in order
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=300)
            assert process.returncode == STOPPED, err
            assert "stopped by SIGTERM" in err.splitlines()[-1] and "Traceback" not in err
        else:
            _kill(process)
        assert not (workdir / "results.json").exists(), moment
    err = _ends_as_if_left_alone(_start(repo, workdir, short.config.data.source), workdir, short.workdir)
    assert "goes on after 8 of 8 units" in err


def test_killed_at_random_moments(short, tmp_path, repo):
    """The moment differs from run to run and lies anywhere after the first file; ATNAS_KILLS asks for more of them."""
    rng, workdir = np.random.default_rng(), tmp_path / "run"
    for _ in range(int(os.environ.get("ATNAS_KILLS", 1))):
        process = _start(repo, workdir, short.config.data.source)
        while process.poll() is None and not (workdir / "config.json").exists():
            time.sleep(0.002)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.0, 8.0))
        if process.poll() is None:
            _kill(process)
        else:  # ended before its moment: once more from the start
            _ends_as_if_left_alone(process, workdir, short.workdir)
            shutil.rmtree(workdir)
    _ends_as_if_left_alone(_start(repo, workdir, short.config.data.source), workdir, short.workdir)
