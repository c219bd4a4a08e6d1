"""Programs compiled ahead: once for a set of shapes, on every device, and telling what they take."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.devices import AXIS, make_mesh, map_rows
from atnas_jax.job.compiled import compiled, divide_cpu


def twice(x):
    return 2 * x


def test_each_set_of_shapes_compiles_once_and_says_what_it_takes():
    clock, told = {"compile_s": 0.0}, []
    program = compiled(twice, clock, note=told.append)
    for value in (1.0, 3.0):
        assert np.all(program(jnp.full(1_000_000, value)) == 2 * value)
    seconds = clock["compile_s"]
    assert seconds > 0 and len(told) == 1
    assert re.fullmatch(r"compiled twice in \d+\.\d s; 8 MB a device", told[0])  # 4 MB in, 4 MB out
    assert program(np.float32(4)) == 8 and len(told) == 2 and clock["compile_s"] > seconds


def test_a_program_takes_values_from_anywhere_and_leaves_them_on_every_device():
    everywhere, first = make_mesh(4), make_mesh(1)
    rows = compiled(lambda x: map_rows(twice, x, axis=AXIS), {"compile_s": 0.0}, mesh=everywhere)(np.arange(5.0))
    assert rows.sharding.device_set == set(jax.devices()[:4]) and rows.is_fully_replicated
    back = compiled(twice, {"compile_s": 0.0}, mesh=first)(rows)
    assert back.sharding.device_set == {jax.devices()[0]}
    np.testing.assert_array_equal(back, 4 * np.arange(5))


def test_the_cpu_is_divided_as_asked_or_one_a_core(monkeypatch):
    asked = []
    monkeypatch.setattr(jax.config, "update", lambda name, value: asked.append((name, value)))
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")
    divide_cpu(0)
    assert asked == []  # the environment has the say
    divide_cpu(2)
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    divide_cpu(0)
    assert asked == [("jax_num_cpu_devices", 2), ("jax_num_cpu_devices", 3)]
