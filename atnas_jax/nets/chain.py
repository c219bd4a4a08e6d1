"""The masked supernet of the chain family, see `space/chain.py` for what a block computes."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from atnas_jax.nets.block import init_norm, norm_relu_pool, normalise, relu
from atnas_jax.nets.conv import take_channels
from atnas_jax.nets.elastic import init_elastic_ops, unnest
from atnas_jax.nets.norm import LEARNED, held
from atnas_jax.nets.ops import chosen_op, mixed_op, shield
from atnas_jax.nets.pool import max_pool2
from atnas_jax.space.chain import DEPTH_SLOT, LAST_POOL, POOL_SLOT, ChainSpec, op_slot, width_slot
from atnas_jax.types import Array, Params, Reference


class ChainSupernet(nn.Module):
    """All chains of a space in one set of weights.

    Attributes:
        spec: the chain space.
        normalisation: see `nets/norm.py`.
        execution: "switch" runs the branch that a one-hot mask picks; "folded" computes any mixture with one
            convolution a block.
        implementation: see `nets/conv.py`.
    """

    spec: ChainSpec
    normalisation: str
    execution: str
    implementation: str

    @nn.compact
    def __call__(self, x: Array, mask: Array, reference: Reference = None) -> Array:
        """Map images [n,H,W,C] under a mask [E,O] to the last feature map [n,h,w,widest]."""
        spec, here = self.spec, first_place(x)
        for block, ops in enumerate(spec.ops):
            shape = (ops, here.x.shape[-1], spec.widths[-1])
            params = self.param(f"block{block}", init_block, *shape, self.normalisation, spec.elastic_kernel)
            here, relus = run_block(self, block, params, here, mask, reference)
            self.sow("intermediates", "relus", relus)
        return pool_last(here.x, mask[POOL_SLOT, : len(LAST_POOL)], self.execution) if spec.last_pool else here.x


class Place(NamedTuple):
    """What stands between two blocks."""

    x: Array  # float [n,h,w,C]
    present: Array  # float [C], zero where the subnet has no such channel


def first_place(x: Array) -> Place:
    """Return what stands before the first block: images [n,H,W,C]."""
    return Place(x, jnp.ones(x.shape[-1], x.dtype))


def run_block(
    net: ChainSupernet, block: int, params: Params, here: Place, mask: Array, reference: Reference
) -> tuple[Place, tuple[Array, Array]]:
    """Return what stands after a block, and (its rectified sum of ops, the channels there float [widest]).

    Args:
        net: of which the attributes are read.
        block: its number.
        params: of the block, as of `init_block`.
        here: what stands before it.
        mask: float32 [E,O].
        reference: see `Model`.
    """
    spec, widest = net.spec, net.spec.widths[-1]
    active = (mask[DEPTH_SLOT, : len(spec.depths)] * (jnp.asarray(spec.depths) > block)).sum()
    weights = mask[op_slot(block), : len(spec.ops[block])]
    channels = width_mask(spec, mask[width_slot(block), : len(spec.widths)])
    params = shield_absent(params, active * here.present, active * channels)
    # Each on its own, as together a derivative by one would be taken by the other too.
    params["norm"], channels = held(params["norm"]), held(channels)
    params = unnest(spec.ops[block], spec.elastic_kernel, params, weights)
    given = (spec.ops[block], params, weights, here.x, widest, op_stride(spec, block), net.implementation)
    if net.execution == "switch":
        y = chosen_op(*given, active if block >= spec.depths[0] else None)
    else:
        y = mixed_op(*given)
    rectified = rectify(spec, block, y, channels, params["norm"], net.normalisation, reference)
    out = add_input(spec, block, rectified, here.x, channels)
    if block >= spec.depths[0]:
        passed = take_channels(down(here.x, spec, spec.strides[block]), widest)
        out = jnp.where(active > 0, out, passed) if net.execution == "switch" else active * out + (1 - active) * passed
    present = active * channels + (1 - active) * take_channels(here.present, widest)
    return Place(out, present), (rectified, active * channels)


def init_block(key: Array, ops: tuple[str, ...], c_in: int, c_out: int, name: str, elastic: bool = False) -> Params:
    """Return the weights of one block: op name -> weights, and "norm" of the normalisation `name`."""
    return init_elastic_ops(key, ops, c_in, c_out, elastic) | {"norm": init_norm(c_out, name)}


def shield_absent(params: Params, inputs: Array, outputs: Array) -> Params:
    """Shield the weights of a block that lie in channels which the subnet does not have, see `shield`.

    Args:
        params: as of `init_block`.
        inputs: float [c_in], zero where the input has no such channel or the block is inactive.
        outputs: float [c_out], zero where the output has no such channel or the block is inactive.
    """
    both = inputs[:, None] * outputs
    share = {"kernel": both, "pointwise": both, "depthwise": inputs, "scale": outputs, "bias": outputs}
    share["matrix"] = outputs[0]  # of the whole block, whose first channel is there if it is active
    share |= dict.fromkeys(sum(LEARNED.values(), ()), outputs.max())  # one number for all channels
    return {name: {leaf: shield(share[leaf], own[leaf]) for leaf in own} for name, own in params.items()}


def op_stride(spec: ChainSpec, block: int) -> int:
    """Return the stride of the op of a block; a block that pools does not stride."""
    return spec.strides[block] if spec.downsample == "stride" else 1


def width_mask(spec: ChainSpec, weights: Array) -> Array:
    """Return the channels float [widest] that a (mixture of) width keeps: the first ones."""
    kept = jnp.arange(spec.widths[-1]) < jnp.asarray(spec.widths)[:, None]
    return weights @ kept.astype(weights.dtype)


def down(x: Array, spec: ChainSpec, stride: int) -> Array:
    """Return the down-sampling that a block's input undergoes, whatever its op."""
    if stride == 1:
        return x
    return x[:, ::2, ::2] if spec.downsample == "stride" else max_pool2(x)


def pool_last(x: Array, weights: Array, execution: str) -> Array:
    """Return x [n,h,w,C], or its 2x2 max-pool in the first rows and columns of zeros, or a mixture.

    Args:
        x: the output of the last block.
        weights: float [2], of the choices `LAST_POOL`.
        execution: as of the supernet.
    """
    pooled = max_pool2(x)
    rows, columns = (have - own for have, own in zip(x.shape[1:3], pooled.shape[1:3], strict=True))
    pooled = jnp.pad(pooled, ((0, 0), (0, rows), (0, columns), (0, 0)))
    if execution == "switch":
        return jnp.where(weights[LAST_POOL.index("max2")] > 0, pooled, x)
    return weights[0] * x + weights[1] * pooled


def finish(
    spec: ChainSpec, block: int, y: Array, x: Array, channels: Array, norm: Params, name: str, reference: Reference
) -> Array:
    """Return the output of an active block from the sum of its ops y and its input x."""
    return add_input(spec, block, rectify(spec, block, y, channels, norm, name, reference), x, channels)


def rectify(
    spec: ChainSpec, block: int, y: Array, channels: Array, norm: Params, name: str, reference: Reference
) -> Array:
    """Return the sum of ops y, normalised, rectified and, where the block pools, pooled."""
    if spec.strides[block] == 2 and spec.downsample == "pool":
        return norm_relu_pool(y, channels, norm, name, reference)
    return relu(normalise(y, channels, norm, name, reference))


def add_input(spec: ChainSpec, block: int, out: Array, x: Array, channels: Array) -> Array:
    """Return the output of a block with its input x added, if the chain is residual."""
    if not spec.residual:
        return out
    return out + take_channels(down(x, spec, spec.strides[block]), out.shape[-1]) * channels
