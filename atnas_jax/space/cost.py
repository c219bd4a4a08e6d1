"""Exact parameters and multiply-adds of a genotype, from static tables.

Counted as parameters: convolution weights (no bias), scale and bias of every norm and what else it learns, weights and
bias of the head.
Counted as multiply-adds: h_out * w_out * weights of the convolution, zero padding included, and D * ways for the head.
Norms, pools, identity, sums and activations count 0 multiply-adds.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from atnas_jax.space.cell import CELLS, CellSpec, cell_resolutions, node_slot
from atnas_jax.space.chain import (
    DEPTH_SLOT,
    POOL_SLOT,
    ChainSpec,
    chain_resolutions,
    op_slot,
    pooled_size,
    pools_last,
    width_slot,
)  # fmt: skip
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array

READOUTS = ("flatten", "mean")
INT32_MAX = 2**31 - 1
_KERNEL = {"conv1": 1, "conv3": 3, "conv5": 5, "dil3": 3, "sep3": 3, "sep5": 5}


def op_weights(op: str, c_in: int, c_out: int) -> int:
    """Return the number of weights of an op from c_in to c_out channels; 0 for pools, identity and none."""
    if op not in _KERNEL:
        return 0
    area = _KERNEL[op] ** 2
    return area * c_in + c_in * c_out if op.startswith("sep") else area * c_in * c_out


def cost_model(
    space: SearchSpace, image_shape: tuple[int, int, int], readout: str, ways: int, per_norm: int = 0
) -> Callable[[Array], Array]:
    """Return the jittable cost of genotypes: int32 [...,E] -> int32 [...,2], (parameters, multiply-adds).

    Args:
        space: a chain or cell space.
        image_shape: H, W, C of an image.
        readout: "flatten" (D = h*w*channels) or "mean" (D = channels).
        ways: N, the classes of the linear head.
        per_norm: numbers that a norm learns besides scale and bias of its channels, see `nets/norm.py`.

    Raises:
        ValueError: the readout is unknown, or a genotype may cost more than int32 holds (2**31 - 1).
    """
    if readout not in READOUTS:
        raise ValueError(f"readout {readout!r} is unknown; allowed: {', '.join(READOUTS)}")
    return {"chain": _chain_model, "cell": _cell_model}[space.family](space.spec, image_shape, readout, ways, per_norm)


def part_costs(
    space: SearchSpace, image_shape: tuple[int, int, int], readout: str, ways: int, per_norm: int = 0
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return what the parts of a network cost, (parameters, multiply-adds) int64 on a last axis; args as `cost_model`.

    Returns:
        (parts, rest) in the shapes of `space/expected.py`'s `CostTables`.
    """
    family = {"chain": _chain_parts, "cell": _cell_parts}[space.family]
    parts, rest = family(space.spec, image_shape, readout, ways, per_norm)
    return list(parts), rest


def cost_report(
    space: SearchSpace,
    genotype: np.ndarray,
    image_shape: tuple[int, int, int],
    readout: str,
    ways: int,
    per_norm: int = 0,
) -> list[tuple[str, int, int]]:
    """Return (part, parameters, multiply-adds) of each part of one network int32 [E], in order, for people to read."""
    rows = {"chain": _chain_rows, "cell": _cell_rows}[space.family]
    return rows(space.spec, np.asarray(genotype), image_shape, readout, ways, per_norm)


def _block_cost(op: str, c_in: int, c_out: int, area: int, per_norm: int) -> tuple[int, int]:
    weights = op_weights(op, c_in, c_out)
    return weights + 2 * c_out + per_norm, area * weights


def _head_cost(channels: int, area: int, readout: str, ways: int) -> tuple[int, int]:
    features = channels * (area if readout == "flatten" else 1)
    return features * ways + ways, features * ways


def _int32_table(values: list, budget: int) -> tuple[np.ndarray, int]:
    """Return the table as int32 and what its largest entry leaves of the budget."""
    table = np.asarray(values, np.int64)
    left = budget - int(table.max())
    if left < 0:
        raise ValueError(
            f"a network of this space may cost more than {INT32_MAX}; use fewer channels or smaller images"
        )
    return table.astype(np.int32), left


def _op_areas(spec: ChainSpec, image_shape: tuple[int, int, int]) -> list[int]:
    """Return the number of output positions of each block's op."""
    sizes = [h * w for h, w in chain_resolutions(spec, *image_shape[:2])]
    return sizes[1:] if spec.downsample == "stride" else sizes[:-1]


def _end_areas(spec: ChainSpec, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return the number of positions behind the blocks, without a last pool and with one, as in `LAST_POOL`."""
    size = chain_resolutions(spec, *image_shape[:2])[-1]
    return math.prod(size), math.prod(pooled_size(size))


def _chain_parts(
    spec: ChainSpec, image_shape: tuple[int, int, int], readout: str, ways: int, per_norm: int
) -> tuple[list[np.ndarray], np.ndarray]:
    areas, parts = _op_areas(spec, image_shape), []
    for block, ops in enumerate(spec.ops):
        inputs = spec.widths if block else (image_shape[2],)
        costs = [[[_block_cost(op, i, o, areas[block], per_norm) for o in spec.widths] for i in inputs] for op in ops]
        parts.append(np.asarray(costs, np.int64))
    ends = _end_areas(spec, image_shape)
    rest = np.asarray([[_head_cost(width, area, readout, ways) for area in ends] for width in spec.widths], np.int64)
    return parts, rest if spec.last_pool else rest[:, 0]


def _chain_model(
    spec: ChainSpec, image_shape: tuple[int, int, int], readout: str, ways: int, per_norm: int
) -> Callable[[Array], Array]:
    parts, rest = _chain_parts(spec, image_shape, readout, ways, per_norm)
    tables, left = [], INT32_MAX
    for part in parts:
        table, left = _int32_table(part, left)
        tables.append(table)
    head, _ = _int32_table(rest, left)
    depths = np.asarray(spec.depths, np.int32)

    def cost(genotypes: Array) -> Array:
        genotypes = jnp.asarray(genotypes)
        depth = jnp.asarray(depths)[genotypes[..., DEPTH_SLOT]]
        width = jnp.zeros_like(depth)
        total = jnp.zeros((*depth.shape, 2), jnp.int32)
        for block, table in enumerate(tables):
            active = block < depth
            chosen = genotypes[..., width_slot(block)]
            spent = jnp.asarray(table)[genotypes[..., op_slot(block)], width, chosen]
            total = total + jnp.where(active[..., None], spent, 0)
            width = jnp.where(active, chosen, width)
        pooled = (genotypes[..., POOL_SLOT],) if spec.last_pool else ()
        return total + jnp.asarray(head)[(width, *pooled)]

    return cost


def _chain_rows(
    spec: ChainSpec, genotype: np.ndarray, image_shape: tuple[int, int, int], readout: str, ways: int, per_norm: int
) -> list[tuple[str, int, int]]:
    areas, rows, width = _op_areas(spec, image_shape), [], image_shape[2]
    for block in range(spec.depths[genotype[DEPTH_SLOT]]):
        op, out = spec.ops[block][genotype[op_slot(block)]], spec.widths[genotype[width_slot(block)]]
        rows.append((f"block{block} {op}-{out}", *_block_cost(op, width, out, areas[block], per_norm)))
        width = out
    area = _end_areas(spec, image_shape)[pools_last(spec, genotype)]
    return [*rows, ("head", *_head_cost(width, area, readout, ways))]


def _cell_fixed(spec: CellSpec, image_shape: tuple[int, int, int], per_norm: int) -> list[tuple[int, int]]:
    """Return the cost that no choice changes: of the stem, then of each cell's preprocessing and norms."""
    areas = [h * w for h, w in cell_resolutions(spec, *image_shape[:2])]
    channels, out = spec.channels, spec.nodes * spec.channels
    costs = [_block_cost("conv3", image_shape[2], channels, areas[0], per_norm)]
    for layer in range(spec.layers):
        # Cell k-2 and k-1; the stem stands in for the cells before the first.
        weights = sum(op_weights("conv1", out if layer > back else channels, channels) for back in (1, 0))
        costs.append((weights + (2 * channels + per_norm) * (2 + spec.nodes), areas[layer + 1] * weights))
    return costs


def _edge_costs(spec: CellSpec, layer: int, image_shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Return the cost of each op on one edge of a cell."""
    h, w = cell_resolutions(spec, *image_shape[:2])[layer + 1]
    weights = [op_weights(op, spec.channels, spec.channels) for op in spec.ops]
    return [(count, h * w * count) for count in weights]


def edge_slots(spec: CellSpec, cell: str) -> list[int]:
    """Return the slots that pick the ops of a kind of cell."""
    return [node_slot(spec, cell, node) + edge for node in range(spec.nodes) for edge in (1, 2)]


def _cell_head(spec: CellSpec, image_shape: tuple[int, int, int], readout: str, ways: int) -> tuple[int, int]:
    h, w = cell_resolutions(spec, *image_shape[:2])[-1]
    return _head_cost(spec.nodes * spec.channels, h * w, readout, ways)


def _cell_parts(
    spec: CellSpec, image_shape: tuple[int, int, int], readout: str, ways: int, per_norm: int
) -> tuple[np.ndarray, np.ndarray]:
    parts = np.zeros((len(CELLS), len(spec.ops), 2), np.int64)
    for layer in range(spec.layers):
        parts[int(layer in spec.reductions)] += np.asarray(_edge_costs(spec, layer, image_shape), np.int64)
    fixed = sum(np.asarray(part, np.int64) for part in _cell_fixed(spec, image_shape, per_norm))
    return parts, fixed + np.asarray(_cell_head(spec, image_shape, readout, ways), np.int64)


def _cell_model(
    spec: CellSpec, image_shape: tuple[int, int, int], readout: str, ways: int, per_norm: int
) -> Callable[[Array], Array]:
    tables, rest = _cell_parts(spec, image_shape, readout, ways, per_norm)
    base, left = _int32_table([rest], INT32_MAX)
    _int32_table([2 * spec.nodes * tables.max(1).sum(0)], left)
    per_edge = [(np.asarray(edge_slots(spec, cell)), tables[i].astype(np.int32)) for i, cell in enumerate(CELLS)]

    def cost(genotypes: Array) -> Array:
        genotypes = jnp.asarray(genotypes)
        return base[0] + sum(jnp.asarray(table)[genotypes[..., slots]].sum(-2) for slots, table in per_edge)

    return cost


def _cell_rows(
    spec: CellSpec, genotype: np.ndarray, image_shape: tuple[int, int, int], readout: str, ways: int, per_norm: int
) -> list[tuple[str, int, int]]:
    stem, *cells = _cell_fixed(spec, image_shape, per_norm)
    rows = [("stem", *stem)]
    for layer, fixed in enumerate(cells):
        cell = CELLS[layer in spec.reductions]
        edges = np.asarray(_edge_costs(spec, layer, image_shape))[genotype[edge_slots(spec, cell)]].sum(0)
        rows.append((f"cell{layer} {cell}", int(fixed[0] + edges[0]), int(fixed[1] + edges[1])))
    return [*rows, ("head", *_cell_head(spec, image_shape, readout, ways))]
