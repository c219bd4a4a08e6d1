"""Accuracy against parameters and MACs, and the front of what nothing beats in both."""

from typing import NamedTuple

import numpy as np

from atnas_jax.report.evidence import AGAIN
from atnas_jax.report.html import Section, absent, figures
from atnas_jax.report.read import Record
from atnas_jax.report.style import BLUE, VERMILION, new_figure, short, styled
from atnas_jax.space.pareto import pareto_front

COSTS = {"params": "parameters", "macs": "MACs of an image"}


class Points(NamedTuple):
    """Genotypes of one kind."""

    accuracy: np.ndarray  # float [n], %
    costs: dict[str, np.ndarray]  # name of `COSTS` -> int [n]
    fronts: dict[str, np.ndarray]  # name of `COSTS` -> numbers of the points on the front, cheapest first


def section(run: Record, save) -> Section:
    """Return accuracy against cost: of the last generation, and of the fronts on meta_test where the run has them."""
    body, rows = "", [row for row in run.generations if row["fitness"]]
    if rows:
        groups, about = {"evaluated": points_of(rows[-1])}, f"of generation {rows[-1]['generation']} on meta_valid"
        body += figures(_pictures(save, "pareto", groups, "fitness, %", about))
    else:
        body += absent("the last generation", "It needs a search by fitness and its generations.jsonl.")
    if points := run.results.get("evidence", {}).get("front", {}).get("points"):
        names = dict.fromkeys(point["group"] for point in points)
        groups = {name: measured([point for point in points if point["group"] == name]) for name in names}
        about = f"on {points[0]['episodes']} meta_test episodes; other episodes said who is on a front"
        body += figures(_pictures(save, "front", groups, "accuracy, %", about))
    else:
        body += absent("fronts on meta_test", f"{AGAIN} --front=200 adds those of population and random genotypes.")
    return Section("pareto", "Accuracy against cost", body)


def _pictures(save, prefix: str, groups: dict[str, Points], label: str, about: str) -> list[str]:
    return [
        save(
            f"{prefix}_{cost}", pareto_figure(groups, cost, label), f"Accuracy against {words}, {about}",
            f"Genotypes {about}. The line joins those that no other of their kind beats in both accuracy and {words}.",
        )
        for cost, words in COSTS.items()
    ]  # fmt: skip


def points_of(row: dict) -> Points:
    """Return the genotypes of a row of generations.jsonl that keep the limits, with the front among them."""
    known = [number for number, value in enumerate(row["fitness"]) if value is not None]
    accuracy = 100 * np.asarray([row["fitness"][number] for number in known])
    costs = {name: np.asarray([row[name][number] for number in known]) for name in COSTS}
    return Points(accuracy, costs, {name: front_of(accuracy, cost) for name, cost in costs.items()})


def measured(points: list[dict]) -> Points:
    """Return points of `evidence.front` of results.json, whose fronts are told by other episodes."""
    costs = {name: np.asarray([point[name] for point in points]) for name in COSTS}
    fronts = {}
    for name, cost in costs.items():
        on = np.asarray([point[f"{name}_front"] for point in points])
        fronts[name] = np.asarray(sorted(np.flatnonzero(on), key=lambda n, cost=cost: cost[n]), int)
    return Points(100 * np.asarray([point["accuracy"] for point in points]), costs, fronts)


def front_of(accuracy: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return the numbers of the points that no other beats in both, cheapest first; equal points once."""
    on = np.asarray(pareto_front(np.stack([accuracy, -np.asarray(cost, float)], 1)))
    kept = {(cost[n], accuracy[n]): n for n in np.flatnonzero(on)}
    return np.asarray([kept[point] for point in sorted(kept)])


@styled
def pareto_figure(groups: dict[str, Points], cost: str, label: str):
    """Draw the points of each group, and a staircase through its front."""
    figure = new_figure(2.9 + 0.2 * (len(groups) > 1))
    axes = figure.subplots()
    for (name, points), colour, mark in zip(groups.items(), (BLUE, VERMILION), "o^"):
        x, front = points.costs[cost], points.fronts[cost]
        axes.plot(x, points.accuracy, mark, color=colour, markersize=5, alpha=0.6, markeredgewidth=0, label=name)
        axes.step(x[front], points.accuracy[front], "s-", where="post", color=colour, markersize=7, linewidth=1.5,
                  markerfacecolor="none", markeredgewidth=1.3, label=f"{name}, front")  # fmt: skip
    axes.set(xlabel=COSTS[cost], ylabel=label)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.xaxis.get_major_locator().set_params(nbins=6)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
