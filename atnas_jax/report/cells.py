"""The graph of a cell: its states from top to bottom, and an arc for every op; labels keep off other arcs."""

from typing import NamedTuple

import numpy as np
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path

from atnas_jax.report.style import OPS, WIDTH, new_figure, styled
from atnas_jax.space.cell import input_pairs, node_slot
from atnas_jax.space.slots import SearchSpace

ROW = 0.85  # inches between states


class Arc(NamedTuple):
    """An op of a cell as it is drawn; across in units, down in states."""

    curve: np.ndarray  # control points [4,2]
    op: str
    text: str  # of its label


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
    arcs = [
        Arc(_curve(start, end, (-1, 1)[number % 2]), op, _label(op, shares.get(op)))
        for number, (start, end, op) in enumerate(edges_of(space, genotype, kind))
    ]
    for arc, place in zip(arcs, label_places(arcs, len(names), WIDTH / (2 * half)), strict=True):
        _draw(axes, arc, place)
    return figure


def _curve(start: int, end: int, side: int) -> np.ndarray:
    """Return the control points [4,2] of a cubic Bézier curve from one state to another on a side."""
    reach = side * 1.33 * (0.35 + 0.6 * (end - start))
    edge, spread = 0.42 * side, 0.16
    return np.asarray([(edge, start + spread), (reach, start + spread), (reach, end - spread), (edge, end - spread)])


def _label(op: str, share: tuple[float, float] | None) -> str:
    return op if share is None or not any(share) else f"{op}\n{share[0]:.1%} | {share[1]:.1%}"


def on_curve(curve: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return points [n,2] of a cubic Bézier curve [4,2] at t [n] in 0..1."""
    t = np.asarray(t)[:, None]
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    return sum(weight * point for weight, point in zip(weights, curve, strict=True))


def label_size(text: str) -> np.ndarray:
    """Return half of the width and half of the height of a label in inches."""
    lines = text.split("\n")
    return np.asarray([0.031 * max(map(len, lines)) + 0.04, 0.062 * len(lines) + 0.035])


def label_places(arcs: list[Arc], states: int, unit: float) -> list[np.ndarray]:
    """Return the point [2] of each label on its arc that hides the least of other arcs, labels and states.

    Args:
        arcs: of a cell.
        states: how many there are, one a row in the middle.
        unit: inches of a unit across.
    """
    inches, steps = np.asarray([unit, ROW]), np.linspace(0.2, 0.8, 25)
    curves = [on_curve(arc.curve, np.linspace(0, 1, 80)) * inches for arc in arcs]
    sizes = [label_size(arc.text) for arc in arcs]
    rows = np.stack([np.zeros(states), np.arange(states)], 1) * inches
    chosen = [on_curve(arc.curve, [0.5])[0] * inches for arc in arcs]

    def hidden(number: int, place: np.ndarray) -> float:
        others = [other for other in range(len(arcs)) if other != number]
        arc_points = sum(_within(curves[other], place, sizes[number]).sum() for other in others)
        labels = sum(_within(chosen[other], place, sizes[number] + sizes[other]) for other in others)
        return arc_points + 100 * (labels + _within(rows, place, sizes[number] + (0.38, 0.14)).sum())

    for number in 3 * list(range(len(arcs))):  # each in turn, as the others stand
        places = on_curve(arcs[number].curve, steps) * inches
        costs = [hidden(number, place) for place in places] + 0.5 * np.abs(steps - 0.5)
        chosen[number] = places[np.argmin(costs)]
    return [place / inches for place in chosen]


def _within(points: np.ndarray, centre: np.ndarray, size: np.ndarray) -> np.ndarray:
    return (np.abs(points - centre) < size).all(-1)


def _draw(axes, arc: Arc, place: np.ndarray) -> None:
    """Draw an op from one state to another, and its label."""
    colour, hatch = OPS[arc.op]
    dark = "0.45" if hatch else colour
    path = Path(arc.curve, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1.6, "color": dark}
    axes.add_patch(FancyArrowPatch(path=path, linestyle="--" if hatch else "-", zorder=2, **style))
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": dark, "linewidth": 0.8}
    axes.text(*place, arc.text, ha="center", va="center", fontsize=7.5, zorder=3, linespacing=1.15, bbox=box)
