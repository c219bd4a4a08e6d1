"""The number of devices changes nothing but the time: shares, sums and a whole outer step, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax import devices
from atnas_jax.bench.works import Sizes, draw_episodes, space_of
from atnas_jax.devices import AXIS, compiler_options, devices_for, make_mesh, map_rows, on_mesh, sum_rows
from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.slots import mask_of, random_genotypes

pytestmark = pytest.mark.usefixtures("few_optimisations")


def on(number, function, *args):
    return jax.tree.map(np.asarray, jax.jit(on_mesh(function, make_mesh(number)))(*args))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 2])
def test_rows_are_shared_and_come_back_in_order(number, batch):
    rows = jnp.arange(7.0)
    found = on(number, lambda rows: map_rows(lambda x: {"twice": 2 * x}, rows, batch, AXIS), rows)
    np.testing.assert_array_equal(found["twice"], 2 * rows)
    np.testing.assert_array_equal(map_rows(lambda x: 2 * x, rows), 2 * rows)


def test_a_sum_over_rows_does_not_depend_on_the_number_of_devices():
    rows = jax.random.normal(jax.random.key(0), (16, 1000)) * 10.0 ** jax.random.randint(
        jax.random.key(1), (16, 1), -3, 4
    )
    alone = np.asarray(jax.jit(lambda rows: sum_rows(jnp.sin, rows))(rows))
    np.testing.assert_allclose(alone, np.sin(rows).sum(0), atol=1e-4)
    for number in (1, 2, 4):
        np.testing.assert_array_equal(on(number, lambda rows: sum_rows(jnp.sin, rows, AXIS), rows), alone)


def test_rows_that_cannot_be_shared_are_refused():
    with pytest.raises(ValueError, match="7 rows cannot be shared by 2 devices; give a multiple of 2"):
        on(2, lambda rows: sum_rows(jnp.sin, rows, AXIS), jnp.arange(7.0))
    np.testing.assert_allclose(on(3, lambda rows: sum_rows(jnp.sin, rows, AXIS), jnp.arange(3.0)), 1.7507684, rtol=1e-6)


def test_only_so_many_devices_are_taken_as_share_the_rows(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    assert [devices_for(rows) for rows in (1, 2, 6, 7, 16)] == [1, 2, 6, 7, 8]


@pytest.mark.parametrize("name", ["maml", "reptile"])
def test_an_outer_step_is_the_same_on_any_number_of_devices(name):
    sizes = Sizes(tasks=4, queries=2, steps=2, channels=4, image=8, depth=2, ops=("conv3", "max3"))
    space = space_of(sizes)
    model = make_supernet(space, sizes.image_shape)
    masks = mask_of(space, random_genotypes(jax.random.key(1), space, sizes.tasks))

    def learner(axis):
        return make_learner(name, model, optax.adam(1e-2), ways=5, inner_steps=2, axis=axis)

    state = jax.jit(learner(None).init)(jax.random.key(0))
    alone = jax.tree.map(np.asarray, jax.jit(learner(None).step)(state, masks, draw_episodes(sizes)))
    for number in (1, 2, 4):
        found = on(number, learner(AXIS).step, state, masks, draw_episodes(sizes))
        jax.tree.map(np.testing.assert_array_equal, found, alone)


def test_an_option_that_this_xla_does_not_know_is_left_out(monkeypatch):
    assert compiler_options()
    monkeypatch.setattr(devices, "CPU_OPTIONS", {"xla_cpu_no_such_option": "1"})
    assert compiler_options() == {}
