"""What accuracy to expect on images of a novel task, from its support set alone."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.devices import map_rows
from atnas_jax.pseudo import PseudoRows, needs_copies, pseudo_episodes, pseudo_rows
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.types import Array, MetaLearner, Params

CHEAP = 64  # support images up to which each is left out alone, a `padded_size`
FOLDS, ALONE, COPIES = "folds", "leave-one-out", "moved copies"  # how support images are held out
Z95 = 1.959964  # of the normal distribution


def held_out(labels: np.ndarray, folds: int, copies: int, transductive: bool) -> tuple[str, PseudoRows]:
    """Return how support images are held out, and which: rows to learn from int [T,S'] and to predict int [T,h].

    Each image alone, where there are few; else folds, as of `support_folds`. With `transductive` normalisation always
    folds, since one image has no statistics of its own. Where a class has one image nothing can be held out, and moved
    copies of the support are predicted.

    Args:
        labels: int [S], ascending.
        folds, copies: as of `pseudo_rows`.
        transductive: whether predictions depend on the other queries.
    """
    if needs_copies(labels):
        return COPIES, pseudo_rows(labels, folds, copies)
    if len(labels) > CHEAP or transductive:
        return FOLDS, pseudo_rows(labels, folds, copies)
    rows = np.arange(len(labels))
    return ALONE, PseudoRows(np.stack([np.delete(rows, row) for row in rows]), rows[:, None])


def make_estimate(space: SearchSpace, learner: MetaLearner, moved: bool, axis: str | None) -> Callable[..., Array]:
    """Return estimate(params, genotype, support_x, support_y, rows, key) -> bool [T,h], whether each was right.

    Args:
        space: of the run.
        learner: of so many ways.
        moved: whether moved copies are predicted.
        axis: the mapped axis of the devices that share the episodes.
    """

    def estimate(params: Params, genotype: Array, x: Array, y: Array, rows: PseudoRows, key: Array) -> Array:
        mask = mask_of(space, genotype)

        def one(rows: PseudoRows) -> Array:
            episode = pseudo_episodes(key, x, y, rows, moved)
            return learner.solve(params, mask, *episode[:3]).argmax(-1) == episode.query_y

        rows = jax.tree.map(jnp.asarray, rows)
        last = (rows.learn >= 0).any(1).sum() if learner.padded else None
        return map_rows(one, rows, axis=axis, real=last)

    return estimate


def describe(how: str, right: np.ndarray) -> dict[str, Any]:
    """Return the estimate as adaptation.json has it.

    `accuracy` is the share of held-out images that were right, `ci95` Wilson's interval of it. Each was predicted from
    fewer images than the network now has, so it errs to the low side for that; and the architecture was chosen with the
    help of the same images, which errs to the high side where that is not the shared best. Moved copies resemble what
    they are copies of: there `accuracy` is null and `upper` the share, a bound that new images will not reach.
    """
    share, number = float(np.mean(right)), len(right)
    if how == COPIES:
        return {"accuracy": None, "ci95": None, "upper": share, "images": number, "how": how}
    return {"accuracy": share, "ci95": wilson(share, number), "upper": None, "images": number, "how": how}


def wilson(share: float, number: int) -> list[float]:
    """Return the 95 % interval [low, high] of a share of `number` trials (Wilson 1927; Brown et al. 2001, eq. 4)."""
    square = Z95**2 / number
    centre = (share + square / 2) / (1 + square)
    half = Z95 / (1 + square) * math.sqrt(share * (1 - share) / number + square / (4 * number))
    return [max(0.0, centre - half), min(1.0, centre + half)]


def sentence(expected: dict[str, Any]) -> str:
    """Return one line on what `describe` returned, for a person."""
    if expected["accuracy"] is None:
        return (
            f"no accuracy can be expected from one image of a class; moved copies of the support reach "
            f"{100 * expected['upper']:.0f} %, which new images will not"
        )
    low, high = (100 * bound for bound in expected["ci95"])
    return (
        f"expected accuracy {100 * expected['accuracy']:.0f} % (95 % interval {low:.0f} to {high:.0f}; "
        f"{expected['how']}, {expected['images']} support images)"
    )
