"""The candidate ops: their weights, how one is computed, and how the linear ones fold into one kernel."""

import jax
import jax.numpy as jnp
from jax import lax

from atnas_jax.nets.branch import run_branch
from atnas_jax.nets.conv import conv, take_channels
from atnas_jax.nets.depthwise import depthwise
from atnas_jax.nets.pool import max_pool3, mean_pool3
from atnas_jax.types import Array, Params

# (size, dilation) of the window that an op looks through; max3 is absent because it is the one op that is not linear.
WINDOW = {
    "none": (1, 1),
    "identity": (1, 1),
    "conv1": (1, 1),
    "conv3": (3, 1),
    "sep3": (3, 1),
    "avg3": (3, 1),
    "conv5": (5, 1),
    "sep5": (5, 1),
    "dil3": (3, 2),
}
POOLS = ("max3", "avg3")
CONV_SIZE = {"conv1": 1, "conv3": 3, "conv5": 5, "dil3": 3}
SEPARABLE_SIZE = {"sep3": 3, "sep5": 5}


def he_normal(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    """Draw weights from N(0, 2/fan_in) (He et al. 2015, equation 10)."""
    return jax.random.normal(key, shape) * (2.0 / fan_in) ** 0.5


def init_op(key: Array, op: str, c_in: int, c_out: int) -> Params:
    """Return the weights of an op, {} if it has none.

    Args:
        key: PRNG key.
        op: a name out of `space.slots.OPS`.
        c_in: channels of the input.
        c_out: channels of the output.

    Returns:
        {"kernel": [s,s,c_in,c_out]} or {"depthwise": [s,s,c_in], "pointwise": [1,1,c_in,c_out]} or {}.
    """
    if op in CONV_SIZE:
        size = CONV_SIZE[op]
        return {"kernel": he_normal(key, (size, size, c_in, c_out), size * size * c_in)}
    if op in SEPARABLE_SIZE:
        size, (first, second) = SEPARABLE_SIZE[op], jax.random.split(key)
        scale = 1.0 / size  # keeps the variance: nothing non-linear stands between the two
        return {
            "depthwise": jax.random.normal(first, (size, size, c_in)) * scale,
            "pointwise": he_normal(second, (1, 1, c_in, c_out), c_in),
        }
    return {}


def init_ops(key: Array, ops: tuple[str, ...], c_in: int, c_out: int) -> Params:
    """Return op name -> weights, of the candidate ops that have any."""
    weights = {op: init_op(jax.random.fold_in(key, i), op, c_in, c_out) for i, op in enumerate(ops)}
    return {op: own for op, own in weights.items() if own}


def apply_op(op: str, params: Params, x: Array, c_out: int, stride: int, implementation: str) -> Array:
    """Compute one op; float [n,H,W,c_in] -> [n,ceil(H/stride),ceil(W/stride),c_out]."""
    if op in CONV_SIZE:
        return conv(x, params["kernel"], stride, 2 if op == "dil3" else 1, implementation)
    if op in SEPARABLE_SIZE:
        return conv(depthwise(x, params["depthwise"], stride), params["pointwise"], 1, 1, implementation)
    if op == "max3":
        return take_channels(max_pool3(x, stride), c_out)
    if op == "avg3":
        return take_channels(mean_pool3(x, stride), c_out)
    x = take_channels(x[:, ::stride, ::stride], c_out)
    return x if op == "identity" else jnp.zeros_like(x)


def kernel_of(op: str, params: Params, c_in: int, c_out: int, size: int, dtype: jnp.dtype) -> Array:
    """Return the kernel [size,size,c_in,c_out] of a linear op, undilated, its taps in the middle.

    `dtype` is that of the ops without weights.
    """
    if op == "none":
        kernel = jnp.zeros((1, 1, c_in, c_out), dtype)
    elif op in ("identity", "avg3"):
        own = WINDOW[op][0]
        kernel = jnp.broadcast_to(jnp.eye(c_in, c_out, dtype=dtype) / (own * own), (own, own, c_in, c_out))
    elif op in SEPARABLE_SIZE:
        kernel = params["depthwise"][..., None] * params["pointwise"][0, 0]
    else:
        kernel = params["kernel"]
    pad = (size - kernel.shape[0]) // 2
    return jnp.pad(kernel, ((pad, pad), (pad, pad), (0, 0), (0, 0)))


def dilate(kernel: Array) -> Array:
    """Return a 3x3 kernel of dilation 2 as the 5x5 kernel that does the same."""
    return jnp.zeros((5, 5, *kernel.shape[2:]), kernel.dtype).at[::2, ::2].set(kernel)


def shield(coefficient: Array, values: Params) -> Params:
    """Return what a coefficient is about to multiply, made finite and constant where the coefficient is zero.

    So what is switched off has no say, even if it is inf or nan, and its gradient is exactly zero. The gradient to the
    coefficient stays the inner product with the values, which gradient strategies need of ops that are switched off.
    Weights are shielded before a kernel is made of them: a product of two passes on 0 * nan in its gradient.
    """

    def one(value):
        held = lax.stop_gradient(jnp.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0))
        return jnp.where(coefficient == 0, held, value)

    return jax.tree.map(one, values)


def mixed_op(
    ops: tuple[str, ...], params: Params, weights: Array, x: Array, c_out: int, stride: int, implementation: str
) -> Array:
    """Compute sum_o weights[o] * op_o(x) with one convolution for all linear ops.

    sum_o m_o conv(x, W_o) = conv(x, sum_o m_o embed(W_o)); only max-pooling stays a term of its own.

    Args:
        ops: the candidate ops.
        params: op name -> its weights.
        weights: float [len(ops)], any mixture.
        x: float [n,H,W,c_in].
        c_out: channels of the output.
        stride: 1 or 2.
        implementation: see `nets/conv.py`.

    Returns:
        float [n,ceil(H/stride),ceil(W/stride),c_out].
    """
    c_in = x.shape[-1]
    windows = [WINDOW.get(op, (1, 1)) for op in ops]
    extent = max((size - 1) * dilation + 1 for size, dilation in windows)
    kernel = jnp.zeros((extent, extent, c_in, c_out), x.dtype)
    pooled = jnp.zeros((), x.dtype)
    for op, weight, (_, dilation) in zip(ops, weights, windows, strict=True):
        if op not in WINDOW:
            pooled = weight * shield(weight, apply_op(op, {}, x, c_out, stride, implementation))
            continue
        own = shield(weight, params.get(op, {}))
        own = kernel_of(op, own, c_in, c_out, extent if dilation == 1 else 3, x.dtype)
        kernel += weight * (own if dilation == 1 else dilate(own))
    return conv(x, kernel, stride, 1, implementation) + pooled


def chosen_op(
    ops: tuple[str, ...],
    params: Params,
    weights: Array,
    x: Array,
    c_out: int,
    stride: int,
    implementation: str,
    active: Array | None = None,
) -> Array:
    """Compute the op that the one-hot weights [len(ops)] pick; shapes as in `mixed_op`.

    Where `active` float [] is 0, none runs and the result is 0; without it, one always does.

    Linear ops that look through the same window share a branch, in which their kernels are what is chosen: fewer
    branches compile, and only one runs when the weights are not batched; a pooling, which costs less than a kernel, has
    its own. The choice is not differentiated.
    """

    def branch_of(op):
        return op if op in POOLS else WINDOW[op]

    groups: dict[tuple[int, int] | str, list[str]] = {}
    for op in ops:
        groups.setdefault(branch_of(op), []).append(op)
    weights = lax.stop_gradient(weights)

    def branch(members):
        def run(params, weights, x):
            if members[0] in POOLS:
                return apply_op(members[0], {}, x, c_out, stride, implementation)
            size, dilation = WINDOW[members[0]]
            picks = {op: weights[ops.index(op)] for op in members}
            own = {op: shield(w, params.get(op, {})) for op, w in picks.items()}
            kernel = sum(w * kernel_of(op, own[op], x.shape[-1], c_out, size, x.dtype) for op, w in picks.items())
            return conv(x, kernel, stride, dilation, implementation)

        return run

    index = jnp.asarray([list(groups).index(branch_of(op)) for op in ops])[jnp.argmax(weights)]
    branches = [branch(members) for members in groups.values()]
    if active is not None:
        shape = (x.shape[0], *(-(-length // stride) for length in x.shape[1:3]), c_out)
        branches.append(lambda params, weights, x: jnp.zeros(shape, x.dtype))
        index = jnp.where(active > 0, index, len(groups))
    return run_branch(index, branches, (params, weights, x))
