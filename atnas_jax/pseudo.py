"""Pseudo-episodes out of one support set: no query image or label enters.

Where K >= 2 folds of the support take turns as queries, where K = 1 slightly moved copies of the support images stand
in for them.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from atnas_jax.data.augment import pseudo_queries
from atnas_jax.types import Array, Episode


def support_folds(labels: np.ndarray, folds: int) -> tuple[np.ndarray, np.ndarray]:
    """Split a support set into folds of equal shape that hold every class.

    From each class fold f holds out items f*h..(f+1)*h-1, h = count // F, F = min(folds, smallest class).

    Args:
        labels: int [S] on the host, classes may have unequal counts, each at least 2.
        folds: the largest number of folds.

    Returns:
        (rows to learn from int [F,S-h], rows held out int [F,h]).

    Raises:
        ValueError: a class has fewer than two items.
    """
    counts = np.bincount(labels)
    number = min(folds, int(counts.min()))
    if number < 2:
        raise ValueError(f"folds need 2 images or more of every class; the smallest class has {counts.min()}")
    held = np.zeros((number, len(labels)), bool)
    for label, count in enumerate(counts):
        rows, size = np.flatnonzero(labels == label), count // number
        for fold in range(number):
            held[fold, rows[fold * size : (fold + 1) * size]] = True
    return np.stack([np.flatnonzero(~row) for row in held]), np.stack([np.flatnonzero(row) for row in held])


def moved_rows(labels: np.ndarray, copies: int) -> np.ndarray:
    """Return which support image each moved copy is of, int [N*n], n = max(copies, largest class) copies of a class.

    A class's images take turns, so every class has equally many pseudo-queries however unequal the counts are.

    Args:
        labels: int [S] on the host.
        copies: of the only image of a class, at least 1.
    """
    number = max(copies, int(np.bincount(labels).max()))
    # Sorted, so that copies of one image are neighbours.
    return np.concatenate([np.sort(np.resize(np.flatnonzero(labels == k), number)) for k in range(labels.max() + 1)])


class PseudoRows(NamedTuple):
    """Which support images pseudo-episodes are made of; -1 is padding, see `MetaLearner`."""

    learn: Array | np.ndarray  # int [T,S'], to adapt to
    held: Array | np.ndarray  # int [T,Q], to predict, or copies of them


def needs_copies(labels: np.ndarray) -> bool:
    """Return whether a class has one image, so that none can be held out; labels int [S] on the host."""
    return bool(np.bincount(labels).min() < 2)


def pseudo_rows(labels: np.ndarray, folds: int, copies: int) -> PseudoRows:
    """Return the rows of the episodes that a support set makes: T folds, or one of moved copies.

    Args:
        labels: int [S] on the host, since they decide shapes.
        folds: the largest number of folds where every class has two images or more.
        copies: moved copies of the image where a class has only one, see `moved_rows`.
    """
    if needs_copies(labels):
        return PseudoRows(np.arange(len(labels))[None], moved_rows(labels, copies)[None])
    return PseudoRows(*support_folds(labels, folds))


def pseudo_episodes(key: Array, support_x: Array, support_y: Array, rows: PseudoRows, moved: bool) -> Episode:
    """Make episodes out of a support set.

    Args:
        key: consumed; of moved copies, as folds are the same for every key.
        support_x: float32 [S,H,W,C].
        support_y: int32 [S].
        rows: from `pseudo_rows`, or one episode's, without T.
        moved: whether the queries are moved copies, see `needs_copies`.

    Returns:
        An Episode with a leading T, if the rows have one; its labels are -1 where the rows are.
    """

    def taken(rows):
        return support_x[rows], jnp.where(rows < 0, -1, support_y[rows])

    episodes = Episode(*taken(rows.learn), *taken(rows.held))
    if not moved:
        return episodes
    images = episodes.query_x
    copies = pseudo_queries(key, images.reshape(-1, *support_x.shape[1:]), 1)
    return episodes._replace(query_x=copies.reshape(images.shape))
