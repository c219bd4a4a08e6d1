"""What the meta-test says: the table with its protocol, and the same as a figure."""

import os
from typing import Any

from atnas_jax.job.results import remarks, steps_text
from atnas_jax.job.trial import trial_text
from atnas_jax.report.evidence import paired_table
from atnas_jax.report.html import Section, absent, figures, paragraph, table
from atnas_jax.report.read import Record
from atnas_jax.report.style import BLUE, VERMILION, new_figure, short, styled


def section(run: Record, save) -> Section:
    """Return the table of results and its figure."""
    if not run.results:
        body = absent("the meta-test", "The run has not ended; the command below goes on with it.")
        return Section("results", "Results", body)
    tables = tables_of(run.results)
    rows = [
        (name, *(_percent(rows.get(name)) for rows in tables.values()), short(row["params"]), short(row["macs"]))
        for name, row in run.results["meta_test"].items()
    ]
    body = paragraph(protocol_text(run.results) + ". Accuracy in % with its 95 % interval over episodes.")
    body += table(("", *(f"{mode} %" for mode in tables), "params", "MACs"), rows)
    for mode, rows in tables.items():
        if sds := [(name, row["architecture_sd"]) for name, row in rows.items() if "architecture_sd" in row]:
            body += paragraph(
                f"{sds[0][0]}, {mode}: the interval holds for the architectures that were drawn; the standard "
                f"deviation over them is {100 * sds[0][1]:.2f} points."
            )
    if len(tables) > 1:
        body += paragraph(
            "inductive: a prediction depends on its own query image alone; transductive: the queries of an episode are "
            "normalised together. The two columns are not comparable."
        )
    if tried := run.results.get("trial"):
        body += paragraph(f"Trial of the row adapted: {trial_text(tried)}.")
    picture = save(
        "results",
        results_figure(run.results),
        f"Accuracy of {', '.join(run.results['meta_test'])} with intervals",
        "Accuracy on meta_test episodes with 95 % intervals; the dotted line is chance.",
    )
    return Section("results", "Results", body + figures([picture]) + paired_table(run))


def protocol_text(results: dict[str, Any]) -> str:
    """Return the protocol of a table in one line."""
    test, data = results["protocol"], results["data"]
    return (
        f"{os.path.basename(data['source'])}, meta_test ({data['class_counts']['meta_test']} classes), "
        f"{test['ways']}-way {test['shots']}-shot, {test['queries']} queries a class, {test['episodes']} episodes, "
        + "; ".join([f"{steps_text(results)}, seed {results['seed']}", *remarks(results)])
    )


def tables_of(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows by normalisation, the protocol's own first."""
    tables, other = {results["protocol"]["normalisation"]: results["meta_test"]}, results.get("meta_test_other")
    return tables | ({other["normalisation"]: other["rows"]} if other else {})


def _percent(row: dict[str, Any] | None) -> str:
    return "-" if row is None else f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}"


@styled
def results_figure(results: dict[str, Any]):
    """Draw a point with its interval for every row and normalisation."""
    tables = tables_of(results)
    names = list(results["meta_test"])[::-1]
    figure = new_figure(0.9 + 0.32 * len(names))
    axes = figure.subplots()
    for number, (mode, rows) in enumerate(tables.items()):
        places = [y + 0.16 * (len(tables) - 1) * (1 - 2 * number) for y, name in enumerate(names) if name in rows]
        found = [rows[name] for name in names if name in rows]
        axes.errorbar(
            [100 * row["accuracy"] for row in found], places, xerr=[100 * row["ci95"] for row in found],
            fmt="os"[number], color=(BLUE, VERMILION)[number], markersize=4.5, capsize=2.5, linewidth=1.3, label=mode,
            markerfacecolor=(BLUE, "white")[number],
        )  # fmt: skip
    axes.axvline(100 / results["protocol"]["ways"], color="0.4", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("accuracy, %")
    axes.grid(axis="y", visible=False)
    if len(tables) > 1:
        figure.legend(loc="outside upper center", ncols=2)
    return figure
