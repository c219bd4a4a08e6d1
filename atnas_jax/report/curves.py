"""Curves: meta-training, and the search against random search."""

from typing import Any

import numpy as np

from atnas_jax.report.evidence import generations_picture
from atnas_jax.report.html import Section, absent, figures, paragraph
from atnas_jax.report.read import Record
from atnas_jax.report.style import BLUE, ORANGE, VERMILION, new_figure, styled

NAMES = {"meta_train": "supernet", "control": "conv4, trained alone"}


def training_section(run: Record, save) -> Section:
    """Return the curves of meta-training."""
    curves = training_curves(run)
    if not curves:
        body = absent("curves of meta-training", "metrics.jsonl has no row; launch.search writes it as it trains.")
        return Section("training", "Meta-training", body)
    held = [row["step"] for row in run.metrics if row.get("phase") == "search"]
    picture = save(
        "training",
        training_figure(curves, held),
        "Loss and accuracy of the training episodes",
        "Queries of training episodes, mean of each chunk of outer steps. Thin lines: generations of the search.",
    )
    return Section("training", "Meta-training", figures([picture]))


def training_curves(run: Record) -> dict[str, dict[str, np.ndarray]]:
    """Return {phase: {step, loss, accuracy}}; steps are counted from the start of the phase."""
    found = {}
    for phase in NAMES:
        rows = [row for row in run.metrics if row.get("phase") == phase]
        if rows:
            columns = {name: np.asarray([row.get(name) for row in rows], float) for name in ("loss", "accuracy")}
            begun = run.config.train.steps if phase == "control" else 0
            found[phase] = columns | {"step": np.asarray([row["step"] for row in rows]) - begun}
    return found


@styled
def training_figure(curves: dict[str, dict[str, np.ndarray]], held: list[int]):
    """Draw loss above accuracy against outer steps."""
    figure = new_figure(3.9)
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    for axes, name, scale in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
        for step in held:
            axes.axvline(step, color="0.85", linewidth=0.7, zorder=0)
        for (phase, rows), colour, dashes in zip(curves.items(), (BLUE, VERMILION), ("-", (0, (4, 1.5)))):
            mark = "o" if len(rows["step"]) == 1 else None
            axes.plot(
                rows["step"], scale * rows[name], color=colour, linestyle=dashes, linewidth=1.5, marker=mark,
                label=NAMES[phase],
            )  # fmt: skip
        axes.grid(axis="x", visible=False)
    loss.set_ylabel("loss, nats")
    accuracy.set(ylabel="accuracy, %", xlabel="outer step")
    figure.legend(*loss.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def search_section(run: Record, save) -> Section:
    """Return the curve of the search against random search."""
    curves = search_curves(run)
    if not curves:
        body = absent("the curve of the search", "No generation has been held yet; launch.search goes on with the run.")
        return Section("search", "Search", body)
    picture = save(
        "search",
        search_figure(curves),
        "Fitness of each generation: best, median, quartiles, random search",
        "Fitness on meta_valid episodes, fresh ones in every generation and the same for both searches. The weights go "
        "on training meanwhile, so that random search, too, rises.",
    )
    body = figures([picture])
    if "median" not in curves:
        body += absent("median and spread", "generations.jsonl has no fitness: a gradient search, or an older run.")
    if "random_best" not in curves:
        body += absent("random search", "Run launch.search with --config.log.random_search=True.")
    elif verdict := _verdict(curves):
        body += paragraph(verdict)
    body += generations_picture(
        run, save, "search_generations", "meta_test accuracy of the best of each generation",
        "Accuracy on meta_test of the best genotype of each generation, all with the last weights, so that "
        "the choice of the architecture alone tells; 95 % intervals.",
    )  # fmt: skip
    return Section("search", "Search", body)


def search_curves(run: Record) -> dict[str, np.ndarray]:
    """Return curves over generations: generation, best, and where recorded low, median, high (quartiles), random_*."""
    history = run.results.get("history") or [row for row in run.metrics if row.get("phase") == "search"]
    if not history:
        return {}
    curves = {
        "generation": np.asarray([row["generation"] for row in history]),
        "best": np.asarray([row["best_fitness"] for row in history], float),
    }
    told = {row["generation"]: row for row in run.generations}
    rows = [told.get(number, {}) for number in curves["generation"].tolist()]
    if any(row.get("fitness") for row in rows):
        curves |= dict(zip(("low", "median", "high"), np.transpose([_quartiles(row.get("fitness")) for row in rows])))
    drawn = [(row.get("random") or {}).get("fitness") for row in rows]
    if any(drawn):
        low, median, high = np.transpose([_quartiles(values) for values in drawn])
        curves |= {"random_low": low, "random_median": median, "random_high": high}
        curves["random_best"] = np.asarray([max(_known(values), default=np.nan) for values in drawn])
    return curves


def _known(values: list[float | None] | None) -> list[float]:
    return [value for value in values or [] if value is not None]


def _quartiles(values: list[float | None] | None) -> np.ndarray:
    known = _known(values)
    return np.percentile(known, (25, 50, 75)) if known else np.full(3, np.nan)


def _verdict(curves: dict[str, Any]) -> str:
    best, random = curves["best"][-1], curves["random_best"][-1]
    if not np.isfinite(random):
        return ""
    lead = 100 * (best - random)
    return (
        f"In the last generation the best of the search is {abs(lead):.1f} points {'above' if lead >= 0 else 'below'} "
        "the best that random search has found with as many evaluations."
    )


@styled
def search_figure(curves: dict[str, np.ndarray]):
    """Draw best, median and quartiles of each generation, and the same of random search."""
    figure = new_figure(3.4)
    axes, x = figure.subplots(), curves["generation"]
    if "median" in curves:
        axes.fill_between(x, 100 * curves["low"], 100 * curves["high"], color=BLUE, alpha=0.18, linewidth=0,
                          label="search, quartiles")  # fmt: skip
    axes.plot(x, 100 * curves["best"], "o-", color=BLUE, markersize=4, linewidth=1.6, label="search, best")
    if "median" in curves:
        axes.plot(x, 100 * curves["median"], "--", color=BLUE, linewidth=1.3, label="search, median")
    if "random_best" in curves:
        axes.plot(x, 100 * curves["random_best"], "s-", color=ORANGE, markersize=4, linewidth=1.6,
                  label="random, best so far")  # fmt: skip
        axes.plot(x, 100 * curves["random_median"], ":", color=ORANGE, linewidth=1.6, label="random, median")
    axes.set(xlabel="generation", ylabel="fitness, %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
