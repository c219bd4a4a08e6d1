"""Accuracy on the fixed episodes of meta_test against inner steps, generations of the search, generations of a task.

Every point is scored by the programs that score the rows of the table, so it compiles nothing and is on the same
episodes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from atnas_jax.evidence.choose import choose, chooser
from atnas_jax.evidence.meta_test import Bench, accuracies_of, score_of
from atnas_jax.evidence.rows import Plan, everywhere
from atnas_jax.job.build import Parts
from atnas_jax.job.compiled import compiled
from atnas_jax.job.config import evaluation_steps
from atnas_jax.job.progress import Progress
from atnas_jax.job.spaces import hand_made
from atnas_jax.job.state import RunState
from atnas_jax.meta.average import evaluated
from atnas_jax.space.text import parse

Points = list[dict[str, Any]]


def inner_steps_curve(
    config: ConfigDict, parts: Parts, state: RunState, bench: Bench, numbers: Sequence[int]
) -> dict[str, dict[str, Points]]:
    """Return accuracy after each of these numbers of inner steps: mode -> row -> points with "steps".

    The rows are `best` and, where the config trained it, `conv4`, each with its own weights. More steps than were
    trained go on with the rates and norms of the last one.
    """
    rows = {"best": (state.best, evaluated(state.meta), bench.scorers)}
    if config.meta_test.conv4:
        rows["conv4"] = (hand_made(parts.control.space), evaluated(state.control), bench.control)

    def curve(genotype, params, scorer):
        rows = everywhere(config, genotype)
        plans = {number: Plan(rows, params, number) for number in numbers}
        return [{"steps": n} | score_of(accuracies_of(config, parts, row, scorer)) for n, row in plans.items()]

    return {
        mode: {name: curve(genotype, params, scorers[mode]) for name, (genotype, params, scorers) in rows.items()}
        for mode in bench.scorers
    }


def search_curve(
    config: ConfigDict, parts: Parts, state: RunState, bench: Bench, history: Sequence[Mapping[str, Any]]
) -> dict[str, Points]:
    """Return accuracy of the best genotype after each generation of the search: mode -> points with "generation".

    A run keeps its last weights alone, so every genotype is scored with those: the curve shows how the choice of the
    architecture improved, not how the weights did. The shared best, which the end of a run ranks again on more
    episodes, is the row `best`.

    Args:
        config, parts, state, bench: of the run and its meta-test.
        history: of results.json, an object a generation with "generation" and "best_genotype".
    """

    def curve(scorer):
        texts = dict.fromkeys(row["best_genotype"] for row in history)
        scores = {text: _score(config, parts, state, scorer, _parsed(config, parts, text)) for text in texts}
        return [
            {"generation": row["generation"], "genotype": row["best_genotype"]} | scores[row["best_genotype"]]
            for row in history
        ]

    return {mode: curve(scorer) for mode, scorer in bench.scorers.items()}


def adaptation_curve(
    config: ConfigDict, parts: Parts, state: RunState, bench: Bench, chosen: np.ndarray | None, progress: Progress
) -> dict[str, Points]:
    """Return accuracy by generations of the search on a task's support: mode -> points with "generation".

    Point g is what a search of g generations chooses, whatever a trial said of it; 0 is the shared best. Each of the
    numbers below adapt.generations costs a search of its own and the compilation of it.

    Args:
        config, parts, state, bench: of the run and its meta-test.
        chosen: int32 [episodes,E], what the search of adapt.generations chose; None: it was not held.
        progress: is told of each search.
    """
    rows = [everywhere(config, state.best)]
    for number in range(1, config.adapt.generations):
        fewer = config.copy_and_resolve_references()
        fewer.adapt.generations = number
        progress.note(f"meta-test: choosing architectures in {number} of {config.adapt.generations} generations")
        choice = compiled(
            chooser(fewer, parts), bench.clock, mesh=parts.mesh, note=progress.note, by_core=parts.by_core
        )
        rows.append(choose(fewer, parts, state, choice, False, bench.clock)[0][None])
    if chosen is None:
        progress.note(f"meta-test: choosing architectures in {config.adapt.generations} generations")
        chosen = choose(config, parts, state, bench.choice, False, bench.clock)[0]
    rows.append(chosen[None])

    def curve(scorer):
        return [{"generation": n} | _score(config, parts, state, scorer, row) for n, row in enumerate(rows)]

    return {mode: curve(scorer) for mode, scorer in bench.scorers.items()}


def curve_table(title: str, axis: str, curves: Mapping[str, Points]) -> str:
    """Return curves over the same axis as text: a line a point, a column a curve.

    Args:
        title: the first line.
        axis: the key of a point that numbers it.
        curves: name -> points.
    """
    lines = [title, f"{axis:<20}" + "".join(f"{name:>24}" for name in curves)]
    for points in zip(*curves.values()):
        cells = (f"{100 * point['accuracy']:.2f} ± {100 * point['ci95']:.2f}" for point in points)
        lines.append(f"{points[0][axis]:<20}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def _parsed(config: ConfigDict, parts: Parts, text: str) -> np.ndarray:
    return everywhere(config, parse(parts.space, text))


def _score(
    config: ConfigDict, parts: Parts, state: RunState, scorer: Callable, genotypes: np.ndarray
) -> dict[str, float]:
    row = Plan(genotypes, evaluated(state.meta), evaluation_steps(config))
    return score_of(accuracies_of(config, parts, row, scorer))
