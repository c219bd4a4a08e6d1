"""Cost in the one number that is searched by, against values worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.scalarise import add_hinge, add_linear, factor, loss_with_cost, mul_log


def test_mnas_factors():
    cost = jnp.asarray([50.0, 100.0, 200.0])
    np.testing.assert_allclose(factor("mnas_soft", 100.0)(cost), [2**0.07, 1, 2**-0.07], rtol=1e-6)
    np.testing.assert_allclose(factor("mnas_hard", 100.0)(cost), [1, 1, 0.5], rtol=1e-6)
    np.testing.assert_allclose(factor("mnas_soft", 100.0, -0.5)(cost), [2**0.5, 1, 2**-0.5], rtol=1e-6)


def test_terms_of_a_loss():
    assert float(add_linear(2.0, 150.0, 100.0)) == pytest.approx(2.05)
    assert float(add_linear(2.0, 50.0, 100.0)) == pytest.approx(1.95)
    assert float(add_hinge(2.0, jnp.float32(50.0), 100.0)) == 2.0
    assert float(add_hinge(2.0, jnp.float32(150.0), 100.0)) == pytest.approx(2.05)
    assert float(mul_log(2.0, jnp.float32(np.e**4), np.e**2, 0.6)) == pytest.approx(0.4 * 2**0.6)


def test_the_power_is_of_the_logarithm():
    """log(E^b) = b log E would make the ratio of two costs' losses the same for every b."""
    ratios = [
        float(mul_log(1.0, jnp.float32(1000.0), 10.0, b) / mul_log(1.0, jnp.float32(10.0), 10.0, b)) for b in (0.3, 0.6)
    ]
    np.testing.assert_allclose(ratios, [3**0.3, 3**0.6], rtol=1e-5)


def test_the_loss_reaches_both_of_its_arguments():
    whole = loss_with_cost("mul_log", lambda policy: (policy * jnp.asarray([10.0, 1000.0])).sum(), 10.0)
    by_policy, by_loss = jax.grad(whole, (0, 1))(jnp.asarray([0.5, 0.5]), 2.0)
    level = np.log(505.0) / np.log(10.0)
    np.testing.assert_allclose(by_loss, 0.2 * level**0.3, rtol=1e-5)
    slope = 0.4 * 0.3 * level**-0.7 / (505.0 * np.log(10.0))
    np.testing.assert_allclose(by_policy, slope * np.asarray([10.0, 1000.0]), rtol=1e-4)


@pytest.mark.parametrize(("name", "target"), [("mul_log", 1.0), ("add_linear", 0.0)])
def test_a_target_out_of_range_is_refused(name, target):
    with pytest.raises(ValueError, match="must be above"):
        loss_with_cost(name, lambda policy: policy.sum(), target)
