"""A chain supernet block by block, for genotypes that begin alike."""

from collections.abc import Callable

import jax.numpy as jnp

from atnas_jax.nets.chain import ChainSupernet, Place, first_place, pool_last, run_block
from atnas_jax.space.chain import DEPTH_SLOT, LAST_POOL, POOL_SLOT, ChainSpec, op_slot, width_slot
from atnas_jax.types import Array, Blockwise, Params, PyTree, Reference


def blockwise_chain(net: ChainSupernet, embed: Callable[[Array], Array], cast: Callable[[PyTree], PyTree]) -> Blockwise:
    """Return a chain supernet of switch execution block by block; a last pool, where that is a choice, is one more.

    Args:
        net: of which the attributes are read.
        embed: the last feature map [n,h,w,widest] -> [n,D].
        cast: arrays -> the same in the type that the blocks compute in.
    """
    spec = net.spec

    def block_of(number: int) -> Callable[..., Place]:
        def block(prepared: Params, here: Place, mask: Array, reference: Reference) -> Place:
            return run_block(net, number, prepared[f"block{number}"], here, cast(mask), reference)[0]

        return block

    def last_pool(_: Params, here: Place, mask: Array, __: Reference) -> Place:
        return here._replace(x=pool_last(here.x, mask[POOL_SLOT, : len(LAST_POOL)], net.execution))

    return Blockwise(
        prepare=cast,
        start=lambda x: first_place(cast(x)),
        blocks=(*map(block_of, range(len(spec.ops))), *([last_pool] if spec.last_pool else [])),
        embed=lambda here: embed(here.x).astype(jnp.promote_types(here.x.dtype, jnp.float32)),
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
