"""Accuracy against cost: the population that a search ended with, and as many random genotypes of the same supernet."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.evidence.meta_test import Bench, accuracies_of, score_of
from atnas_jax.evidence.rows import Plan, everywhere, random_rows
from atnas_jax.job.build import Parts
from atnas_jax.job.config import evaluation_steps
from atnas_jax.job.state import RunState, ranked_population
from atnas_jax.meta.average import evaluated
from atnas_jax.space.equivalents import distinct
from atnas_jax.space.pareto import pareto_front
from atnas_jax.space.text import to_text

GROUPS = ("population", "random")
DRAWN = 8  # random genotypes for each point, since several may mean one network


def fronts_of(config: ConfigDict, parts: Parts, state: RunState, bench: Bench, episodes: int) -> dict[str, Any]:
    """Return the points of accuracy against parameters and multiply-adds, in the protocol's own mode.

    The luckiest of many points looks better than it is, so the even-numbered episodes say which points are on a front
    and the odd-numbered ones how accurate each point is. Both groups have as many genotypes, no two of a group one
    network where the space allows; the first of the population is the shared best.

    Args:
        config, parts, state, bench: of the run and its meta-test.
        episodes: of the fixed ones, at least 4, shared by the two halves.

    Returns:
        {"normalisation", "points": objects {"group": population | random, "genotype", "params", "macs",
        "params_front", "macs_front": whether no other of its group is as cheap and better, or cheaper and as good;
        "accuracy", "ci95", "episodes"}}.
    """
    mode, scorer = next(iter(bench.scorers.items()))
    found = distinct(parts.space, np.asarray(ranked_population(state)))
    drawn = random_rows(config, parts, "random front", DRAWN * len(found), bench.clock)
    drawn = np.concatenate([distinct(parts.space, drawn), drawn])[: len(found)]
    params, steps, points = evaluated(state.meta), evaluation_steps(config), []
    for group, genotypes in zip(GROUPS, (found, drawn)):
        plans = (Plan(everywhere(config, row), params, steps) for row in genotypes)
        scores = np.stack([accuracies_of(config, parts, row, scorer, episodes) for row in plans])
        costs = np.asarray(parts.cost(jnp.asarray(genotypes)))
        on_front = [on_front_of(scores[:, ::2].mean(1), cost) for cost in costs.T]
        for number, genotype in enumerate(genotypes):
            points.append(
                {
                    "group": group,
                    "genotype": to_text(parts.space, genotype),
                    "params": int(costs[number, 0]),
                    "macs": int(costs[number, 1]),
                    "params_front": bool(on_front[0][number]),
                    "macs_front": bool(on_front[1][number]),
                }
                | score_of(scores[number, 1::2])
            )
    return {"normalisation": mode, "points": points}


def on_front_of(accuracy: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return bool [n], which of n points no other dominates: accuracy float [n] to be large, cost int [n] to be small.

    Costs are compared by their ranks, since a float32 does not tell large ones apart.
    """
    ranks = np.unique(cost, return_inverse=True)[1]
    return np.asarray(pareto_front(jnp.stack([jnp.asarray(accuracy), -jnp.asarray(ranks, jnp.float32)], -1)))


def front_table(front: Mapping[str, Any]) -> str:
    """Return the points on either front as text, cheapest first, at most 100 columns."""
    points = sorted(front["points"], key=lambda point: (GROUPS.index(point["group"]), point["params"]))
    lines = [
        f"fronts of accuracy against cost, {front['normalisation']} %, {points[0]['episodes']} episodes that did not "
        "pick them",
        f"{'':<12}{'accuracy':>15}{'params':>12}{'MACs':>14}  front of",
    ]
    for point in points:
        fronts = [name for name in ("params", "macs") if point[f"{name}_front"]]
        if fronts:
            accuracy = f"{100 * point['accuracy']:.2f} ± {100 * point['ci95']:.2f}"
            lines.append(
                f"{point['group']:<12}{accuracy:>15}{point['params']:>12,}{point['macs']:>14,}  {', '.join(fronts)}"
            )
    return "\n".join(lines)
