"""The layers of a network as a JAX function, and as StableHLO with any number of images."""

from collections.abc import Callable, Sequence

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax import lax

from atnas_jax.export.reader import OPS, Layer, run
from atnas_jax.types import Array

PLATFORMS = ("cpu", "cuda", "tpu")


def ops_of_jax() -> dict[str, Callable]:
    """Return the ops of the reader, convolutions being those of XLA."""
    return OPS | {"conv": _conv, "depthwise": _depthwise}


def function_of(layers: Sequence[Layer]) -> Callable[[Array], Array]:
    """Return images [n,H,W,C], uint8 or float32 in 0..1 -> float32 [n,N] or [n,D], products in full float32."""

    def network(images: Array) -> Array:
        with jax.default_matmul_precision("highest"):
            return run(layers, images, jnp, ops_of_jax())

    return network


def to_stablehlo(layers: Sequence[Layer], image_shape: tuple[int, int, int], dtype: str) -> bytes:
    """Return the network for cpu, cuda and tpu, serialized by jax.export; images dtype [batch,H,W,C], any batch."""
    shape = jax.export.symbolic_shape(f"batch,{','.join(map(str, image_shape))}")
    exporter = jax.export.export(jax.jit(function_of(layers)), platforms=PLATFORMS)
    return bytes(exporter(jax.ShapeDtypeStruct(shape, np.dtype(dtype))).serialize())


def _conv(xp, layer, x):
    return _convolved(x, layer.arrays["kernel"], layer.settings["stride"], layer.settings["dilation"], 1)


def _depthwise(xp, layer, x):
    kernel = layer.arrays["kernel"]
    return _convolved(x, kernel[:, :, None, :], layer.settings["stride"], 1, kernel.shape[-1])


def _convolved(x, kernel, stride, dilation, groups):
    pad = dilation * (kernel.shape[0] // 2)
    return lax.conv_general_dilated(
        x, jnp.asarray(kernel), (stride, stride), ((pad, pad), (pad, pad)), rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip
