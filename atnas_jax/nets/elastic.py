"""Elastic kernels: the small kernel of a block is the middle of the large one, moved by a learned matrix.

K3 = crop3(K5) M with K5 [25,...] seen as taps and M [9,9], shared by all channels and the identity at first (Cai et al.
2020, Once-for-All, 3.3, "elastic kernel size"). Once-for-All does it for depthwise convolutions; here sep3 lies in sep5
so, their pointwise weights being the same, and conv3 lies in conv5.
"""

import jax.numpy as jnp

from atnas_jax.nets.ops import init_ops, shield
from atnas_jax.space.chain import NESTED
from atnas_jax.types import Array, Params


def nested_ops(ops: tuple[str, ...], elastic: bool) -> dict[str, str]:
    """Return small op -> the large op of the same block that holds its kernel."""
    return {small: large for small, large in NESTED.items() if elastic and small in ops and large in ops}


def init_elastic_ops(key: Array, ops: tuple[str, ...], c_in: int, c_out: int, elastic: bool) -> Params:
    """Return op name -> weights as of `init_ops`, but {"matrix": identity [t*t,t*t]} of a nested op of size t."""
    params = init_ops(key, ops, c_in, c_out)
    for small in nested_ops(ops, elastic):
        name = "kernel" if "kernel" in params[small] else "depthwise"
        params[small] = {"matrix": jnp.eye(params[small][name].shape[0] ** 2)}
    return params


def small_kernel(kernel: Array, matrix: Array) -> Array:
    """Return [t,t,...]: the middle taps of a kernel [s,s,...] mixed by a matrix [t*t,t*t], tap j = sum_i M_ij tap_i."""
    taps = round(matrix.shape[0] ** 0.5)
    edge = (kernel.shape[0] - taps) // 2
    middle = kernel[edge : edge + taps, edge : edge + taps]
    return jnp.tensordot(matrix, middle.reshape(taps * taps, -1), ((0,), (0,))).reshape(middle.shape)


def small_op(large: Params, own: Params) -> Params:
    """Return the weights of a nested op, as it would have them alone, from the large op's and its own {"matrix"}."""
    name = "kernel" if "kernel" in large else "depthwise"
    return large | {name: small_kernel(large[name], own["matrix"])}


def unnest(ops: tuple[str, ...], elastic: bool, params: Params, weights: Array) -> Params:
    """Return the weights of a block in which every nested op has its own; an op of weight 0 lends and borrows nothing.

    Args:
        ops: of the block.
        elastic: of the space.
        params: as of `init_elastic_ops`.
        weights: float [len(ops)], one-hot or a mixture.
    """
    made = {}
    for small, large in nested_ops(ops, elastic).items():
        weight = weights[ops.index(small)]
        made[small] = small_op(shield(weight, params[large]), shield(weight, params[small]))
    return params | made
