"""The number of devices changes nothing but the time: shares, sums and a whole outer step, to the bit."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax import compiler, devices
from atnas_jax.bench.works import Sizes, draw_episodes, meta_step, space_of
from atnas_jax.compiler import compile_on, compiler_options
from atnas_jax.devices import (
    AXIS,
    POPULATION,
    TASKS,
    agreed,
    devices_for,
    make_mesh,
    map_rows,
    mesh_for,
    on_mesh,
    replicated,
    sum_rows,
)
from atnas_jax.job.compiled import one_a_core
from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.slots import mask_of, random_genotypes

pytestmark = pytest.mark.usefixtures("few_optimisations")


def on(shape, function, *args):
    mesh = make_mesh(*shape) if isinstance(shape, tuple) else make_mesh(shape)
    return jax.tree.map(np.asarray, jax.jit(on_mesh(function, mesh))(*args))


@pytest.mark.parametrize("shape", [1, 2, 3, 4, (2, 2), (1, 3)])
@pytest.mark.parametrize("batch", [1, 2])
def test_rows_are_shared_and_come_back_in_order(shape, batch):
    rows = jnp.arange(7.0)
    found = on(shape, lambda rows: map_rows(lambda x: {"twice": 2 * x}, rows, batch, AXIS), rows)
    np.testing.assert_array_equal(found["twice"], 2 * rows)
    np.testing.assert_array_equal(map_rows(lambda x: 2 * x, rows), 2 * rows)


@pytest.mark.parametrize("shape", [1, 3, (2, 2)])
def test_padding_behind_the_rows_is_neither_computed_nor_counted(shape):
    """Devices have equal shares of the real rows alone, each of which says who computed it."""
    rows = jnp.arange(1.0, 8.0)

    def share(rows, real):
        def one(x):
            return jnp.stack([x, -x]), devices.place(AXIS)[1] + 1, x > 0

        return map_rows(one, rows, axis=AXIS, real=real)

    number = np.prod(shape)
    for real in range(8):
        found, who, positive = on(shape, share, rows, jnp.int32(real))
        assert positive.dtype == bool and positive.tolist() == (np.arange(7) < real).tolist()
        np.testing.assert_array_equal(found[:real], np.stack([rows, -rows], 1)[:real])
        assert not found[real:].any() and not who[real:].any()
        np.testing.assert_array_equal(who[:real], 1 + np.arange(real) // -(-real // number))
        np.testing.assert_array_equal(map_rows(lambda x: 2 * x, rows, real=real), 2 * rows * (rows <= real))


def test_a_sum_over_rows_does_not_depend_on_the_number_of_devices():
    rows = jax.random.normal(jax.random.key(0), (16, 1000)) * 10.0 ** jax.random.randint(
        jax.random.key(1), (16, 1), -3, 4
    )
    alone = np.asarray(jax.jit(lambda rows: sum_rows(jnp.sin, rows))(rows))
    np.testing.assert_allclose(alone, np.sin(rows).sum(0), atol=1e-4)
    for number in (1, 2, 4):
        np.testing.assert_array_equal(on(number, lambda rows: sum_rows(jnp.sin, rows, AXIS), rows), alone)


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("spread", [sum_rows, map_rows])
def test_a_device_with_one_row_loops_like_one_with_many(spread, number):
    """XLA dissolves a loop of one turn, and what is fused with its surroundings rounds otherwise."""
    rows = jax.random.normal(jax.random.key(0), (4, 100))
    program = jax.jit(on_mesh(lambda rows: spread(jnp.sin, rows, axis=AXIS), make_mesh(number)))
    text = program.lower(rows).compile(compiler_options=compiler_options()).as_text()
    assert text.count(" while(") == 1


def test_more_devices_than_lanes_add_in_an_order_of_their_own(monkeypatch):
    monkeypatch.setattr(devices, "LANES", 2)
    rows = jax.random.normal(jax.random.key(0), (8, 100))
    mesh = make_mesh(4)
    summed = jax.jit(on_mesh(lambda rows: sum_rows(jnp.sin, rows, AXIS), mesh))
    np.testing.assert_allclose(summed(rows), np.sin(rows).sum(0), atol=1e-5)
    text = summed.lower(rows).compile().as_text()
    assert "all-reduce" in text and "all-gather" not in text


def test_lines_of_devices_agree_on_the_values_of_the_first():
    """Each device finds its own number on the population axis; without agreement they would differ."""

    def own():
        line = jax.lax.axis_index(POPULATION)
        found = {"float": jnp.where(line == 0, jnp.asarray([-0.0, 5.0]), 7.0), "int": 3 + line, "bool": line > 0}
        return jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS), (found, agreed(found)))

    before, after = on((2, 2), own)
    assert sorted(before["int"]) == [3, 3, 4, 4]
    assert after["float"].tobytes() == np.asarray([[-0.0, 5.0]] * 4, np.float32).tobytes()
    assert after["int"].tolist() == [3] * 4 and after["bool"].tolist() == [False] * 4


def test_the_layout_of_the_mesh_is_the_one_asked_for():
    for rows, layout, shape in [(6, "", (3, 1)), (4, "", (4, 1)), (4, "tasks:2,population:2", (2, 2)),
                                (2, "tasks:1,population:4", (1, 4))]:  # fmt: skip
        assert tuple(mesh_for(rows, layout).shape.values()) == shape
    assert list(mesh_for(4, "tasks:2,population:2").devices[:, 0]) == jax.devices()[:2]  # neighbours share gradients


def test_a_layout_and_a_limit_are_one_too_many():
    with pytest.raises(ValueError, match="lays out all devices, and devices 2 limits them; leave one of both out"):
        mesh_for(4, "tasks:4,population:1", 2)


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ("tasks:4", "must be like tasks:4,population:2"),
        ("population:2,tasks:2", "must be like tasks:4,population:2"),
        ("tasks:0,population:4", "must be like tasks:4,population:2"),
        ("tasks:4,population:2", "is of 8 devices; make it of the 4 that there are"),
        ("tasks:1,population:2", "is of 2 devices; make it of the 4 that there are"),
        ("tasks:4,population:1", r"cannot share train.tasks / train.task_batch, which is 6; .* such as tasks:2"),
    ],
)
def test_a_layout_that_does_not_fit_is_one_line(layout, says):
    with pytest.raises(ValueError, match=says) as error:
        mesh_for(6, layout)
    assert "\n" not in str(error.value)


def test_rows_that_cannot_be_shared_are_refused():
    with pytest.raises(ValueError, match="7 rows cannot be shared by 2 devices; give a multiple of 2"):
        on(2, lambda rows: sum_rows(jnp.sin, rows, AXIS), jnp.arange(7.0))
    np.testing.assert_allclose(on(3, lambda rows: sum_rows(jnp.sin, rows, AXIS), jnp.arange(3.0)), 1.7507684, rtol=1e-6)


def test_a_limit_on_devices_is_kept_but_for_one_a_process(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    assert [devices_for(12, most) for most in (0, 8, 5, 4, 3, 1, 99)] == [6, 6, 4, 4, 3, 1, 6]
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert [devices_for(12, most) for most in (0, 3, 1)] == [6, 2, 2]


def test_only_so_many_devices_are_taken_as_share_the_rows(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    assert [devices_for(rows) for rows in (1, 2, 6, 7, 16)] == [1, 2, 6, 7, 8]
    monkeypatch.setattr(jax, "process_count", lambda: 4)  # each takes part with as many devices
    assert [devices_for(rows) for rows in (4, 8, 12)] == [4, 8, 4]
    with pytest.raises(ValueError, match=r"is 6, which 4 processes cannot share; .*--mesh=tasks:1,population:8"):
        devices_for(6)


@pytest.mark.parametrize("name", ["maml", "reptile"])
def test_an_outer_step_is_the_same_on_any_number_of_devices(name):
    sizes = Sizes(tasks=4, queries=2, steps=2, channels=4, image=8, depth=1, ops=("conv3", "max3"))
    space = space_of(sizes)
    model = make_supernet(space, sizes.image_shape)
    masks = mask_of(space, random_genotypes(jax.random.key(1), space, sizes.tasks))

    def learner(axis):
        return make_learner(name, model, optax.adam(1e-2), ways=5, inner_steps=2, axis=axis)

    state = jax.jit(learner(None).init)(jax.random.key(0))
    alone = jax.tree.map(np.asarray, jax.jit(learner(None).step)(state, masks, draw_episodes(sizes)))
    for shape in (1, 2, 4, (2, 2)):
        found = on(shape, learner(TASKS).step, state, masks, draw_episodes(sizes))
        jax.tree.map(np.testing.assert_array_equal, found, alone)


def test_an_option_that_this_xla_does_not_know_is_left_out(monkeypatch):
    assert compiler_options()
    monkeypatch.setattr(compiler, "CPU_OPTIONS", {"xla_cpu_no_such_option": "1"})
    assert compiler_options() == {}


def test_programs_alone_that_multiply_bfloat16_get_the_option_for_it(monkeypatch):
    asked, compile_ = [], jax.stages.Lowered.compile

    def compile_and_note(lowered, compiler_options=None):
        asked.append(compiler_options)
        return compile_(lowered, compiler_options=compiler_options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_and_note)
    for dtype in (jnp.float32, jnp.bfloat16):
        rows = jnp.ones((3, 4), dtype)
        np.testing.assert_array_equal(compile_on(make_mesh(1), lambda x: x @ x.T, (rows,))(rows), np.full((3, 3), 4))
    assert compiler.PRODUCTS in asked[-1][compiler.LIBRARY] and compiler.PRODUCTS not in asked[1][compiler.LIBRARY]


@pytest.mark.parametrize(("kind", "program"), [("PRODUCTS", {"halves": True}), ("CONVOLUTIONS", {"by_core": True})])
def test_an_xla_that_knows_no_option_for_some_programs_keeps_the_others(kind, program, monkeypatch):
    assert getattr(compiler, kind) in compiler_options(**program)[compiler.LIBRARY]
    monkeypatch.setattr(compiler, kind, "LIBRARY_FUSION_TYPE_NO_SUCH")
    assert compiler_options(**program) == compiler.CPU_OPTIONS
    if kind == "CONVOLUTIONS":
        assert compiler_options(halves=True, **program) == compiler_options(halves=True)


def test_a_step_in_which_every_core_convolves_for_itself_is_the_same_on_any_number_of_devices():
    sizes = Sizes(tasks=4, queries=3, steps=3, channels=16, image=14, depth=2)
    found = []
    for number in (1, 2, 4):
        step, args = meta_step(sizes, "maml", plain=True, axis=AXIS)
        mesh = make_mesh(number)
        program = compile_on(mesh, step, args, by_core=True)
        assert re.search(r"ynn_fusion.*conv_general_dilated", program.as_text())
        found.append(jax.tree.map(np.asarray, program(*jax.device_put(args, replicated(mesh)))))
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, found[0])
    plain = compile_on(make_mesh(1), meta_step(sizes, "maml", plain=True)[0], args)(*args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), found[0], plain)


def test_every_core_has_a_device_where_the_rows_can_be_shared_by_all(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    assert [rows for rows in range(1, 13) if one_a_core(rows)] == [4, 8, 12]
    assert [most for most in range(7) if one_a_core(8, most)] == [0, 4, 5, 6]
