"""The page of a specialisation: accuracy against total seconds, and when the accuracy from scratch was reached."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from atnas_jax.job.files import write_record, write_whole
from atnas_jax.many_shot.over_seeds import over_seeds
from atnas_jax.many_shot.seeds import FILE, SCHEMA
from atnas_jax.many_shot.specialise_report import (
    CORRECTED,
    NAMES,
    PARTS,
    difference_name,
    difference_words,
    plus_minus,
    reached_words,
    seeds_words,
    sentence,
    specialise_table,
    title,
    together_sentence,
)
from atnas_jax.report.html import Section, escape, figures, page, paragraph, table
from atnas_jax.report.page import FIGURES
from atnas_jax.report.style import DASHES, LINES, new_figure, saver, short, styled

TICKS = (0, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9)  # accuracies, %


def write_specialised(folder: str, records: Sequence[dict[str, Any]]) -> str:
    """Write specialise.txt, .json, .html and figures/ into the folder, made where absent; returns the page's path.

    Args:
        folder: where to write.
        records: of `specialise_task`, one a seed, all of the same data and rows.
    """
    together = over_seeds(records)
    whole = {"schema": SCHEMA, "seeds": list(records), "over_seeds": together}
    write_record(folder, FILE.removesuffix(".json"), specialise_table(records), whole)
    path, first = os.path.join(folder, "specialise.html"), records[0]
    save = saver(os.path.join(folder, FIGURES))
    sections = [_times(records, save), _rows(records), _architectures(records), _settings(first)]
    if together:
        sections.insert(0, _together(together, first, save))
    name = os.path.basename(first["data"].rstrip("/"))
    lead = paragraph(f"{title(first)}. Meta-network: {first['meta_network']}.")
    if "reached" in first:
        told = [sentence(records, "adapted")]
        told += [together_sentence(together, "adapted", part) for part in PARTS] if together else []
        lead = "".join(f"<p><b>{escape(_capital(words))}.</b></p>" for words in told) + lead
    foot = "Written by python -m launch.specialise. The figures are in figures/, the numbers in specialise.json."
    write_whole(path, page(f"Specialised to {name}", lead, sections, foot))
    return path


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _together(found: dict[str, Any], first: dict[str, Any], save) -> Section:
    """Return the part that is of all seeds; `found` of `over_seeds`, not None."""
    band = (
        " The dashed line is the mean accuracy with which the search from scratch ended, the band its 95 % interval "
        "over seeds; a ring is where a mean curve first reached it."
    )
    mean = found | {"images": first["images"]}
    valid = save(
        "specialise_mean", seconds_figure(mean),
        "Mean accuracy on valid against mean seconds",
        f"Mean of {seeds_words(found)}, point by point: each candidate of a search, each validation of a training; a "
        f"search that ended with fewer candidates stands at its last. A filled dot is where the search ends."
        f"{band * ('reached' in found)}",
    )  # fmt: skip
    trained = {name: row | {"curve": row["test_curve"], "evaluations": 0} for name, row in found["rows"].items()}
    mean |= {"rows": trained} | ({"reached": found["reached_test"]} if "reached" in found else {})
    test = save(
        "specialise_mean_test", seconds_figure(mean, "test"), "Mean accuracy on test against mean seconds",
        f"The same on test, of the networks while they train. Nothing was chosen by it.{band * ('reached' in found)}",
    )  # fmt: skip
    rows = [
        (NAMES[name], *map(plus_minus, (row["valid"], row["test"])), f"{row['search_s']:.1f}", f"{row['train_s']:.1f}")
        for name, row in found["rows"].items()
    ]
    words = f"Means of {seeds_words(found)}, with 95 % intervals over seeds (t)."
    head = ("", "valid, %", "test, %", "search, s", "training, s")
    body = figures([valid, test]) + paragraph(words) + table(head, rows)
    if "reached" in found:
        told = [together_sentence(found, name, part) for name in found["rows"] for part in PARTS]
        body += "".join(paragraph(f"{_capital(words)}.") for words in told)
        body += paragraph(f"Differences of the same seeds, in points ± 95 % (in brackets: {CORRECTED}).")
        body += table(("", "points"), [(difference_name(one), difference_words(one)) for one in found["differences"]])
    return Section("together", "All seeds together", body)


def _times(records: Sequence[dict[str, Any]], save) -> Section:
    caption = (
        "Total seconds of search and training, without compiling. While a search goes on: its best candidate so far; "
        "a filled dot is where it ends and the training of the chosen network begins. "
    )
    line = "The dashed line is the accuracy with which the search from scratch ended; a ring is where it was reached. "
    pictures = [
        save(
            f"specialise_seed{record['seed']}", seconds_figure(record),
            f"Accuracy on valid against total seconds, seed {record['seed']}",
            f"Seed {record['seed']}. {caption}{line * ('reached' in record)}Random architectures: mean of "
            f"{record['settings']['random_architectures']}.",
        )
        for record in records
    ]  # fmt: skip
    body = figures(pictures)
    if "reached" in records[0]:
        body += "".join(paragraph(f"{_capital(sentence(records, name))}.") for name in records[0]["rows"])
        rows = [
            (NAMES[name], record["seed"], f"{100 * record['reached']['accuracy']:.2f}", *reached_words(row))
            for name in records[0]["rows"]
            for record in records
            for row in [record["reached"]["rows"][name]]
        ]
        body += table(("", "seed", "to reach, %", "after, s", "of scratch's search"), rows)
    return Section("times", "Accuracy against seconds", body)


def _rows(records: Sequence[dict[str, Any]]) -> Section:
    def mean(name: str, key: str, form: str, scale: float = 1) -> str:
        return format(scale * np.mean([record["rows"][name][key] for record in records]), form)

    rows = [
        (
            NAMES[name], mean(name, "valid", ".2f", 100), mean(name, "test", ".2f", 100),
            short(float(mean(name, "params", "f"))), mean(name, "evaluations", ".0f"), mean(name, "search_s", ".1f"),
            mean(name, "train_s", ".1f"),
        )
        for name in records[0]["rows"]
    ]  # fmt: skip
    of = f"Means over {len(records)} seeds. " if len(records) > 1 else ""
    words = f"{of}Valid chose the architectures, test nothing. Chance is {1 / _ways(records):.0%}."
    head = ("", "valid, %", "test, %", "params", "candidates", "search, s", "training, s")
    return Section("rows", "At the end", paragraph(words) + table(head, rows))


def _ways(records: Sequence[dict[str, Any]]) -> int:
    return len(records[0]["classes"])


def _architectures(records: Sequence[dict[str, Any]]) -> Section:
    rows = [
        (NAMES[name], record["seed"], text)
        for name in records[0]["rows"]
        for record in records
        for text in record["rows"][name].get("genotypes", [record["rows"][name]["genotype"]])
    ]
    return Section("architectures", "Architectures", table(("", "seed", "genotype"), rows, text=(2,)))


def _settings(record: dict[str, Any]) -> Section:
    rows = [(name, record["settings"][name]) for name in sorted(record["settings"])]
    rows += [("width", record["width"]), ("depth", record["depth"])]
    return Section("settings", "Settings", table(("setting of specialise", "value"), rows))


@styled
def seconds_figure(record: dict[str, Any], part: str = "valid"):
    """Draw accuracy on a part of the data, by the logarithm of its error, against total seconds."""
    figure = new_figure(4.4)
    axes = figure.subplots()
    least = 50 / record["images"][part]  # %, half an image

    def height(accuracy):
        return -np.log10(np.maximum(100 - 100 * np.asarray(accuracy), least))

    styles = zip(record["rows"], LINES, 2 * DASHES, strict=False)
    for name, colour, dashes in styles:
        _draw_row(axes, record, name, height, {"color": colour, "linestyle": dashes, "linewidth": 1.6})
    if "reached" in record:
        aim, half = record["reached"]["accuracy"], record["reached"].get("ci95", 0.0)
        axes.axhline(height(aim), color="0.3", linestyle="--", linewidth=1, zorder=1)
        axes.axhspan(height(aim - half), height(aim + half), color="0.5", alpha=0.2, linewidth=0, zorder=0)
    seen = [accuracy for row in record["rows"].values() for _, accuracy in row["curve"]]
    limits = (height(max(0.0, min(seen))) - 0.05, height(max(seen)) + 0.1)
    axes.set(xscale="log", xlabel="total seconds, without compiling", ylabel=f"accuracy on {part}, %", ylim=limits)
    ticks = [tick for tick in TICKS if limits[0] <= height(tick / 100) <= limits[1]]
    axes.yaxis.set_major_locator(FixedLocator([float(height(tick / 100)) for tick in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([f"{tick:g}" for tick in ticks])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=1, fontsize=8)
    return figure


def _draw_row(axes, record: dict[str, Any], name: str, height, style: dict[str, Any]) -> None:
    """Draw a row's curve, a dot where its search ends, and a ring where it reached the accuracy from scratch."""
    row, colour = record["rows"][name], style["color"]
    seconds, accuracies = zip(*row["curve"], strict=True)
    axes.plot(seconds, height(accuracies), label=NAMES[name].replace(", as", ",\nas"), **style)
    if row["evaluations"]:
        at = row["evaluations"] - 1
        axes.plot(seconds[at], height(accuracies[at]), "o", color=colour, markersize=6)
    at = record["reached"]["rows"][name]["seconds"] if "reached" in record else None
    if at is not None:
        ring = {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.6, "zorder": 4}
        axes.plot(at, height(record["reached"]["accuracy"]), "o", color=colour, **ring)
