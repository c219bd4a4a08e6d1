"""The report of one run: `report.html` and the files of its figures."""

import os
from collections.abc import Callable

from atnas_jax.job.files import write_whole
from atnas_jax.report import accuracy, architecture, choices, curves, episodes, evidence, ledger, pareto, settings
from atnas_jax.report.html import Section, escape, page, paragraph
from atnas_jax.report.read import Record, read_run
from atnas_jax.report.style import saver, short
from atnas_jax.space.text import to_text

FILE, FIGURES = "report.html", "figures"


def write_report(workdir: str, out: str = "") -> str:
    """Write the report of a run, finished or not, and its figures into `figures/` beside it; returns its path.

    Args:
        workdir: of the run.
        out: the file to write, made whole or not at all; "" is report.html in the workdir.

    Raises:
        FileNotFoundError: the workdir holds no run.
        ValueError: what it holds is damaged.
    """
    out = out or os.path.join(workdir, FILE)
    write_whole(out, report_of(read_run(workdir), saver(os.path.join(os.path.dirname(out), FIGURES))))
    return out


def report_of(run: Record, save: Callable[..., str]) -> str:
    """Return the page of a run as HTML; `save` keeps its figures, see `style.saver`."""
    return page(f"Run {run.name}", lead(run), sections(run, save), _foot(run.workdir))


def sections(run: Record, save: Callable[..., str]) -> list[Section]:
    """Return all parts of the page."""
    return [
        accuracy.section(run, save),
        curves.training_section(run, save),
        curves.search_section(run, save),
        architecture.section(run, save),
        choices.ops_section(run, save),
        pareto.section(run, save),
        evidence.steps_section(run, save),
        episodes.section(run, save),
        choices.episodes_section(run, save),
        ledger.section(run, save),
        settings.section(run),
    ]


def lead(run: Record) -> str:
    """Return the outcome in a few lines."""
    if not run.results:
        return paragraph("This run has not ended: what follows is what it has written so far.", "warning")
    results, rows = run.results, run.results["meta_test"]
    name = "adapted" if "adapted" in rows else next(iter(rows))
    row = rows[name]
    return (
        f"<p><b>{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f} %</b> (row {escape(name)}, "
        f"{escape(results['protocol']['normalisation'])}): {escape(accuracy.protocol_text(results))}.</p>"
        f"<p>Shared best architecture, {short(results['params'])} parameters, {short(results['macs'])} MACs: "
        f"<code>{escape(to_text(run.space, run.genotype))}</code></p>"
    )


def _foot(workdir: str) -> str:
    return (
        f"Written by python -m launch.report --workdir={workdir}. The figures are in {FIGURES}/ as PNG and SVG; the "
        "numbers in results.json, metrics.csv and generations.jsonl."
    )
