"""The cost of a mask: that of a genotype where the mask is one-hot, the expected one where it is a distribution."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.space.cell import CELLS, CellSpec
from atnas_jax.space.chain import DEPTH_SLOT, LAST_POOL, POOL_SLOT, ChainSpec, op_slot, width_slot
from atnas_jax.space.cost import edge_slots, part_costs
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.types import Array


class CostTables(NamedTuple):
    """What the parts of a network cost, in one unit; a network costs the sum of its parts.

    parts: chain: per block float32 [ops, widths in, widths out]; cell: for normal and for reduction cells float32
        [ops], one edge in all cells of its kind together
    rest: chain: float32 [widths], what comes after a last block of that width, [widths,2] without and with a last pool
        where that is a choice; cell: float32 [], what nothing changes
    """

    parts: tuple[Array, ...]
    rest: Array


def exact_tables(
    space: SearchSpace, image_shape: tuple[int, int, int], readout: str, ways: int, unit: str, per_norm: int = 0
) -> CostTables:
    """Return the tables of "params" or "macs"; the other arguments are those of `cost_model`."""
    last = ("params", "macs").index(unit)
    parts, rest = part_costs(space, image_shape, readout, ways, per_norm)
    return CostTables(tuple(jnp.float32(part[..., last]) for part in parts), jnp.float32(rest[..., last]))


def expected_cost(space: SearchSpace, tables: CostTables) -> Callable[[Array], Array]:
    """Return mask float32 [E,O] -> float32 [], the mean cost of genotypes whose slots are independent draws of it.

    E[cost] is a sum of products of the slots' probabilities, hence smooth and linear in each slot (ProxylessNAS, Cai et
    al. 2019, equation 5, has one op a block; here a block also depends on its depth and on two widths).
    """
    return {"chain": _chain, "cell": _cell}[space.family](space.spec, tables)


def linear_cost(table: Array) -> Callable[[Array], Array]:
    """Return mask float32 [E,O] -> sum_slots sum_j mask_j F(o_j), float32 [], of a look-up table float32 [E,O]."""
    return lambda mask: (mask * table).sum()


def cost_of(space: SearchSpace, tables: CostTables) -> Callable[[Array], Array]:
    """Return the cost of genotypes: int32 [...,E] -> float32 [...]."""
    return jnp.vectorize(lambda row: expected_cost(space, tables)(mask_of(space, row)), signature="(e)->()")


def tables_to_dict(tables: CostTables) -> dict:
    """Return what JSON can store and `tables_from_dict` reads back."""
    return {"parts": [np.asarray(part).tolist() for part in tables.parts], "rest": np.asarray(tables.rest).tolist()}


def tables_from_dict(space: SearchSpace, record: dict) -> CostTables:
    """Return the tables of a dict made by `tables_to_dict`.

    Raises:
        ValueError: they are not of this space.
    """
    tables = CostTables(tuple(np.asarray(part, np.float32) for part in record["parts"]), np.float32(record["rest"]))
    found, wanted = (jax.tree.map(np.shape, each) for each in (tables, _like(space)))
    if found != wanted:
        raise ValueError(f"the cost tables have shapes {tuple(found)}; this space needs {tuple(wanted)}")
    return jax.tree.map(jnp.asarray, tables)


def _like(space: SearchSpace) -> CostTables:
    spec = space.spec
    if space.family == "cell":
        return CostTables(tuple(np.zeros(len(spec.ops)) for _ in CELLS), np.zeros(()))
    widths = len(spec.widths)
    parts = tuple(np.zeros((len(ops), widths if block else 1, widths)) for block, ops in enumerate(spec.ops))
    return CostTables(parts, np.zeros((widths, len(LAST_POOL)) if spec.last_pool else widths))


def _chain(spec: ChainSpec, tables: CostTables) -> Callable[[Array], Array]:
    depths = np.asarray(spec.depths)

    def cost(mask: Array) -> Array:
        depth, before, total = mask[DEPTH_SLOT, : len(depths)], jnp.ones(1), 0.0
        rest = tables.rest @ mask[POOL_SLOT, : len(LAST_POOL)] if spec.last_pool else tables.rest
        for block, table in enumerate(tables.parts):
            ops, width = mask[op_slot(block), : table.shape[0]], mask[width_slot(block), : table.shape[2]]
            # Who has this block has all before it, so the width of its input is the choice of the block before.
            total += (depth * (depths > block)).sum() * jnp.einsum("o,i,w,oiw->", ops, before, width, table)
            total += (depth * (depths == block + 1)).sum() * (width @ rest)
            before = width
        return total

    return cost


def _cell(spec: CellSpec, tables: CostTables) -> Callable[[Array], Array]:
    slots = [np.asarray(edge_slots(spec, cell)) for cell in CELLS]

    def cost(mask: Array) -> Array:
        of_kind = (mask[at, : len(spec.ops)].sum(0) @ table for at, table in zip(slots, tables.parts, strict=True))
        return tables.rest + sum(of_kind)

    return cost
