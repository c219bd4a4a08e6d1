"""The average of the meta-parameters is the debiased one of the textbook, and leaves training alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.average import averaged, evaluated
from atnas_jax.types import MetaState

pytestmark = pytest.mark.usefixtures("few_optimisations")


def test_the_average_is_the_closed_form():
    decay, steps = 0.8, 12
    plain, kept = optax.adam(0.1), averaged(optax.adam(0.1), decay)
    params = {"w": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}
    states, twin, path = (plain.init(params), kept.init(params)), params, []
    assert (evaluated(MetaState(jnp.int32(0), params, states[1]))["w"] == params["w"]).all()
    for t in range(steps):
        gradient = {"w": jnp.sin(params["w"] + t), "b": params["b"]}
        updates = [optimiser.update(gradient, s, params) for optimiser, s in zip((plain, kept), states)]
        states = tuple(state for _, state in updates)
        params, twin = (optax.apply_updates(p, u) for p, (u, _) in zip((params, twin), updates))
        jax.tree.map(np.testing.assert_array_equal, params, twin)
        path.append(params)
        mean = evaluated(MetaState(jnp.int32(t + 1), twin, states[1]))
        weights = (1 - decay) * decay ** np.arange(t, -1, -1) / (1 - decay ** (t + 1))
        for name in params:
            expected = sum(w * np.asarray(p[name], np.float64) for w, p in zip(weights, path))
            np.testing.assert_allclose(mean[name], expected, rtol=1e-5)
    assert evaluated(MetaState(jnp.int32(0), params, states[0])) is params
