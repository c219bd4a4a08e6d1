"""ProxylessNAS's known answer: where accuracy says nothing, the expected latency of the policy goes to its target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.scalarise import loss_with_cost
from atnas_jax.search.strategies import make_strategy
from atnas_jax.space.expected import linear_cost
from atnas_jax.space.slots import SearchSpace

pytestmark = pytest.mark.usefixtures("few_optimisations")


def check_lut(table, constant, steps=400):
    """Accuracy is flat: a target half-way is kept by the hinge, and the linear pull goes on to the cheapest network."""
    space = SearchSpace("lut", (), tuple(map(str, range(len(table)))), (tuple(map(str, range(table.shape[1]))),) * 22)

    def expected(policy):
        return constant + linear_cost(jnp.asarray(table))(policy)

    def walk(name, target):
        objective = loss_with_cost(name, expected, target)
        strategy = make_strategy("binary_gates", space, steps=steps, learning_rate=0.05, objective=objective)

        def step(state, key):
            return strategy.tell_grad(key, state, jnp.float32(1.0), jnp.zeros(table.shape)), None

        keys = jax.random.split(jax.random.key(1), steps)
        state = jax.jit(lambda: jax.lax.scan(step, strategy.init(jax.random.key(0)), keys)[0])()
        return float(expected(jax.nn.softmax(state.logits)))

    least, mean = (constant + float(f(1).sum()) for f in (table.min, table.mean))
    target = 0.5 * (least + mean)
    assert mean > 1.2 * target
    assert abs(walk("add_hinge", target) - target) / target < 0.02
    assert abs(walk("add_linear", least) - least) / least < 0.02
    assert walk("add_linear", target) < 0.9 * target
    assert walk("mul_log", target) < 0.9 * target


def test_expected_latency_reaches_its_target_where_accuracy_is_flat():
    check_lut(np.random.default_rng(0).exponential(1.0, (22, 9)), 1.0)


def test_expected_latency_reaches_its_target_on_a_raspberry_pi(shared_data):
    with np.load(shared_data / "tabular" / "fbnet_latency.npz") as file:
        device = list(file["devices"]).index("raspi4")
        check_lut(file["lut_ms"][device], float(file["lut_const_ms"][device]))
