"""The statistics of a support set as constants of a network, whose outputs then depend on one image alone."""

from collections.abc import Sequence

import numpy as np

from atnas_jax.export.reader import OPS, Layer, support_statistics


def bake(layers: Sequence[Layer], support: np.ndarray) -> tuple[Layer, ...]:
    """Return the layers with every norm of kind batch or task fixed to the statistics that the support gives it.

    Each norm sees the support as the norms before it, already fixed, leave it, which is how the support passes through
    the network when it is normalised by itself. Statistics are sums of float64.

    Args:
        layers: of `make_layers`.
        support: uint8 [S,H,W,C].
    """
    values, fixed = {"images": support}, []
    for layer in layers:
        inputs = [values[name] for name in layer.inputs]
        layer = _fixed(layer, inputs[0]) if layer.op == "norm" else layer
        values[layer.name] = OPS[layer.op](np, layer, *inputs)
        fixed.append(layer)
    return tuple(fixed)


def depends_on_batch(layers: Sequence[Layer]) -> bool:
    """Return whether the output for an image depends on the other images of its batch."""
    return any(layer.settings.get("kind") in ("batch", "task") for layer in layers)


def _fixed(layer: Layer, x: np.ndarray) -> Layer:
    kind, kept, x = layer.settings["kind"], {name: layer.arrays[name] for name in ("scale", "bias")}, x.astype(float)
    if kind == "batch":
        found = {"mean": x.mean((0, 1, 2)), "variance": x.var((0, 1, 2))}
    elif kind == "task":
        found = support_statistics(np, layer, x)
    else:
        return layer
    arrays = kept | {name: np.asarray(value, np.float32) for name, value in found.items()}
    settings = layer.settings | {"kind": {"batch": "fixed", "task": "task_fixed"}[kind]}
    return layer._replace(settings=settings, arrays=arrays)
