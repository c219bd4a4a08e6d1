"""Weights of the multi-step loss, and the shapes of scales and shifts, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.meta.scale_shift import init_scale_shift
from atnas_jax.meta.stages import step_weights


def test_the_weights_of_the_steps_by_hand():
    """From 1/I each, linearly, to 0.03/I; the last takes the rest."""
    np.testing.assert_allclose(step_weights(jnp.int32(0), 5, 10), [0.2] * 5)
    np.testing.assert_allclose(step_weights(jnp.int32(5), 5, 10), [0.1] * 4 + [0.6])
    np.testing.assert_allclose(step_weights(jnp.int32(10), 5, 10), [0.006] * 4 + [0.976])
    np.testing.assert_allclose(step_weights(jnp.int32(99), 5, 10), [0.006] * 4 + [0.976])


def test_one_scale_for_each_pair_of_channels():
    """Also where kernels of several edges are stacked."""
    body = {"edges": {"conv3": {"kernel": jnp.ones((5, 3, 3, 2, 4))}, "sep3": {"depthwise": jnp.ones((5, 3, 3, 2))}}}
    change = init_scale_shift(body | {"norms": {"scale": jnp.ones((2, 4)), "bias": jnp.ones((2, 4))}})
    shapes = jax.tree.map(jnp.shape, change, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    assert shapes["edges"] == {"conv3": {"kernel": (5, 1, 1, 2, 4)}, "sep3": {"depthwise": (5, 1, 1, 2)}}
    assert shapes["norms"] == {"scale": (0,), "bias": (2, 4)}
