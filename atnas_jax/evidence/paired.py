"""Rows of the meta-test against each other, episode by episode.

Two rows share what makes an episode easy or hard, so their difference is known better than their own intervals say. The
control of a choice per task is the permutation: `adapted` less `permuted_architecture`, the architecture chosen for
another episode, is what the choice is worth for its own task.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from atnas_jax.job.results import interval
from atnas_jax.types import Array

COMPARED = (  # what the search and the adaptation are judged by; the other rows are compared with `best`
    ("adapted", "best"),
    ("adapted", "permuted_architecture"),
    ("adapted", "random_search"),
    ("best", "conv4"),
    ("best", "random_architecture"),
    ("best", "zero_steps"),
    ("best", "no_adaptation"),
)


def pairs_of(rows: Iterable[str]) -> list[tuple[str, str]]:
    """Return which rows are compared: `COMPARED`, then every other row with `best`."""
    rows = tuple(rows)
    pairs = [pair for pair in COMPARED if set(pair) <= set(rows)]
    met = {row for pair in pairs if "best" in pair for row in pair}
    return pairs + [(row, "best") for row in rows if "best" in rows and row not in met | {"best"}]


def paired(accuracies: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return the mean difference of rows on the same episodes, with its 95 % interval.

    mean of d_i = a_i - b_i, and 1.96 sd(d) / sqrt(n), see `results.interval`.

    Args:
        accuracies: row -> float [episodes], of the same episodes in the same order.

    Returns:
        Objects {"row", "minus", "difference", "ci95", "episodes"}; a difference of shares, from -1 to 1.
    """
    found = []
    for row, minus in pairs_of(accuracies):
        values = np.asarray(accuracies[row], np.float64) - np.asarray(accuracies[minus], np.float64)
        difference, ci95 = interval(values)
        found.append(
            {"row": row, "minus": minus, "difference": difference, "ci95": ci95, "episodes": len(values)}
        )  # fmt: skip
    return found


def derangement(episodes: int) -> np.ndarray:
    """Return int [episodes], the episode whose architecture each gets: the next one, and the last gets the first's.

    Episodes are independent draws, so a shift is as good as any permutation without a fixed point.
    """
    return np.roll(np.arange(episodes), -1)


def same_share(genotypes: Array) -> float:
    """Return in which share of episodes the permuted architecture is the chosen one, of choices int32 [episodes,E]."""
    genotypes = np.asarray(genotypes)
    return float(np.all(genotypes[derangement(len(genotypes))] == genotypes, -1).mean())


def paired_table(differences: Mapping[str, list[dict[str, Any]]], same: float | None = None) -> str:
    """Return the differences as text, in points of accuracy: a line a pair, a column a mode.

    Args:
        differences: mode -> `paired`.
        same: of `same_share`.
    """
    first, *_ = differences.values()
    lines = [
        f"differences over the same {first[0]['episodes']} episodes, points with the 95 % interval",
        f"{'':<44}" + "".join(f"{mode:>19}" for mode in differences),
    ]
    for pair in zip(*differences.values()):
        name = f"{pair[0]['row']} - {pair[0]['minus']}"
        lines.append(f"{name:<44}" + "".join(f"{_points(cell):>19}" for cell in pair))
    if same is not None:
        lines.append(f"in {100 * same:.1f} % of the episodes the permuted architecture is the chosen one")
    return "\n".join(lines)


def _points(cell: Mapping[str, Any]) -> str:
    return f"{100 * cell['difference']:+.2f} ± {100 * cell['ci95']:.2f}"
