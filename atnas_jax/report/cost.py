"""What the parts of a found architecture cost, and their shares of the whole."""

from typing import NamedTuple

import numpy as np

from atnas_jax.nets.norm import LEARNED
from atnas_jax.report.read import Record
from atnas_jax.space.cell import CELLS
from atnas_jax.space.cost import cost_report, part_costs

Costs = tuple[float, float]  # parameters and multiply-adds


class Part(NamedTuple):
    """A part of a network in the order of computation; the shares are of the whole network, 0..1."""

    name: str  # such as "block0 conv3-32", "cell1 reduce", "stem", "head"
    params: int
    macs: int
    shares: Costs


def parts_of(run: Record) -> list[Part]:
    """Return the parts of the shared best architecture; empty where genotype or image shape is unknown."""
    if run.genotype is None or run.image_shape is None:
        return []
    rows = cost_report(run.space, run.genotype, *_arguments(run))
    whole = [max(1, sum(row[column] for row in rows)) for column in (1, 2)]
    return [Part(name, params, macs, (params / whole[0], macs / whole[1])) for name, params, macs in rows]


def edge_shares(run: Record, parts: list[Part]) -> dict[str, dict[str, Costs]]:
    """Return {kind of cell: {op: shares}}, what one edge of a cell network takes in all cells of the kind together."""
    if not parts:
        return {}
    tables, _ = part_costs(run.space, *_arguments(run))
    whole = np.maximum(1, [sum(part.params for part in parts), sum(part.macs for part in parts)])
    return {
        kind: {op: tuple(row / whole) for op, row in zip(run.space.spec.ops, table, strict=True)}
        for kind, table in zip(CELLS, tables, strict=True)
    }


def _arguments(run: Record) -> tuple:
    net = run.config.net
    return run.image_shape, net.readout, run.config.protocol.ways, len(LEARNED.get(net.normalisation, ()))
