"""A wider and deeper network than a genotype says, that starts from its weights."""

import dataclasses

import jax
import numpy as np

from atnas_jax.space.cell import cell_space
from atnas_jax.space.chain import DEPTH_SLOT, POOL_SLOT, chain_space, op_slot, width_slot
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, Params

_INPUTS = {"kernel": 2, "pointwise": 2}  # leaf -> its axis of input channels, over which it sums
NOISE = 0.05  # of a widened leaf's deviation, so that copies of a channel learn different things


def grown_space(space: SearchSpace, genotype: np.ndarray, width: int, depth: int) -> tuple[SearchSpace, np.ndarray]:
    """Return a space of the same family that holds the grown network, and its genotype.

    Args:
        space: of the genotype.
        genotype: int32 [E].
        width: every number of channels is multiplied by it.
        depth: blocks conv3 of stride 1 added behind a chain's last active one, or normal cells added at the end.
    """
    spec, genes = space.spec, np.asarray(genotype, np.int32)
    if space.family == "cell":
        grown = dataclasses.replace(spec, channels=spec.channels * width, layers=spec.layers + depth)
        return cell_space(grown), genes
    active, blocks = spec.depths[genes[DEPTH_SLOT]], len(spec.ops)
    new = ((("conv3",),) * depth, (1,) * depth)
    grown = dataclasses.replace(
        spec,
        ops=spec.ops[:active] + new[0] + spec.ops[active:],
        strides=spec.strides[:active] + new[1] + spec.strides[active:],
        widths=tuple(width * channels for channels in spec.widths),
        depths=tuple(sorted({active + depth, blocks + depth})),
    )
    pairs = [(genes[op_slot(block)], genes[width_slot(block)]) for block in range(blocks)]
    pairs[active:active] = [(0, pairs[active - 1][1])] * depth
    last = [genes[POOL_SLOT]] if spec.last_pool else []
    return chain_space(grown), np.asarray([0, *np.ravel(pairs), *last], np.int32)


def grow(key: Array, source: Params, start: Params, width: int) -> Params:
    """Return weights of a grown network that carry on those of the network it grew from.

    Net2WiderNet (Chen et al. 2016, section 2.2) with every channel copied as often: a copy is repeated in place and
    sums over copies are divided, so the function stays the same but for `NOISE` and for layers that were added. It
    changes where the image itself is handed on, by a first block without weights or with a residual, and under "group"
    normalisation, whose groups then hold fewer of the channels.

    Args:
        key: of the noise; none with a width of 1.
        source: of the plain subnet.
        start: of the grown subnet as it is initialised; what the source does not have stays so.
        width: as of `grown_space`.
    """
    known = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(source)}
    leaves, tree = jax.tree_util.tree_flatten_with_path(start)
    keys, grown = jax.random.split(key, len(leaves)), []
    for (path, leaf), own in zip(leaves, keys, strict=True):
        old, role = known.get(jax.tree_util.keystr(path)), path[-1].key
        if old is None:
            grown.append(leaf)
            continue
        for axis, (now, before) in enumerate(zip(leaf.shape, old.shape, strict=True)):
            old = old.repeat(now // before, axis) / (now // before if axis == _INPUTS.get(role) else 1)
        noisy = width > 1 and role in (*_INPUTS, "depthwise")
        grown.append(old + NOISE * old.std() * jax.random.normal(own, old.shape) if noisy else old)
    return jax.tree.unflatten(tree, grown)
