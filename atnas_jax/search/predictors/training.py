"""How networks that predict are trained: minibatches of the filled rows, a static number of steps."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from atnas_jax.types import Array, Params, PyTree


class Scale(NamedTuple):
    """The shape of an array of weights, and their deviation at the start."""

    shape: tuple[int, ...]
    deviation: float


def minimise(
    key: Array,
    loss: Callable[[Params, Array], Array],
    params: Params,
    filled: Array,
    *,
    steps: int,
    batch: int,
    optimiser: optax.GradientTransformation,
) -> Params:
    """Return `params` after `steps` steps on minibatches drawn with replacement from the filled rows.

    Args:
        key: of the minibatches.
        loss: params, indices int32 [batch] of rows -> float32 [].
        params: where to start.
        filled: bool [n]; at least one is true, or the steps are taken on row 0.
        steps: how many.
        batch: rows of a step.
        optimiser: starts anew.
    """
    order, count = jnp.argsort(~filled, stable=True), jnp.maximum(filled.sum(), 1)

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(loss)(params, order[jax.random.randint(key, (batch,), 0, count)])
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimiser.init(params)), jax.random.split(key, steps))
    return params


def adam(learning_rate: float, steps: int, weight_decay: float, clip: float) -> optax.GradientTransformation:
    """Return Adam with an L2 penalty in the gradient, after a clip of its global norm; on one flat vector.

    The rate falls to 0 by a cosine over `steps`, so where training stops does not depend on the last minibatches.
    """
    rate = optax.cosine_decay_schedule(learning_rate, steps)
    clipped, decayed = optax.clip_by_global_norm(clip), optax.add_decayed_weights(weight_decay)
    return optax.flatten(optax.chain(clipped, decayed, optax.adam(rate)))


def gaussian(key: Array, scales: PyTree) -> PyTree:
    """Return normal weights of the deviations `scales`, one (shape, deviation) per leaf.

    One draw for all leaves, as each draw of its own takes longer to compile than all the rest of a small network.
    """
    leaves, tree = jax.tree.flatten(scales, is_leaf=lambda leaf: isinstance(leaf, Scale))
    ends = np.cumsum([math.prod(leaf.shape) for leaf in leaves]).tolist()
    parts = jnp.split(jax.random.normal(key, (ends[-1],)), ends[:-1])
    return tree.unflatten([part.reshape(leaf.shape) * leaf.deviation for part, leaf in zip(parts, leaves)])


def dense(fan_in: int, fan_out: int, gain: float = 2.0) -> dict[str, Scale]:
    """Return the scales of {"w" [fan_in,fan_out], "b" [fan_out]}: variance gain / fan_in (2: He et al. 2015) and 0."""
    return {"w": Scale((fan_in, fan_out), (gain / fan_in) ** 0.5), "b": Scale((fan_out,), 0.0)}


def perceptron(sizes: tuple[int, ...]) -> list[dict[str, Scale]]:
    """Return the scales of the layers of a multi-layer perceptron of these sizes, input first."""
    return [dense(*pair) for pair in pairwise(sizes)]


def squashed(layers: list[dict[str, Array]], x: Array) -> Array:
    """Return the sigmoid of a perceptron's one output, float32 [n] of x [n,D], with relu between the layers."""
    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return jax.nn.sigmoid(x @ layers[-1]["w"] + layers[-1]["b"])[:, 0]
