"""Checkpoints: bit for bit, whole or absent, and refused where they do not fit."""

import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.job.checkpoint import finish, open_checkpoints, restore_latest, save


class State(NamedTuple):
    """One leaf of every kind."""

    params: dict
    opt_state: tuple
    half: jax.Array
    seed: np.ndarray
    scalar: np.float64
    generation: int
    seconds: float
    done: bool
    empty: jax.Array
    nothing: None


def _state(seed: int) -> State:
    rng = np.random.default_rng(seed)
    params = {"w": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), "b": jnp.array([np.nan, -0.0, np.inf, 1e-45])}
    return State(
        params=params,
        opt_state=optax.adam(1e-3).init(params),
        half=jnp.asarray(rng.normal(size=7), jnp.bfloat16),
        seed=rng.integers(0, 2**32, 2, dtype=np.uint32),
        scalar=np.float64(rng.normal()),
        generation=int(rng.integers(100)),
        seconds=float(rng.normal()),
        done=bool(seed % 2),
        empty=jnp.zeros((0, 5), jnp.int32),
        nothing=None,
    )


def _assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert isinstance(y, jax.Array) if isinstance(x, jax.Array) else type(x) is type(y)
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert x.tobytes() == y.tobytes()


def test_there_is_nothing_to_restore_in_a_new_folder(tmp_path):
    assert restore_latest(open_checkpoints(str(tmp_path / "new")), _state(0)) is None


def test_a_state_of_every_kind_comes_back_bit_for_bit_in_another_manager(tmp_path):
    meta = {"phase": "search", "seconds": 0.1, "rows": [1, 2], "nothing": None}
    manager = open_checkpoints(str(tmp_path))
    save(manager, 3, _state(1), meta)
    manager.close()
    state, restored = restore_latest(open_checkpoints(str(tmp_path)), _state(2))
    _assert_same(_state(1), state)
    assert restored == meta


def test_a_restored_state_does_not_compile_a_function_again(tmp_path):
    step = jax.jit(lambda x: x + 1)
    state = step(jnp.zeros(3))
    step(state)
    compiled = step._cache_size()
    manager = open_checkpoints(str(tmp_path))
    save(manager, 1, state, {})
    step(restore_latest(manager, jnp.zeros(3))[0])
    assert step._cache_size() == compiled


def test_the_last_ones_are_kept_and_the_latest_is_restored(tmp_path):
    manager = open_checkpoints(str(tmp_path), keep=2)
    for step in (1, 5, 20):
        save(manager, step, {"x": jnp.float32(step)}, {"step": step})
    finish(manager)
    assert sorted(manager.all_steps()) == [5, 20]
    state, meta = restore_latest(manager, {"x": jnp.float32(0)})
    assert (float(state["x"]), meta) == (20.0, {"step": 20})


def test_steps_must_grow(tmp_path):
    manager = open_checkpoints(str(tmp_path))
    save(manager, 5, {"x": 1}, {})
    with pytest.raises(ValueError, match="checkpoint 5 does not follow 5"):
        save(manager, 5, {"x": 2}, {})
    assert restore_latest(manager, {"x": 0})[0] == {"x": 1}


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"w": jnp.zeros((3, 5))}, r"it has \['w'\] float32 \[3, 4\], this run has \['w'\] float32 \[3, 5\]"),
        ({"w": jnp.zeros((3, 4), jnp.int32)}, r"this run has \['w'\] int32"),
        ({"v": jnp.zeros((3, 4))}, r"this run has \['v'\]"),
        ({"w": jnp.zeros((3, 4)), "x": 1}, "it has 1 arrays, this run has 2"),
    ],
)
def test_a_checkpoint_of_another_config_is_refused_in_one_line(tmp_path, template, says):
    manager = open_checkpoints(str(tmp_path))
    save(manager, 1, {"w": jnp.zeros((3, 4))}, {})
    with pytest.raises(ValueError, match=says) as caught:
        restore_latest(manager, template)
    assert "\n" not in str(caught.value)


def test_keys_and_other_things_are_refused(tmp_path):
    manager = open_checkpoints(str(tmp_path))
    with pytest.raises(ValueError, match="is a PRNG key"):
        save(manager, 1, {"key": jax.random.key(0)}, {})
    with pytest.raises(ValueError, match="is a str"):
        save(manager, 1, {"name": "x"}, {})
    assert manager.latest_step() is None


WRITER = """
import sys
import jax.numpy as jnp
from atnas_jax.job.checkpoint import finish, open_checkpoints, restore_latest, save

manager = open_checkpoints(sys.argv[1])
found = restore_latest(manager, {"x": jnp.zeros((300, 1000)), "y": jnp.int32(0)})
step = 0 if found is None else int(found[0]["y"])
print("from", step, flush=True)
while True:
    step += 1
    print("saving", step, flush=True)
    save(manager, step, {"x": jnp.full((300, 1000), step, jnp.float32), "y": jnp.int32(step)}, {"step": step})
    finish(manager)
    print("saved", step, flush=True)
"""


def test_a_kill_in_the_middle_of_a_save_leaves_the_last_whole_checkpoint(tmp_path):
    saved, unfinished = 0, 0
    for attempt in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        lines = [process.stdout.readline().split()]
        assert lines[0] == ["from", str(saved)]  # the run before was killed, this one goes on where it was
        while lines[-1] != ["saving", str(saved + 2)]:
            lines.append(process.stdout.readline().split())
        time.sleep(0.004 + 0.015 * attempt)  # another moment of the save each time
        os.kill(process.pid, signal.SIGKILL)
        lines += [line.split() for line in process.stdout.read().splitlines()]
        process.wait()
        unfinished += lines[-1][0] == "saving"
        saved = max(int(step) for word, step in lines if word == "saved")
        state, meta = restore_latest(open_checkpoints(str(tmp_path)), {"x": jnp.zeros((300, 1000)), "y": jnp.int32(0)})
        # the save may have been whole an instant before the process could say so
        assert int(state["y"]) in (saved, saved + 1)
        saved = int(state["y"])
        assert meta == {"step": saved}
        np.testing.assert_array_equal(state["x"], np.full((300, 1000), saved, np.float32))
    assert unfinished > 0
