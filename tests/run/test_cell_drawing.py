"""The drawing of a cell as it is rendered: nothing overlaps, and labels keep off the arcs of others."""

import itertools

import jax
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from atnas_jax.report import cells
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.slots import random_genotypes
from atnas_jax.space.text import from_text

OPS = ("conv3", "sep3", "max3", "identity")
SHARES = {"conv3": (0.123, 0.456), "sep3": (0.1, 0.234)}
WORST = "cell:normal/0+1-conv3-conv3/0+1-conv3-conv3/0+1-conv3-conv3/0+1-conv3-conv3/reduce/" + "/".join(
    ("0+1-conv3-sep3", "1+2-conv3-sep3", "1+3-conv3-sep3", "2+4-conv3-sep3")
)


def _genotypes(space):
    return [*np.asarray(random_genotypes(jax.random.key(0), space, 4)), from_text(space, WORST)]


def _drawn(space, genotype, kind):
    """Return the boxes of all texts and the arcs [80,2] of a cell, in pixels."""
    figure = cells.cell_figure(space, genotype, kind, SHARES)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = figure.axes[0]
    boxes = [text.get_bbox_patch().get_window_extent(canvas.get_renderer()) for text in axes.texts]
    curves = [
        axes.transData.transform(cells.on_curve(cells._curve(start, end, (-1, 1)[number % 2]), np.linspace(0, 1, 80)))
        for number, (start, end, _) in enumerate(cells.edges_of(space, genotype, kind))
    ]
    return boxes, curves, figure.bbox


def _behind(boxes, curves):
    """Return how many points of arcs lie behind labels of other arcs; labels are the last boxes."""
    labels = boxes[len(boxes) - len(curves) :]
    pairs = itertools.permutations(range(len(curves)), 2)
    return sum(int(labels[one].contains(*point)) for one, other in pairs for point in curves[other])


def test_nothing_overlaps_and_arcs_are_seen(monkeypatch):
    space = cell_space(CellSpec(OPS, 4, 3, (1,), 4))
    cases = [(space, genotype, kind) for genotype in _genotypes(space) for kind in ("normal", "reduce")]
    placed = 0
    for case in cases:
        boxes, curves, page = _drawn(*case)
        assert len(boxes) == 7 + len(curves)  # six states and the output
        assert all(Bbox.intersection(one, other) is None for one, other in itertools.combinations(boxes, 2))
        assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
        placed += _behind(boxes, curves)
    middle = lambda arcs, states, unit: [cells.on_curve(arc.curve, [0.5])[0] for arc in arcs]  # noqa: E731
    monkeypatch.setattr(cells, "label_places", middle)
    assert placed <= 0.4 * sum(_behind(*_drawn(*case)[:2]) for case in cases)


@pytest.mark.parametrize("text", ["conv3\n12.3% | 45.6%", "identity", "max3"])
def test_labels_are_as_large_as_they_are_taken_for(text):
    figure = cells.new_figure(2)
    axes = figure.subplots()
    label = axes.text(0.5, 0.5, text, fontsize=7.5, linespacing=1.15, bbox={"boxstyle": "round,pad=0.15"})
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = label.get_bbox_patch().get_window_extent(canvas.get_renderer())
    half = np.asarray([box.width, box.height]) / figure.dpi / 2
    assert (half <= cells.label_size(text)).all() and (cells.label_size(text) <= half + 0.09).all()
