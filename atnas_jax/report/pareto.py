"""Accuracy against parameters and MACs, and the front of what nothing beats in both."""

import numpy as np

from atnas_jax.report.html import Section, absent, figures
from atnas_jax.report.read import Record
from atnas_jax.report.style import BLUE, ORANGE, new_figure, short, styled
from atnas_jax.space.pareto import pareto_front

COSTS = {"params": "parameters", "macs": "MACs of an image"}


def section(run: Record, save) -> Section:
    """Return accuracy against cost for the genotypes of the last generation."""
    title, rows = "Accuracy against cost", [row for row in run.generations if row["fitness"]]
    if not rows:
        body = absent("accuracy against cost", "It needs a search by fitness and its generations.jsonl.")
        return Section("pareto", title, body)
    accuracy, costs = points_of(rows[-1])
    pictures = [
        save(
            f"pareto_{name}", pareto_figure(accuracy, costs[name], words), f"Accuracy against {words}",
            f"Genotypes of generation {rows[-1]['generation']}, fitness on the same meta_valid episodes; the line "
            f"joins those that no other beats in both accuracy and {words}.",
        )
        for name, words in COSTS.items()
    ]  # fmt: skip
    return Section("pareto", title, figures(pictures))


def points_of(row: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return (accuracy in % [n], {cost: [n]}) of the genotypes of one generation that keep the limits."""
    known = [number for number, value in enumerate(row["fitness"]) if value is not None]
    accuracy = 100 * np.asarray([row["fitness"][number] for number in known])
    return accuracy, {name: np.asarray([row[name][number] for number in known]) for name in COSTS}


def front_of(accuracy: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Return the numbers of the points that no other beats in both, cheapest first; equal points once."""
    on = np.asarray(pareto_front(np.stack([accuracy, -np.asarray(cost, float)], 1)))
    kept = {(cost[n], accuracy[n]): n for n in np.flatnonzero(on)}
    return np.asarray([kept[point] for point in sorted(kept)])


@styled
def pareto_figure(accuracy: np.ndarray, cost: np.ndarray, words: str):
    """Draw the points, and a staircase through the front."""
    figure = new_figure(2.9)
    axes, front = figure.subplots(), front_of(accuracy, cost)
    axes.plot(cost, accuracy, "o", color=BLUE, markersize=5, alpha=0.6, markeredgewidth=0, label="evaluated")
    axes.step(cost[front], accuracy[front], "s-", where="post", color=ORANGE, markersize=5.5, linewidth=1.5,
              markerfacecolor="none", markeredgewidth=1.5, label="front")  # fmt: skip
    axes.set(xlabel=words, ylabel="fitness, %")
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.xaxis.get_major_locator().set_params(nbins=6)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
