"""What goes wrong while a run runs: numbers that are not finite, the device, the disk, signals, a second run."""

import errno
import gc
import json
import os
import signal
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.job.compiled import compiled
from atnas_jax.job.faults import Fault, count_nonfinite, device_fault, too_many
from atnas_jax.job.files import only_run
from atnas_jax.job.progress import Progress
from atnas_jax.job.state import keep_config
from atnas_jax.meta.average import averaged
from atnas_jax.meta.losses import accuracy
from atnas_jax.meta.maml import outer_step
from atnas_jax.run import search, units
from atnas_jax.run.preemption import Stopped, finishes_first
from atnas_jax.types import MetaState


def _outcome(workdir, *without):
    with open(os.path.join(workdir, "results.json"), encoding="utf-8") as file:
        results = {name: value for name, value in json.load(file).items() if name not in ("ledger", *without)}
    with np.load(os.path.join(workdir, "meta_network.npz")) as file:
        return results, {name: file[name].tobytes() for name in file.files if name != "about"}


def _told(monkeypatch, update):
    monkeypatch.setattr(search, "make_progress", lambda *_: Progress(update, lambda _: None, lambda: None))


# Numbers


def _toy(gradient, loss=lambda mask: mask.sum()):
    """Return a step of one weight and its first state; the mask [T,1,1] of a task is its gradient, or its loss."""
    outer = averaged(optax.adam(0.1), 0.9)
    step = outer_step(lambda params, mask, _: ({"w": gradient(mask)}, {"loss": loss(mask)}), outer, 1)
    params = {"w": jnp.float32(3.0)}
    return jax.jit(step), MetaState(jnp.int32(0), params, outer.init(params))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["gradient", "loss"])
def test_an_update_that_is_not_finite_leaves_weights_optimiser_and_average_as_they_are(where, bad):
    step, state = _toy(jnp.sum, jnp.sum) if where == "gradient" else _toy(lambda mask: jnp.float32(1), jnp.sum)
    good, mixed = jnp.ones((2, 1, 1)), jnp.asarray([[[1.0]], [[bad]]])
    state, metrics = step(state, good, jnp.zeros(2))
    assert not metrics["skipped"] and float(state.params["w"]) != 3
    after, metrics = step(state, mixed, jnp.zeros(2))
    assert metrics["skipped"] and int(after.step) == 2
    jax.tree.map(np.testing.assert_array_equal, after[1:], state[1:])
    assert not step(after, good, jnp.zeros(2))[1]["skipped"]


def test_skips_in_a_row_are_counted_over_chunks():
    notes = {}
    assert count_nonfinite(notes, [True, False, True, True]) == 3
    assert not too_many(notes, 3)
    assert count_nonfinite(notes, [True, False, False, False]) == 1
    assert too_many(notes, 3) and not too_many(notes, 4)
    notes["nonfinite"] = 9  # of a run that was stopped for it, and goes on well
    count_nonfinite(notes, [False])
    assert not too_many(notes, 3)
    count_nonfinite(notes, [True, True, False, True])
    assert not too_many(notes, 3)


def test_a_query_whose_logits_are_not_finite_is_wrong():
    logits = jnp.asarray([[2.0, 1.0], [jnp.nan, 1.0], [jnp.inf, 1.0], [2.0, -jnp.inf]])
    assert float(accuracy(logits, jnp.zeros(4, jnp.int32))) == 0.25


def test_a_run_that_diverges_stops_and_is_saved(short, tmp_path, monkeypatch):
    """Weights that are not finite from the start; the programs are those of `short`."""
    config = short.config.copy_and_resolve_references()
    config.train.nonfinite_limit = 3  # reached in the second chunk of two
    begin = units.init_state

    def poisoned(*args):
        state = begin(*args)
        return state._replace(meta=state.meta._replace(params=jax.tree.map(lambda x: x * np.nan, state.meta.params)))

    monkeypatch.setattr(units, "init_state", poisoned)
    with pytest.raises(Fault, match=r"4 outer steps in a row .*limit is 3; .* lower train.outer_lr") as caught:
        search.across_task_search(config, str(tmp_path), quiet=True)
    assert "\n" not in str(caught.value)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["skipped"] for row in rows if row["phase"] == "meta_train"] == [2, 2]
    assert sorted(os.listdir(tmp_path / "checkpoints"))[-1] == "2"


# The device


def test_a_program_that_is_too_large_says_what_to_lower():
    def fitness(x):
        return jnp.broadcast_to(x, (2**22, 2**22)) * 2

    with pytest.raises(Fault, match=r"not memory enough for fitness.*RESOURCE_EXHAUSTED.*lower search.batch") as caught:
        jax.block_until_ready(compiled(fitness, {"compile_s": 0.0})(jnp.float32(1)))
    assert "MB a device" in str(caught.value) and "\n" not in str(caught.value)


def test_a_program_that_does_not_compile_says_so():
    line = str(device_fault(jax.errors.JaxRuntimeError("INTERNAL: no such\nkernel"), "train_chunk"))
    assert line.startswith("train_chunk does not compile (INTERNAL: no such kernel)") and "net.conv" in line


def test_processes_that_lost_each_other_are_not_taken_for_a_lack_of_memory():
    error = jax.errors.JaxRuntimeError("UNKNOWN: Gloo context initialization failed: DEADLINE_EXCEEDED: GetKeyValue()")
    line = str(device_fault(error, "fitness", 3.0))
    assert line.startswith("the processes of this run lost each other (UNKNOWN: Gloo") and "memory" not in line


# Signals and a second run


def test_a_signal_finishes_the_chunk_saves_and_the_run_goes_on(short, tiny, tmp_path, monkeypatch, capfd):
    """The 3rd chunk is signalled; without the signal no checkpoint would be due. The 5th is of the control."""
    seldom = short.config.copy_and_resolve_references()
    seldom.log.checkpoint_minutes = 1e6
    done, at, before = [0], set(), signal.getsignal(signal.SIGTERM)

    def update(*_, **__):
        done[0] += 1
        if done[0] in at:
            os.kill(os.getpid(), signal.SIGTERM if done[0] == 3 else signal.SIGINT)

    _told(monkeypatch, update)
    for units_saved in (3, 5):
        at.add(units_saved)
        with pytest.raises(Stopped, match=f"{units_saved} of 8 units saved; the same command goes on"):
            search.across_task_search(seldom, str(tmp_path), quiet=True)
        assert sorted(os.listdir(tmp_path / "checkpoints"))[-1] == str(units_saved)
        assert "finishing this chunk" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and len(rows) >= 5  # the stopwatch went on


def test_a_second_signal_stops_at_once():
    with finishes_first() as asked:
        assert asked() == ""
        os.kill(os.getpid(), signal.SIGINT)
        assert asked() == "SIGINT"
        with pytest.raises(Stopped, match="a second SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_two_runs_in_one_workdir(short, tmp_path):
    with only_run(str(tmp_path)), pytest.raises(ValueError, match=f"in use by process {os.getpid()} on ") as caught:
        search.across_task_search(short.config, str(tmp_path), quiet=True)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == [".lock"]
    with only_run(str(tmp_path)):  # the file stays, the lock does not
        pass


# Settings that changed


def test_harmless_changes_are_accepted_with_the_flag_alone(short, tmp_path):
    workdir = str(tmp_path)
    keep_config(workdir, short.config)
    changed = short.config.copy_and_resolve_references()
    changed.log.keep = 5
    with pytest.raises(ValueError, match=r"other settings \(log.keep\); --accept_changes goes on"):
        keep_config(workdir, changed)
    keep_config(workdir, changed, accept=True)
    keep_config(workdir, changed)
    changed.adapt.update({"margin": 1.5, "seconds": 3.0})
    changed.data.split = "file:moved.txt"  # the fingerprint says whether that is the same
    keep_config(workdir, changed, accept=True)
    changed.train.outer_lr = 0.5
    with pytest.raises(ValueError, match=r"\(train.outer_lr\); type another"):
        keep_config(workdir, changed, accept=True)


def test_a_setting_younger_than_the_run_does_not_differ(short, tmp_path):
    record = json.loads(short.config.to_json())
    del record["train"]["nonfinite_limit"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    keep_config(str(tmp_path), short.config)


# The disk


def test_a_full_disk_stops_with_a_line_and_the_run_goes_on_when_there_is_room(short, tmp_path, capfd, caplog):
    """A file system in memory that grows only after it was full, from the first file on to the end of the run."""
    disk, failures = tmp_path / "disk", []
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    try:
        workdir = str(disk / "run")
        for size in (16, 80, 120, 160, 8192):
            subprocess.run(["mount", "-o", f"remount,size={size}k", disk], check=True)
            try:
                search.across_task_search(short.config, workdir, quiet=True)
                break
            except (OSError, Fault) as error:
                assert "No space left" in str(error) or "make room" in str(error)
                failures.append(str(error))
        assert len(failures) >= 1 and any("checkpoint" in line for line in failures), failures
        gc.collect()  # asyncio tells of an error that nobody asked for when the task goes
        assert capfd.readouterr().err == "" and caplog.records == []
        assert _outcome(workdir) == _outcome(short.workdir)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_metrics_file_that_cannot_be_written_leaves_what_was_saved(short, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")

    opened = units.open_metrics
    monkeypatch.setattr(units, "open_metrics", lambda *args: opened(*args)._replace(write=full))
    with pytest.raises(OSError, match="No space left"):
        search.across_task_search(short.config, str(tmp_path), quiet=True)
    monkeypatch.undo()
    with only_run(str(tmp_path)):
        pass
