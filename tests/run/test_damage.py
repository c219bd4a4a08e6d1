"""Whatever becomes of a checkpoint on the disk: the newest sound one is used with a line, or the run refuses."""

import os
import shutil

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from atnas_jax.job import checkpoint
from atnas_jax.job.checkpoint import DAMAGED, finish, open_checkpoints, restore_latest, save
from atnas_jax.job.faults import Fault
from atnas_jax.job.packed import sum_of

BLANK = {"w": jnp.zeros((40, 50)), "n": 0}


def _state(step):
    return {"w": jnp.asarray(np.random.default_rng(step).normal(size=(40, 50)), jnp.float32), "n": step}


def _cut(path):
    os.truncate(path, os.path.getsize(path) // 2)


def _turn(path):
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        data[len(data) // 2] ^= 255
        file.seek(0)
        file.write(data)


DAMAGES = {"cut": _cut, "emptied": lambda path: os.truncate(path, 0), "a byte turned": _turn, "missing": os.remove}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A workdir with checkpoints 1 and 2."""
    workdir = tmp_path_factory.mktemp("two")
    manager = open_checkpoints(str(workdir))
    for step in (1, 2):
        save(manager, step, _state(step), {"step": step})
    manager.close()
    return workdir


def _restored(workdir):
    """Return the step restored; what is restored is always that step's own, bit for bit."""
    manager = open_checkpoints(str(workdir))
    try:
        state, meta = restore_latest(manager, BLANK)
    finally:
        manager.close()
    np.testing.assert_array_equal(state["w"], _state(meta["step"])["w"])
    assert state["n"] == meta["step"]
    return meta["step"]


def _files(workdir, step):
    return sorted(p.relative_to(workdir) for p in (workdir / "checkpoints" / str(step)).rglob("*") if p.is_file())


@pytest.mark.parametrize("how", DAMAGES)
def test_each_file_of_the_last_checkpoint(two, tmp_path, capsys, how):
    fell_back = []
    for number, path in enumerate(_files(two, 2)):
        workdir = shutil.copytree(two, tmp_path / str(number))
        DAMAGES[how](workdir / path)
        step, err = _restored(workdir), capsys.readouterr().err
        if step == 2:  # a file of orbax that says nothing of the arrays
            assert err == "" and not (workdir / DAMAGED).exists(), path
            continue
        fell_back.append(path.parts[2:])
        assert step == 1 and err.startswith("warning: checkpoint 2 is damaged (") and err.count("\n") == 1, err
        assert "going on from checkpoint 1" in err
        assert (workdir / DAMAGED / "2").is_dir()
        assert _restored(workdir) == 1  # and is not looked at again
    assert ("note", "metadata") in fell_back
    assert any(parts[:1] == ("state",) and parts[-1] not in ("_METADATA", "commit_success.txt") for parts in fell_back)


def test_folders_that_are_missing_or_half_written(two, tmp_path, capsys):
    for part in ("note", "state"):
        workdir = shutil.copytree(two, tmp_path / part)
        shutil.rmtree(workdir / "checkpoints" / "2" / part)
        assert _restored(workdir) == 1
        assert "checkpoint 2 is damaged" in capsys.readouterr().err
    workdir = shutil.copytree(two, tmp_path / "half")
    half = workdir / "checkpoints" / "3.orbax-checkpoint-tmp"
    shutil.copytree(workdir / "checkpoints" / "2" / "note", half / "note")
    assert _restored(workdir) == 2 and not half.exists()


def test_a_run_goes_on_from_the_older_one_and_saves_the_same_step_again(two, tmp_path):
    workdir = shutil.copytree(two, tmp_path / "run")
    _cut(workdir / "checkpoints" / "2" / "note" / "metadata")
    manager = open_checkpoints(str(workdir))
    restore_latest(manager, BLANK)
    save(manager, 2, _state(2), {"step": 2})
    manager.close()
    assert _restored(workdir) == 2


def test_nothing_is_begun_anew_where_all_are_damaged(two, tmp_path):
    workdir = shutil.copytree(two, tmp_path / "run")
    for step in (1, 2):
        _turn(workdir / "checkpoints" / str(step) / "note" / "metadata")
    with pytest.raises(ValueError, match=r"all checkpoints in .* are damaged \(2: .*; 1: ") as caught:
        _restored(workdir)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(workdir / "checkpoints")) == ["1", "2"]


def test_a_newer_format_says_which_version_reads_it_and_an_older_one_is_read(tmp_path, monkeypatch):
    manager = open_checkpoints(str(tmp_path / "newer"))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 99)
        patch.setattr(checkpoint, "versions", lambda: {"atnas_jax": "9.8"})
        save(manager, 1, _state(1), {"step": 1})
        finish(manager)
    with pytest.raises(ValueError, match=r"has format 99 of atnas_jax 9.8, .* install atnas_jax 9.8 or newer"):
        restore_latest(manager, BLANK)
    manager.close()
    named = list(_state(1).items())
    leaves = [[f"['{name}']", np.asarray(leaf).dtype.name, list(np.shape(leaf))] for name, leaf in sorted(named)]
    arrays = {str(i): np.asarray(leaf) for i, (_, leaf) in enumerate(sorted(named))}
    first = {"leaves": leaves, "meta": {"step": 1}}  # as format 1 was written
    second = first | {"format": 2, "library": "0.1.0", "score": None, "arrays": sum_of(arrays)}
    second |= {"sum": checkpoint._sum_of_note(second)}
    for name, note in {"first": first, "second": second}.items():
        manager = open_checkpoints(str(tmp_path / name))
        manager.save(1, args=ocp.args.Composite(state=ocp.args.StandardSave(arrays), note=ocp.args.JsonSave(note)))
        manager.close()
        assert _restored(tmp_path / name) == 1


def test_the_sum_is_that_of_the_checkpoints_that_exist():
    """Of format 2, a scalar among the arrays: the sum is in every checkpoint, and may never change."""
    arrays = {"0": np.arange(6, dtype=np.float32).reshape(2, 3), "1": np.array(7, np.int32)}
    assert sum_of(arrays) == "47aa13fda1b259b56667c9ceca7725467e8fa989af8ecb682c2c1eeaac79dc5f"


def test_the_best_is_kept_besides_the_last(tmp_path):
    manager = open_checkpoints(str(tmp_path), keep=2)
    for step, score in ((1, None), (2, 0.5), (3, 0.9), (4, 0.1), (5, 0.2), (6, 0.3)):
        save(manager, step, _state(step), {"step": step}, score)
    finish(manager)
    assert sorted(manager.all_steps()) == [3, 5, 6]
    manager.close()


def test_what_is_saved_is_what_was_there_at_the_call(tmp_path):
    """Writing goes on in a thread, while buffers are donated and the history grows."""
    manager = open_checkpoints(str(tmp_path))
    host, history = np.ones((2000, 500), np.float32), [1]
    save(manager, 1, {"w": host}, {"history": history})
    host[:] = 2
    history.append(2)
    finish(manager)
    state, meta = restore_latest(manager, {"w": np.zeros((2000, 500), np.float32)})
    manager.close()
    assert (state["w"] == 1).all() and meta == {"history": [1]}


def test_a_disk_that_fails_is_one_line_and_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    manager = open_checkpoints(str(tmp_path))
    save(manager, 1, _state(1), {"step": 1})
    finish(manager)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(manager, "save", full)
        with pytest.raises(Fault, match=r"cannot be written into .*No space left.* make room") as caught:
            save(manager, 2, _state(2), {"step": 2})
    assert "\n" not in str(caught.value)
    manager.close()
    assert _restored(tmp_path) == 1
