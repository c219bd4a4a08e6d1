"""What accuracy to expect on images of a novel task, from its support set alone."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.adaptation import moved_rows, support_folds
from atnas_jax.data.augment import pseudo_queries
from atnas_jax.devices import map_rows
from atnas_jax.nets.norm import is_transductive
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.types import Array, MetaLearner, Params

CHEAP = 64  # support images up to which each is left out alone
Z95 = 1.959964  # of the normal distribution


def held_out(labels: np.ndarray, folds: int, transductive: bool) -> tuple[str, np.ndarray, np.ndarray]:
    """Return how support images are held out, rows to learn from int [F,S-h] and rows to predict int [F,h].

    Each image alone, where there are few; else folds, as of `support_folds`. With `transductive` normalisation always
    folds, since one image has no statistics of its own.

    Args:
        labels: int [S], ascending, at least 2 of each class.
        folds: the largest number of folds.
        transductive: whether predictions depend on the other queries.
    """
    if len(labels) > CHEAP or transductive:
        return "folds", *support_folds(labels, folds)
    rows = np.arange(len(labels))
    return "leave-one-out", np.stack([np.delete(rows, row) for row in rows]), rows[:, None]


def make_estimate(config: ConfigDict, space: SearchSpace, learner: MetaLearner, labels: np.ndarray, axis: str | None):
    """Return (how, estimate(params, genotype, support_x, support_y, key) -> bool [n], whether each was right).

    Where a class has one image nothing can be held out, and moved copies of the support are predicted: `how` is then
    "moved copies".

    Args:
        config, space: of the run.
        learner: of so many ways.
        labels: int [S] on the host, ascending.
        axis: the mapped axis of the devices that share the folds.
    """
    if np.bincount(labels).min() < 2:
        rows = moved_rows(labels, config.adapt.copies)

        def on_copies(params: Params, genotype: Array, x: Array, y: Array, key: Array) -> Array:
            moved = pseudo_queries(key, x[rows], 1)
            return learner.solve(params, mask_of(space, genotype), x, y, moved).argmax(-1) == y[rows]

        return "moved copies", on_copies
    how, learn, out = held_out(labels, config.adapt.folds, is_transductive(config.net.normalisation))

    def estimate(params: Params, genotype: Array, x: Array, y: Array, key: Array) -> Array:
        del key
        mask = mask_of(space, genotype)

        def one(rows):
            own, held = rows
            return learner.solve(params, mask, x[own], y[own], x[held]).argmax(-1) == y[held]

        return map_rows(one, (jnp.asarray(learn), jnp.asarray(out)), axis=axis).reshape(-1)

    return how, estimate


def describe(how: str, right: np.ndarray) -> dict[str, Any]:
    """Return the estimate as adaptation.json has it.

    `accuracy` is the share of held-out images that were right, `ci95` Wilson's interval of it. Each was predicted from
    fewer images than the network now has, so it errs to the low side for that; and the architecture was chosen with the
    help of the same images, which errs to the high side where that is not the shared best. Moved copies resemble what
    they are copies of: there `accuracy` is null and `upper` the share, a bound that new images will not reach.
    """
    share, number = float(np.mean(right)), len(right)
    if how == "moved copies":
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
