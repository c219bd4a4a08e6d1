"""A chain supernet block by block, for genotypes that begin alike."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from atnas_jax.nets.chain import ChainSupernet, first_place, pool_last, run_block
from atnas_jax.space.chain import DEPTH_SLOT, LAST_POOL, POOL_SLOT, ChainSpec, op_slot, width_slot
from atnas_jax.types import Array, Staged


def staged_chain(net: ChainSupernet, embed: Callable[[Array], Array], dtype: str) -> Staged:
    """Return a chain supernet of switch execution in stages: its blocks, and the last pool where that is a choice.

    Args:
        net: of which the attributes are read.
        embed: the last feature map [n,h,w,widest] -> [n,D].
        dtype: what the blocks compute in; the embedding is float32.
    """
    spec = net.spec

    def block_stage(block: int) -> Callable:
        def stage(prepared, here, mask, reference=None):
            return run_block(net, block, prepared[f"block{block}"], here, mask.astype(dtype), reference)[0]

        return stage

    def pool_stage(prepared, here, mask, reference=None):
        del prepared, reference
        return here._replace(x=pool_last(here.x, mask[POOL_SLOT, : len(LAST_POOL)], net.execution))

    return Staged(
        prepare=lambda params: jax.tree.map(lambda leaf: leaf.astype(dtype), params),
        start=lambda x: first_place(x.astype(dtype)),
        stages=(*map(block_stage, range(len(spec.ops))), *([pool_stage] if spec.last_pool else [])),
        embed=lambda here: embed(here.x).astype(jnp.float32),
        kinds=lambda masks: block_kinds(spec, masks.argmax(-1)),
    )


def block_kinds(spec: ChainSpec, genotypes: Array) -> Array:
    """Return int32 [P,B], 0 where a block is inactive, else one number for each pair of op and width.

    With a choice of a last pool there is one more column, which is that choice.

    Args:
        spec: of the space.
        genotypes: int32 [P,E].
    """
    depth = jnp.asarray(spec.depths)[genotypes[:, DEPTH_SLOT]]
    pairs = [
        genotypes[:, op_slot(block)] * len(spec.widths) + genotypes[:, width_slot(block)]
        for block in range(len(spec.ops))
    ]
    columns = [jnp.where(depth > block, 1 + pair, 0) for block, pair in enumerate(pairs)]
    return jnp.stack(columns + ([genotypes[:, POOL_SLOT]] if spec.last_pool else []), 1).astype(jnp.int32)
