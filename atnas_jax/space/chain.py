"""The chain family: blocks in a row, each with an op and a width, of which the first `depth` are active.

Block b computes y = op(x) [with stride s_b if downsample is "stride"], norm (scale and bias per channel), relu, [2x2
max-pool if s_b is 2 and downsample is "pool"], [+ its input, sub-sampled and channel-matched, if residual]. Ops without
parameters keep channels: a narrower input is padded with zeros, a wider one is cut to its first channels. Blocks from
`depth` on have no parameters and keep only the down-sampling of their input: x[:, ::2, ::2] or the 2x2 max-pool. With
`last_pool`, a slot says whether one more 2x2 max-pool follows the last block, that is how many places of the image the
embedding tells apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from atnas_jax.space.slots import SearchSpace, check_ops

DEPTH_SLOT = 0
POOL_SLOT = -1  # of a space with last_pool
LAST_POOL = ("none", "max2")
NESTED = {"conv3": "conv5", "sep3": "sep5"}  # what elastic kernels derive from what, see nets/elastic.py


@dataclass(frozen=True)
class ChainSpec:
    """A chain of B blocks.

    Args:
        ops: per block, the ops it may choose.
        widths: output channels to choose from, ascending, the same for every block.
        depths: how many blocks may be active, ascending; the last is B.
        strides: per block, 1 or 2.
        downsample: "stride": the op itself strides; "pool": 2x2 max-pool after norm and relu.
        residual: whether a block adds its input; the op "none" needs it.
        elastic_kernel: where a block may choose conv5 and conv3, or sep5 and sep3, the smaller kernel is made of the
            larger one, see `nets/elastic.py`; the networks and their costs are the same.
        last_pool: whether there is a choice of a 2x2 max-pool after the last block.
    """

    ops: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    strides: tuple[int, ...]
    downsample: str = "stride"
    residual: bool = False
    elastic_kernel: bool = False
    last_pool: bool = False


def op_slot(block: int) -> int:
    """Return the slot that picks the op of a block."""
    return 1 + 2 * block


def width_slot(block: int) -> int:
    """Return the slot that picks the width of a block."""
    return 2 + 2 * block


def pools_last(spec: ChainSpec, genes: Sequence[int]) -> bool:
    """Return whether a concrete genotype has a pool after its last block."""
    return spec.last_pool and LAST_POOL[genes[POOL_SLOT]] != "none"


def blocks_of_slots(space: SearchSpace) -> np.ndarray:
    """Return the block int [E] that each slot speaks of, -1 of those that matter at any depth."""
    block_of = np.full(space.num_slots, -1)
    for block in range(len(space.spec.ops)):
        block_of[op_slot(block) : op_slot(block) + 2] = block
    return block_of


def chain_space(spec: ChainSpec) -> SearchSpace:
    """Return the space with slots "depth", "op0", "width0", "op1", "width1", ..., and "pool" where that is a choice.

    Raises:
        ValueError: the spec contradicts itself, in one line.
    """
    _check(spec)
    names, choices = ["depth"], [tuple(map(str, spec.depths))]
    for block, ops in enumerate(spec.ops):
        names += [f"op{block}", f"width{block}"]
        choices += [tuple(ops), tuple(map(str, spec.widths))]
    if spec.last_pool:
        names, choices = [*names, "pool"], [*choices, LAST_POOL]
    return SearchSpace("chain", spec, tuple(names), tuple(choices))


def hand_made(space: SearchSpace) -> np.ndarray:
    """Return int32 [E]: 3x3 convolutions, the largest width, full depth, pooled last where that is a choice.

    With four blocks this is Conv4.

    Raises:
        ValueError: a block cannot choose conv3.
    """
    genotype = np.asarray(space.cards, np.int32) - 1
    for block, ops in enumerate(space.spec.ops):
        if "conv3" not in ops:
            raise ValueError(f"the hand-made chain needs op 'conv3' in block {block}, whose ops are {', '.join(ops)}")
        genotype[op_slot(block)] = ops.index("conv3")
    return genotype


def pooled_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width after a 2x2 max-pool, which leaves an axis of length 1 as it is."""
    return max(size[0] // 2, 1), max(size[1] // 2, 1)


def chain_resolutions(spec: ChainSpec, height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Return the (height, width) at the input of each block and, last, behind them, before a last pool: B + 1 pairs."""

    def down(size: tuple[int, int]) -> tuple[int, int]:
        return (-(-size[0] // 2), -(-size[1] // 2)) if spec.downsample == "stride" else pooled_size(size)

    sizes = [(height, width)]
    for stride in spec.strides:
        sizes.append(down(sizes[-1]) if stride == 2 else sizes[-1])
    return tuple(sizes)


def _check(spec: ChainSpec) -> None:
    blocks = len(spec.ops)
    if blocks == 0:
        raise ValueError("chain: ops is empty; give one tuple of op names per block")
    for block, ops in enumerate(spec.ops):
        check_ops(ops, f"chain block {block}")
        if "none" in ops and not spec.residual:
            raise ValueError(f"chain block {block}: op 'none' cuts the chain; set residual=True or drop it")
    if spec.elastic_kernel and not any({*pair} <= {*ops} for ops in spec.ops for pair in NESTED.items()):
        raise ValueError("chain: elastic_kernel needs a block with both conv5 and conv3, or both sep5 and sep3")
    for name, values in (("widths", spec.widths), ("depths", spec.depths)):
        if not values or values[0] < 1 or any(a >= b for a, b in pairwise(values)):
            raise ValueError(f"chain: {name} {values!r} must be positive integers in ascending order")
    if spec.depths[-1] != blocks:
        raise ValueError(f"chain: the last of depths is {spec.depths[-1]}; it must be the number of blocks, {blocks}")
    if len(spec.strides) != blocks or any(stride not in (1, 2) for stride in spec.strides):
        raise ValueError(f"chain: strides {spec.strides!r} must be {blocks} numbers, each 1 or 2")
    if spec.downsample not in ("stride", "pool"):
        raise ValueError(f"chain: downsample {spec.downsample!r}; allowed: stride, pool")
