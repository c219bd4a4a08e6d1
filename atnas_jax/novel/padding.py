"""The support of a novel task in arrays of few sizes, so that tasks of many ways and shots share programs.

What is added has label -1, which a `padded` learner leaves out of everything.
"""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from atnas_jax.nets.norm import is_transductive
from atnas_jax.novel.expected import ALONE, COPIES, held_out
from atnas_jax.pseudo import PseudoRows, pseudo_rows

SMALLEST = 8  # rows
FEW_IMAGES = 100  # of a support: filled up, a search on many more takes seconds longer, as compiling anew does


class Kind(NamedTuple):
    """What decides the programs of a task besides the shapes of its `Support`."""

    ways: int  # N of the learner, the most classes that there may be
    how: str  # see `held_out`
    padded: bool


class Support(NamedTuple):
    """A support set as programs take it."""

    x: np.ndarray  # float32 [S,H,W,C], class by class
    y: np.ndarray  # int32 [S]
    search: PseudoRows
    estimate: PseudoRows


def power_of_two(rows: int) -> int:
    """Return the least power of two that is not below so many rows, at least 1."""
    return 1 << (rows - 1).bit_length()


def padded_size(rows: int) -> int:
    """Return how many rows so many are filled up to: a power of two, at least `SMALLEST`."""
    return max(SMALLEST, power_of_two(rows))


def filled_size(images: int) -> int:
    """Return how many images a support of so many, `FEW_IMAGES` at most, is filled up to."""
    return min(padded_size(images), FEW_IMAGES)


def more_images(x: np.ndarray, size: int) -> np.ndarray:
    """Return images [n,H,W,C] and the last one again behind them, `size` in all; it is no wilder than an image."""
    return x[np.minimum(np.arange(size), len(x) - 1)]


def filled(values: np.ndarray, *sizes: int, value: float) -> np.ndarray:
    """Return values with `value` behind them along the leading axes, which are then of these sizes."""
    behind = [(0, size - have) for size, have in zip(sizes, values.shape, strict=False)]
    return np.pad(values, behind + [(0, 0)] * (values.ndim - len(behind)), constant_values=value)


def lay_out(config: ConfigDict, x: np.ndarray, labels: np.ndarray, pad: bool) -> tuple[Kind, Support]:
    """Return a support set as programs take it.

    Tasks share programs whose supports are filled up to the same size, if all have a class of a single image or none
    has; where one has, and others many, the number of moved copies may be a size more. Padding would count where
    queries are normalised by each other, and where there are many images it would cost more than it saves; there the
    sizes are the task's own.

    Args:
        config: of the meta-network.
        x: float32 [S,H,W,C], class by class.
        labels: int32 [S], ascending.
        pad: whether tasks of similar sizes share programs.
    """
    transductive, adapt = is_transductive(config.net.normalisation), config.adapt
    search, ways = pseudo_rows(labels, adapt.folds, adapt.copies), int(labels.max()) + 1
    how, estimate = held_out(labels, adapt.folds, adapt.copies, transductive)
    if not pad or transductive or len(labels) > FEW_IMAGES:
        return Kind(ways, how, False), Support(x, labels, search, estimate)
    size, moved = filled_size(len(labels)), how == COPIES
    most = size if moved else size // 2  # classes, and images that a fold holds out
    queries = padded_size(max(most * adapt.copies, search.held.shape[1])) if moved else most
    search = _filled_rows(search, 1 if moved else min(adapt.folds, most), size, queries)
    estimate = _filled_rows(estimate, size, size, 1) if how == ALONE else search
    ways = ways if config.learner.head == "matrix" else most
    return Kind(ways, how, True), Support(more_images(x, size), filled(labels, size, value=-1), search, estimate)


def _filled_rows(rows: PseudoRows, episodes: int, learn: int, held: int) -> PseudoRows:
    return PseudoRows(filled(rows.learn, episodes, learn, value=-1), filled(rows.held, episodes, held, value=-1))
