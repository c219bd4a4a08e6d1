"""Metrics of a run, `metrics.csv` and `metrics.jsonl`, in which no row is lost or stands twice after a resume."""

import csv
import io
import json
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from atnas_jax.job.files import read_rows, write_whole

COLUMNS = {
    "step": "outer steps done when the row was written",
    "phase": "meta_train, search or control",
    "generation": "generations done",
    "seconds": "seconds of compiling, training and searching so far, those before a resume included",
    "loss": "mean query cross-entropy of the meta_train episodes since the last row, nats",
    "accuracy": "share of right queries of the meta_train episodes since the last row",
    "grad_norm": "global norm of the outer gradient before clipping",
    "skipped": "outer steps since the last row whose loss or gradient was not finite: not taken, not in the means",
    "learning_rate": "of the outer optimiser, at the last step of the row",
    "episodes_per_s": "episodes trained or evaluated per second since the last row",
    "best_fitness": "first objective of the best genotype of the generation (relaxed masks: their mean), on meta_valid",
    "mean_fitness": "first objective, mean of the generation's feasible genotypes, on meta_valid",
    "best_genotype": "the best genotype of the generation, as text",
    "params": "parameters of the best genotype",
    "macs": "multiply-accumulates of the best genotype for one image",
}


class Metrics(NamedTuple):
    """An open pair of files.

    write(**columns): append one row and flush it; `step` is required, what is not given stays empty.
    close(): close both files.
    """

    write: Callable[..., None]
    close: Callable[[], None]


def open_metrics(workdir: str, resume_step: int | None = None) -> Metrics:
    """Open the metrics of a run; write the rows of a step before its checkpoint.

    Args:
        workdir: the folder of the run, made where absent.
        resume_step: the step restored; rows past it, and a torn last row, are cut. None begins anew.

    Returns:
        Metrics. A number that is not finite becomes null in JSON and nan in CSV.
    """
    os.makedirs(workdir, exist_ok=True)
    paths = {kind: os.path.join(workdir, f"metrics.{kind}") for kind in ("csv", "jsonl")}
    rows = [] if resume_step is None else _kept_rows(paths["jsonl"], resume_step)
    # Both files are written again from the same rows, so that they agree whichever of the two was torn.
    write_whole(paths["csv"], ",".join(COLUMNS) + "\n" + "".join(map(_csv_line, rows)))
    write_whole(paths["jsonl"], "".join(map(_json_line, rows)))
    csv_file, json_file = (open(paths[kind], "a", encoding="utf-8", newline="") for kind in ("csv", "jsonl"))

    def write(**columns: Any) -> None:
        row = _clean(columns)
        for file, line in ((json_file, _json_line(row)), (csv_file, _csv_line(row))):
            file.write(line)
            file.flush()

    def close() -> None:
        csv_file.close()
        json_file.close()

    return Metrics(write, close)


def has_metrics(workdir: str) -> bool:
    """Return whether a run has written a row of metrics here."""
    path = os.path.join(workdir, "metrics.jsonl")
    return os.path.exists(path) and os.path.getsize(path) > 0


def _clean(columns: dict[str, Any]) -> dict[str, Any]:
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or "step" not in columns:
        raise ValueError(f"metrics row {sorted(columns)}: needs step, and columns of {', '.join(COLUMNS)}")
    row = {}
    for name in COLUMNS:
        if name in columns:
            value = columns[name]
            value = value if isinstance(value, str) else np.asarray(value).item()
            row[name] = None if isinstance(value, float) and not math.isfinite(value) else value
    return row


def _kept_rows(path: str, resume_step: int) -> list[dict[str, Any]]:
    cure = "remove it to go on without the rows so far"
    rows = read_rows(path, cure)
    try:
        return [row for row in rows if row["step"] <= resume_step]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); {cure}") from error


def _json_line(row: dict[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _csv_line(row: dict[str, Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(
        ["nan" if name in row and row[name] is None else row.get(name, "") for name in COLUMNS]
    )
    return text.getvalue()
