"""How networks that predict are trained: minibatches of the filled rows, a static number of steps."""

from collections.abc import Callable
from itertools import pairwise

import jax
import jax.numpy as jnp
import optax

from atnas_jax.types import Array, Params


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


def adam(learning_rate: float, weight_decay: float, clip: float) -> optax.GradientTransformation:
    """Return Adam with an L2 penalty in the gradient, after a clip of its global norm."""
    return optax.chain(
        optax.clip_by_global_norm(clip), optax.add_decayed_weights(weight_decay), optax.adam(learning_rate)
    )


def dense(key: Array, fan_in: int, fan_out: int) -> dict[str, Array]:
    """Return {"w" [fan_in,fan_out], "b" [fan_out]}, weights of variance 2 / fan_in (He et al. 2015)."""
    w = jax.random.normal(key, (fan_in, fan_out)) * jnp.sqrt(2 / fan_in)
    return {"w": w, "b": jnp.zeros(fan_out)}


def perceptron(key: Array, sizes: tuple[int, ...]) -> list[dict[str, Array]]:
    """Return the layers of a multi-layer perceptron of these sizes, input first."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [dense(key, *pair) for key, pair in zip(keys, pairwise(sizes))]


def squashed(layers: list[dict[str, Array]], x: Array) -> Array:
    """Return the sigmoid of a perceptron's one output, float32 [n] of x [n,D], with relu between the layers."""
    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return jax.nn.sigmoid(x @ layers[-1]["w"] + layers[-1]["b"])[:, 0]
