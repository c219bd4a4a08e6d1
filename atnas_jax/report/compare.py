"""Several runs on one page."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from atnas_jax.job.files import write_whole
from atnas_jax.report.accuracy import protocol_text, tables_of
from atnas_jax.report.curves import search_curves, training_curves
from atnas_jax.report.html import Section, absent, figures, page, paragraph, table
from atnas_jax.report.ledger import WORDS
from atnas_jax.report.page import FIGURES
from atnas_jax.report.read import Record, read_run
from atnas_jax.report.settings import changed_settings
from atnas_jax.report.style import DASHES, LINES, new_figure, saver, short, styled
from atnas_jax.space.text import to_text

FILE = "comparison.html"


def write_comparison(workdirs: Sequence[str], out: str = "") -> str:
    """Write one page that compares runs, and its figures `figures/compare_*` beside it; returns its path.

    Args:
        workdirs: two or more, of runs finished or not.
        out: the file to write, made whole or not at all; "" is comparison.html in the first workdir.

    Raises:
        FileNotFoundError, ValueError: as `read_run`; fewer than two workdirs.
    """
    if len(workdirs) < 2:
        raise ValueError(f"{len(workdirs)} workdirs; a comparison needs 2 or more, as --workdir=RUN,RUN2")
    runs = _named([read_run(workdir) for workdir in workdirs])
    out = out or os.path.join(workdirs[0], FILE)
    save = saver(os.path.join(os.path.dirname(out), FIGURES))
    sections = [_results(runs, save), _curves(runs, save), _architectures(runs), _ledgers(runs), _settings(runs)]
    lead = table(("run", "workdir"), [(run.name, run.workdir) for run in runs], text=(1,))
    foot = f"Written by python -m launch.report --workdir={','.join(workdirs)}."
    write_whole(out, page(f"Comparison of {len(runs)} runs", lead, sections, foot))
    return out


def _named(runs: list[Record]) -> list[Record]:
    """Return the runs under distinct names."""
    names = [run.name for run in runs]
    return [
        run._replace(name=f"{run.name} ({n + 1})" if names.count(run.name) > 1 else run.name)
        for n, run in enumerate(runs)
    ]


def _results(runs: list[Record], save) -> Section:
    done = [run for run in runs if run.results]
    if not done:
        return Section("results", "Results", absent("results", "None of these runs has ended."))
    body = "".join(paragraph(sentence, "warning") for sentence in differences(done))
    for mode in dict.fromkeys(mode for run in done for mode in tables_of(run.results)):
        tables = [tables_of(run.results).get(mode, {}) for run in done]
        rows = [
            (name, *(_percent(rows.get(name)) for rows in tables))
            for name in dict.fromkeys(name for rows in tables for name in rows)
        ]
        body += paragraph(f"Accuracy in %, {mode}, with its 95 % interval over episodes.")
        body += table(("", *(run.name for run in done)), rows)
    body += table(("run", "protocol"), [(run.name, protocol_text(run.results)) for run in done], text=(1,))
    caption = "Rows of every run, in its own normalisation, with 95 % intervals over episodes."
    picture = save("compare_results", results_figure(done), "Accuracy of the rows of each run", caption)
    return Section("results", "Results", body + figures([picture]))


def differences(runs: list[Record]) -> list[str]:
    """Return in what the tables of runs are not comparable, a sentence each."""

    def of(run: Record) -> dict[str, Any]:
        results = run.results
        names = ("ways", "shots", "queries", "normalisation")
        same = {name: results["protocol"][name] for name in names} | {"data": results["data"]["fingerprint"]}
        test = run.config.protocol
        return same | {"episodes of seed": test.seed, "rotated classes": test.rotations}

    def adapts(run: Record) -> tuple[int, float]:
        return run.results["protocol"]["inner_steps"], run.config.learner.tolerance

    first, said = of(runs[0]), []
    for run in runs[1:]:
        differ = [name for name, value in of(run).items() if value != first[name]]
        if differ:
            said.append(f"{run.name} is not on the episodes of {runs[0].name}: {', '.join(differ)} differ.")
        if adapts(run) != adapts(runs[0]):
            said.append(f"{run.name} adapts by other inner steps than {runs[0].name}, or ends them otherwise.")
    return said


def _percent(row: dict[str, Any] | None) -> str:
    return "-" if row is None else f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}"


@styled
def results_figure(runs: list[Record]):
    """Draw a point with its interval for every row of every run."""
    names = list(dict.fromkeys(name for run in runs for name in run.results["meta_test"]))[::-1]
    figure = new_figure(0.8 + 0.2 * len(runs) + len(names) * (0.16 + 0.14 * len(runs)))
    axes = figure.subplots()
    for number, run in enumerate(runs):
        shift = 0.7 * ((len(runs) - 1) / 2 - number) / len(runs)
        rows = [(y + shift, run.results["meta_test"][n]) for y, n in enumerate(names) if n in run.results["meta_test"]]
        axes.errorbar(
            [100 * row["accuracy"] for _, row in rows], [y for y, _ in rows],
            xerr=[100 * row["ci95"] for _, row in rows], fmt="os^Dv<>P"[number % 8], markersize=4.5, capsize=2.5,
            linewidth=1.3, color=LINES[number % len(LINES)], label=run.name,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("accuracy, %")
    axes.grid(axis="y", visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=1)
    return figure


def _curves(runs: list[Record], save) -> Section:
    trained = {run.name: training_curves(run).get("meta_train") for run in runs}
    searched = {run.name: search_curves(run) for run in runs}
    pictures = []
    if curves := {name: (rows["step"], 100 * rows["accuracy"]) for name, rows in trained.items() if rows}:
        drawn = curves_figure(curves, "outer step", "accuracy, %")
        caption = "Accuracy of the training episodes of the supernet."
        pictures.append(save("compare_training", drawn, "Accuracy of training of each run", caption))
    if curves := {name: (rows["generation"], 100 * rows["best"]) for name, rows in searched.items() if rows}:
        drawn = curves_figure(curves, "generation", "best fitness, %")
        caption = "Best fitness of each generation on meta_valid episodes."
        pictures.append(save("compare_search", drawn, "Best fitness of each run", caption))
    body = figures(pictures) if pictures else absent("curves", "None of these runs has a row in metrics.jsonl.")
    return Section("curves", "Curves", body)


@styled
def curves_figure(curves: dict[str, tuple[np.ndarray, np.ndarray]], x: str, y: str):
    """Draw one line a run."""
    figure = new_figure(2.7 + 0.2 * len(curves))
    axes = figure.subplots()
    for number, (name, (steps, values)) in enumerate(curves.items()):
        axes.plot(steps, values, color=LINES[number % len(LINES)], linestyle=DASHES[number % len(DASHES)],
                  linewidth=1.5, marker="o" if len(steps) == 1 else None, label=name)  # fmt: skip
    axes.set(xlabel=x, ylabel=y)
    axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=1)
    return figure


def _architectures(runs: list[Record]) -> Section:
    rows = [
        (
            run.name,
            "-" if run.genotype is None else to_text(run.space, run.genotype),
            *(short(run.results[name]) if run.results else "-" for name in ("params", "macs")),
        )
        for run in runs
    ]
    return Section("architectures", "Architectures", table(("run", "shared best", "params", "MACs"), rows, text=(1,)))


def _ledgers(runs: list[Record]) -> Section:
    done = [run for run in runs if run.results]
    names = WORDS | {"adapt_s_per_task": "one novel task", "peak_memory_mb": "peak memory, MB"}
    rows = [
        (words, *(f"{run.results['ledger'][name]:,.4g}" if name in run.results["ledger"] else "-" for run in done))
        for name, words in names.items()
    ]
    body = table(("seconds", *(run.name for run in done)), rows) if done else absent("costs", "No run has ended.")
    return Section("ledger", "Cost", body)


def _settings(runs: list[Record]) -> Section:
    changed = [{name: value for name, value, _ in changed_settings(run.config)} for run in runs]
    names = sorted(name for name in set().union(*changed) if len({rows.get(name) for rows in changed}) > 1)
    rows = [(name, *(rows.get(name, "default") for rows in changed)) for name in names]
    columns = range(1, len(runs) + 1)
    body = table(("setting", *(run.name for run in runs)), rows, text=columns) if rows else paragraph("All are equal.")
    return Section("settings", "Settings that differ", body)
