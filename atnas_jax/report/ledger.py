"""What a run took."""

from typing import Any

from atnas_jax.job.progress import duration
from atnas_jax.report.html import Section, absent, figures, table
from atnas_jax.report.read import Record
from atnas_jax.report.style import BLUE, new_figure, styled

WORDS = {
    "compile_s": "compiling",
    "meta_train_s": "meta-training",
    "search_s": "search",
    "control_s": "controls (conv4, random search)",
    "meta_test_s": "meta-test",
}


def section(run: Record, save) -> Section:
    """Return seconds and memory of a run."""
    ledger = run.results.get("ledger")
    if not ledger:
        return Section("ledger", "Cost", absent("the cost ledger", "A run writes it at its end."))
    rows = [(words, duration(ledger[name]), f"{ledger[name]:.1f}") for name, words in WORDS.items() if name in ledger]
    rows.append(("one novel task: architecture, weights, predictions", "", f"{ledger['adapt_s_per_task']:.3f}"))
    body = table(("", "time", "seconds"), rows)
    body += table(("", "MB"), [("peak memory of the process", f"{ledger['peak_memory_mb']:,.0f}")])
    picture = save("ledger", ledger_figure(ledger), "Seconds of each part of the run", "Where the time went.")
    return Section("ledger", "Cost", body + figures([picture]))


@styled
def ledger_figure(ledger: dict[str, Any]):
    """Draw the seconds of each part as bars."""
    names = [name for name in WORDS if name in ledger][::-1]
    figure = new_figure(0.55 + 0.3 * len(names))
    axes = figure.subplots()
    values = [ledger[name] for name in names]
    axes.barh(range(len(names)), values, 0.65, color=BLUE)
    for y, value in enumerate(values):
        axes.text(value + 0.01 * max(values), y, duration(value), va="center", fontsize=8.5)
    axes.set_yticks(range(len(names)), [WORDS[name].replace(", ", ",\n") for name in names])
    axes.set(xlabel="seconds", xlim=(0, 1.3 * max(max(values), 1e-9)))
    axes.grid(axis="y", visible=False)
    return figure
