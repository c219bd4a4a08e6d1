"""The order of a chain's channels, by how much the next block reads them: a narrower network keeps the first ones.

Once-for-All sorts the channels before narrower widths open, by the L1 norm of the weights with which the next
convolution reads them (Cai et al. 2020, 3.3, "elastic width"). Here these are the weights of the largest op of the next
block, the pointwise ones where it is separable. All that has the shape of the weights (moments, averages, rates) moves
with them, so every network of full width computes what it did, whatever its ops and depth.

An op without weights, and a residual, hand channels on by their number: the outputs of a block that has one keep the
order of its inputs, which for block 0 are the image's. So do outputs that weights of the head read.
"""

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.nets.ops import CONV_SIZE, SEPARABLE_SIZE
from atnas_jax.space.chain import op_slot
from atnas_jax.space.extremes import largest
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, Params, PyTree

FIXED = -1
# Leaf -> (axis of the input channels, axis of the output channels), None where it has no such axis.
_AXES = {"kernel": (-2, -1), "pointwise": (-2, -1), "depthwise": (-1, None), "scale": (None, -1), "bias": (None, -1)}
_NOT_LIKE_WEIGHTS = "step_rates"  # one number a layer and step, under the names of the weights


def channel_groups(space: SearchSpace, head_has_weights: bool) -> tuple[int, ...]:
    """Return the group of the output channels of each block: equal numbers share one order, `FIXED` keeps its own.

    Args:
        space: a chain space.
        head_has_weights: whether meta-parameters of the head belong to channels of the last feature map.
    """
    spec, group, groups = space.spec, FIXED, []
    for block, ops in enumerate(spec.ops):
        handed_on = spec.residual or any(op not in CONV_SIZE and op not in SEPARABLE_SIZE for op in ops)
        group = group if handed_on else block
        groups.append(group)
    read = {groups[depth - 1] for depth in spec.depths} if head_has_weights else set()
    return tuple(FIXED if group in read else group for group in groups)


def movable(space: SearchSpace, groups: tuple[int, ...]) -> list[int]:
    """Return the blocks whose outputs are sorted: those of a group of `channel_groups` that a next block reads."""
    sorted_groups = {group for group in groups[:-1] if group != FIXED}
    return [block for block, group in enumerate(groups) if group in sorted_groups]


def read_norms(space: SearchSpace, body: Params) -> Array:
    """Return float32 [B,widest], the L1 norm of what block b+1 of the largest network reads channel c of block b with.

    Zero in the last row, and where the largest op of the next block has no weights.
    """
    chosen, norms = largest(space), []
    for block in range(1, len(space.spec.ops)):
        own = body[f"block{block}"].get(space.choices[op_slot(block)][chosen[op_slot(block)]], {})
        weights = own.get("pointwise", own.get("kernel"))
        zeros = jnp.zeros(space.spec.widths[-1])
        norms.append(zeros if weights is None else jnp.abs(weights).sum((0, 1, 3)))
    return jnp.stack([*norms, jnp.zeros(space.spec.widths[-1])])


def channel_orders(space: SearchSpace, body: Params, groups: tuple[int, ...]) -> Array:
    """Return int32 [B,widest]: which old output channel of each block stands where, by norms that do not increase.

    Args:
        space: a chain space.
        body: the weights of its supernet.
        groups: see `channel_groups`; the norms of a group are summed.
    """
    norms, member = read_norms(space, body), np.asarray(groups)
    shared = jnp.asarray(member[:, None] == member, norms.dtype) @ norms
    orders = jnp.argsort(-shared, axis=1, stable=True)
    return jnp.where((member == FIXED)[:, None], jnp.arange(norms.shape[1]), orders).astype(jnp.int32)


def reordered(tree: PyTree, orders: Array) -> PyTree:
    """Return the tree with the channels of every leaf that belongs to a block put in order.

    Args:
        tree: the body, or anything that holds pytrees like it: meta-parameters, a `MetaState` with its moments.
        orders: int32 [B,widest], see `channel_orders`.
    """

    def one(path, leaf):
        names = [str(getattr(part, "key", getattr(part, "name", ""))) for part in path]
        block = next((int(name[5:]) for name in names if name.startswith("block") and name[5:].isdigit()), None)
        if block is None or names[-1] not in _AXES or _NOT_LIKE_WEIGHTS in names or leaf.size == 0:
            return leaf
        inputs, outputs = _AXES[names[-1]]
        if inputs is not None and block > 0:
            leaf = jnp.take(leaf, orders[block - 1], axis=inputs)
        return leaf if outputs is None else jnp.take(leaf, orders[block], axis=outputs)

    return jax.tree_util.tree_map_with_path(one, tree)
