"""A rank check as lines of text, a JSON file and a picture."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from atnas_jax.job.files import write_whole

# Okabe and Ito's colours, told apart by the colour-blind; the markers differ too.
MARKS = {"random": ("#0072B2", "o"), "population": ("#D55E00", "D")}


def rank_table(record: Mapping[str, Any]) -> str:
    """Return the check as text of at most 110 columns: a row for each predictor, the ceiling last."""
    protocol, rows = record["protocol"], record["genotypes"]
    lines = [
        f"{os.path.basename(record['source'])}, meta_valid: {protocol['ways']}-way {protocol['shots']}-shot, "
        f"{protocol['queries']} queries a class, {record['episodes']} episodes, {protocol['normalisation']}",
        f"{len(rows)} genotypes trained alone for {record['steps']} outer steps, {record['seeds']} seeds",
        "",
        f"{'':18}{'Kendall tau':>22}{'of one seed':>13}{'Spearman':>10}{'precision@10%':>15}{'supernet ahead by':>26}",
    ]
    for name, row in record["predictors"].items():
        ahead = "" if name == "supernet" else _interval(row["ahead"])
        lines.append(
            f"{name:18}{_interval(row):>22}{_text(row['tau_one_seed']):>13}{_text(row['spearman']):>10}"
            f"{_text(row['precision']):>15}{ahead:>26}"
        )
    if (top := record["ceiling"]) is not None:
        spread = f"[{_text(top['low'])}, {_text(top['high'])}] of {top['genotypes']} genotypes"
        lines.append(
            f"{'seed against seed':18}{'':>22}{_text(top['tau']):>13}{_text(top['spearman']):>10}"
            f"{_text(top['precision']):>15}   {spread}"
        )
    values = alone_means(rows)
    lines += [
        "",
        f"alone: accuracy {100 * values.min():.2f} to {100 * values.max():.2f} %, sd over genotypes "
        f"{100 * values.std(ddof=1):.2f}, standard error of one score "
        f"{100 * np.mean([row['alone'][0]['error'] for row in rows]):.2f}",
        f"tau [95 % interval over genotypes] against the mean of the seeds, and of one seed; 10 %: {record['top']}",
    ]
    return "\n".join(lines)


def alone_means(rows: list[dict[str, Any]]) -> np.ndarray:
    """Return float [n], the accuracy of each genotype alone, the mean over the seeds that all have."""
    seeds = min(len(row["alone"]) for row in rows)
    return np.asarray([np.mean([one["accuracy"] for one in row["alone"][:seeds]]) for row in rows])


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(row: Mapping[str, float | None]) -> str:
    return f"{_text(row['tau'])} [{_text(row['low'])}, {_text(row['high'])}]"


def write_rank_check(folder: str, record: Mapping[str, Any]) -> None:
    """Write rank_check.txt, rank_check.json and rank_check.png into the folder, made where absent."""
    os.makedirs(folder, exist_ok=True)
    write_whole(os.path.join(folder, "rank_check.txt"), rank_table(record) + "\n")
    write_whole(os.path.join(folder, "rank_check.json"), json.dumps(record, indent=2, allow_nan=False) + "\n")
    draw(os.path.join(folder, "rank_check.png"), record)


def draw(path: str, record: Mapping[str, Any]) -> None:
    """Draw the accuracy alone against that of the supernet, against parameters, and seed against seed."""
    rows, figure = record["genotypes"], Figure((12.6, 4.3), layout="constrained")
    truth = 100 * alone_means(rows)
    twice = [row for row in rows if len(row["alone"]) > 1]
    panels = [
        ("supernet accuracy, %", "supernet", [100 * row["supernet"]["accuracy"] for row in rows], truth, rows),
        ("parameters", "params", [row["params"] for row in rows], truth, rows),
    ]
    if twice:
        seeds = [[100 * row["alone"][seed]["accuracy"] for row in twice] for seed in (0, 1)]
        panels.append(("alone by another seed, accuracy, %", "ceiling", seeds[1], seeds[0], twice))
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (label, name, x, y, shown) in zip(every, panels):
        x, y, origins = np.asarray(x), np.asarray(y), np.asarray([row["origin"] for row in shown])
        for origin, (colour, marker) in MARKS.items():
            if (mine := origins == origin).any():
                axes.scatter(x[mine], y[mine], s=26, c=colour, marker=marker, alpha=0.85, linewidths=0, label=origin)
        found = record["ceiling"] if name == "ceiling" else record["predictors"][name]
        axes.set_title(f"Kendall tau {_interval(found)}", fontsize="medium")
        axes.set(xlabel=label, ylabel="trained alone, accuracy, %")
        axes.grid(alpha=0.25)
    every[0].legend(fontsize="small", frameon=False)
    figure.suptitle(
        f"{os.path.basename(record['source'])}: {len(rows)} genotypes alone for {record['steps']} outer steps", size=11
    )
    figure.savefig(path, dpi=130)
