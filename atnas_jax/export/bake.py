"""The statistics of a support set as constants of a network, whose outputs then depend on one image alone."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.export.compute import ops_of_jax
from atnas_jax.export.reader import Layer, support_statistics


def bake(layers: Sequence[Layer], support: np.ndarray) -> tuple[Layer, ...]:
    """Return the layers with every norm of kind batch or task fixed to the statistics that the support gives it.

    Each norm sees the support as the norms before it, already fixed, leave it, which is how the support passes through
    the network when it is normalised by itself.

    Args:
        layers: of `make_layers`.
        support: uint8 [S,H,W,C].
    """
    with jax.default_matmul_precision("highest"):
        values, fixed, ops = {"images": jnp.asarray(support)}, [], ops_of_jax()
        for layer in layers:
            inputs = [values[name] for name in layer.inputs]
            layer = _fixed(layer, inputs[0]) if layer.op == "norm" else layer
            values[layer.name] = ops[layer.op](jnp, layer, *inputs)
            fixed.append(layer)
    return tuple(fixed)


def depends_on_batch(layers: Sequence[Layer]) -> bool:
    """Return whether the output for an image depends on the other images of its batch."""
    return any(layer.settings.get("kind") in ("batch", "task") for layer in layers)


def _fixed(layer: Layer, x: jax.Array) -> Layer:
    kind, kept = layer.settings["kind"], {name: layer.arrays[name] for name in ("scale", "bias")}
    if kind == "batch":
        mean = x.mean((0, 1, 2))
        found = {"mean": mean, "variance": jnp.square(x - mean).mean((0, 1, 2))}
    elif kind == "task":
        found = support_statistics(jnp, layer, x)
    else:
        return layer
    arrays = kept | {name: np.asarray(value, np.float32) for name, value in found.items()}
    return layer._replace(
        settings=layer.settings | {"kind": {"batch": "fixed", "task": "task_fixed"}[kind]}, arrays=arrays
    )
