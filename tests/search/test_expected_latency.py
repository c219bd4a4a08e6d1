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
    """Accuracy is flat: all terms bring E to a target half-way, the hinge keeps it there, the others pull it on.

    The linear pull is one of a constant direction, so it ends at the cheapest network, whatever the target.
    """
    space = SearchSpace("lut", (), tuple(map(str, range(len(table)))), (tuple(map(str, range(table.shape[1]))),) * 22)

    def expected(policy):
        return constant + linear_cost(jnp.asarray(table))(policy)

    def walk(name, target):
        """Return E after each step."""
        objective = loss_with_cost(name, expected, target)
        strategy = make_strategy("binary_gates", space, steps=steps, learning_rate=0.05, objective=objective)

        def step(state, key):
            told = strategy.tell_grad(key, state, jnp.float32(1.0), jnp.zeros(table.shape))
            return told, expected(jax.nn.softmax(told.logits))

        keys = jax.random.split(jax.random.key(1), steps)
        return np.asarray(jax.jit(lambda: jax.lax.scan(step, strategy.init(jax.random.key(0)), keys)[1])())

    least, mean = (constant + float(f(1).sum()) for f in (table.min, table.mean))
    target = 0.5 * (least + mean)
    assert mean > 1.2 * target
    kept, linear, log = (walk(name, target) for name in ("add_hinge", "add_linear", "mul_log"))
    for walked in (kept, linear, log):
        assert np.abs(walked - target).min() / target < 0.02
    assert (np.abs(kept[-100:] - target) / target < 0.02).all()
    assert (np.diff(linear) < 1e-3 * target).all() and linear[-1] < 0.9 * target and log[-1] < 0.9 * target
    assert abs(walk("add_linear", least)[-1] - least) / least < 0.02


def test_expected_latency_reaches_its_target_where_accuracy_is_flat():
    check_lut(np.random.default_rng(0).exponential(1.0, (22, 9)), 1.0)


def test_expected_latency_reaches_its_target_on_a_raspberry_pi(shared_data):
    with np.load(shared_data / "tabular" / "fbnet_latency.npz") as file:
        device = list(file["devices"]).index("raspi4")
        check_lut(file["lut_ms"][device], float(file["lut_const_ms"][device]))
