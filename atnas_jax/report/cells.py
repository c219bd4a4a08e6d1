"""The graph of a cell: its states from top to bottom, and an arc for every op."""

import numpy as np
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path

from atnas_jax.report.style import OPS, new_figure, styled
from atnas_jax.space.cell import input_pairs, node_slot
from atnas_jax.space.slots import SearchSpace

ROW = 0.85  # inches between states


def edges_of(space: SearchSpace, genotype: np.ndarray, kind: str) -> list[tuple[int, int, str]]:
    """Return (from state, to state, op) of every op of a cell; states 0 and 1 are its inputs, 2.. its nodes."""
    edges = []
    for node in range(space.spec.nodes):
        slot = node_slot(space.spec, kind, node)
        for state, op in zip(input_pairs(node)[genotype[slot]], genotype[slot + 1 : slot + 3], strict=True):
            edges.append((int(state), node + 2, space.spec.ops[op]))
    return edges


@styled
def cell_figure(space: SearchSpace, genotype: np.ndarray, kind: str, shares: dict[str, tuple[float, float]]):
    """Draw one kind of cell.

    Args:
        space: a cell space.
        genotype: int32 [E].
        kind: "normal" or "reduce".
        shares: op -> what one such edge takes of the network's parameters and MACs; empty where unknown.
    """
    spec = space.spec
    names = ["cell k−2", "cell k−1", *(f"node {node}" for node in range(spec.nodes))]
    figure = new_figure(ROW * (len(names) + 1) + 0.3)
    axes = figure.subplots()
    half = 1 + 0.62 * (len(names) - 1)  # of the width, in rows
    axes.set(xlim=(-half, half), ylim=(len(names) + 0.4, -0.5))
    axes.axis("off")
    for state, name in enumerate(names):
        face = "#E8E8E8" if state < 2 else "white"
        axes.text(0, state, name, ha="center", va="center", weight="bold", zorder=4,
                  bbox={"boxstyle": "round,pad=0.35", "facecolor": face, "edgecolor": "0.3"})  # fmt: skip
    out = f"output: nodes 0–{spec.nodes - 1} side by side,\n{spec.nodes * spec.channels} channels"
    axes.text(0, len(names), out if spec.nodes > 1 else f"output: node 0, {spec.channels} channels", ha="center",
              va="center", fontsize=8.5,
              bbox={"boxstyle": "round,pad=0.35", "facecolor": "#E8E8E8", "edgecolor": "0.3"})  # fmt: skip
    edges = edges_of(space, genotype, kind)
    for number, (start, end, op) in enumerate(edges):
        _arc(axes, start, end, op, (-1, 1)[number % 2], shares.get(op))
    return figure


def _arc(axes, start: int, end: int, op: str, side: int, share: tuple[float, float] | None) -> None:
    """Draw an op from one state to another on a side, its label at the outermost point."""
    reach = 0.35 + 0.6 * (end - start)
    colour, hatch = OPS[op]
    dark = "0.45" if hatch else colour
    edge, spread = 0.42 * side, 0.16
    path = [(edge, start + spread), (side * 1.33 * reach, start + spread), (side * 1.33 * reach, end - spread),
            (edge, end - spread)]  # fmt: skip
    curve = Path(path, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1.6, "color": dark}
    axes.add_patch(FancyArrowPatch(path=curve, linestyle="--" if hatch else "-", zorder=2, **style))
    x = 0.25 * edge + 0.75 * side * 1.33 * reach
    text = op if share is None else f"{op}\n{share[0]:.1%} | {share[1]:.1%}"
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": dark, "linewidth": 0.8}
    axes.text(x, (start + end) / 2, text, ha="center", va="center", fontsize=7.5, zorder=3, linespacing=1.15, bbox=box)
