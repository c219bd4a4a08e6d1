"""The outcome of a run, `results.json`: its schema, its writing, and the table that a person reads."""

import importlib.metadata
import json
import math
import os
import platform
import resource
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from atnas_jax.job.budget import takes_valid
from atnas_jax.job.config import stored_config
from atnas_jax.job.files import write_whole
from atnas_jax.job.trial import trial_text
from atnas_jax.types import Array

SCHEMA = 1
_NUMBER = (int, float)
_LAYOUT = {  # what each key holds; a dict is looked into, {} is any object, [x] a list of x, {str: x} names of x
    "schema": int,
    "config": {},
    "seed": int,
    "versions": dict.fromkeys(("python", "jax", "flax", "optax", "numpy", "atnas_jax"), str),
    "data": {
        "source": str,
        "fingerprint": str,
        "split": str,
        "class_counts": dict.fromkeys(("meta_train", "meta_valid", "meta_test"), int),
    },
    "protocol": {
        **dict.fromkeys(("ways", "shots", "queries", "episodes", "inner_steps"), int),
        "normalisation": str,  # inductive or transductive
    },
    "genotype": str,
    "space": {},
    "params": int,
    "macs": int,  # of one image
    "meta_test": {},  # row -> _ROW
    "ledger": dict.fromkeys(
        ("compile_s", "meta_train_s", "search_s", "control_s", "adapt_s_per_task", "meta_test_s", "peak_memory_mb"),
        _NUMBER,
    ),
    "history": list,  # an object per generation
}
_ROW = {"accuracy": _NUMBER, "ci95": _NUMBER, "episodes": int, "params": _NUMBER, "macs": _NUMBER}
_SPREAD = {"architecture_sd": _NUMBER}  # of a row that is a mean over several genotypes
_OTHER = {"normalisation": str, "rows": {}}  # meta_test_other; null where it was not asked for
_POINT = {"accuracy": _NUMBER, "ci95": _NUMBER, "episodes": int}
_TRIAL = {"shots": int, "episodes": int, "difference": _NUMBER, "ci95": _NUMBER, "pays": bool}
_EVIDENCE = {  # each key is there where launch.meta_test was asked for it
    "paired": {str: [{"row": str, "minus": str, "difference": _NUMBER, "ci95": _NUMBER, "episodes": int}]},
    "permutation": {"same_genotype": _NUMBER},
    "inner_steps": {str: {str: [{"steps": int, **_POINT}]}},
    "search_generations": {str: [{"generation": int, "genotype": str, **_POINT}]},
    "adaptation_generations": {str: [{"generation": int, **_POINT}]},
    "front": {
        "normalisation": str,
        "points": [
            {"group": str, "genotype": str, "params": int, "macs": int, "params_front": bool, "macs_front": bool}
            | _POINT
        ],
    },
}
_NORMALISATIONS = ("inductive", "transductive")


def interval(accuracies: Array | np.ndarray) -> tuple[float, float]:
    """Return (mean, half-width of the 95 % interval) over episodes: 1.96 sd / sqrt(n), sd with n - 1.

    Args:
        accuracies: float [n], a share of right queries per episode, n >= 2.

    Raises:
        ValueError: fewer than two episodes.
    """
    values = np.asarray(accuracies, np.float64).reshape(-1)
    if values.size < 2:
        raise ValueError(f"a 95 % interval needs 2 episodes or more; there is {values.size}")
    return float(values.mean()), float(1.96 * values.std(ddof=1) / math.sqrt(values.size))


def versions() -> dict[str, str]:
    """Return the versions that `results.json` names."""
    names = ("jax", "flax", "optax", "numpy", "atnas_jax")
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # atnas_jax run from its folder


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, MB (2^20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere


def check_results(results: Mapping[str, Any]) -> None:
    """Raise ValueError, in one line, where `results` are not of schema 1."""
    evidence = results.get("evidence", {})
    optional = {"trial": _TRIAL, "evidence": {name: layout for name, layout in _EVIDENCE.items() if name in evidence}}
    optional = {name: layout for name, layout in optional.items() if name in results}
    layout = {**_LAYOUT, "meta_test_other": object} | optional
    _check_layout(dict(results), layout, "results")
    if results["schema"] != SCHEMA:
        raise ValueError(f"results.schema is {results['schema']}; this version reads {SCHEMA}")
    tables = {"meta_test": (results["protocol"]["normalisation"], results["meta_test"])}
    if results["meta_test_other"] is not None:
        _check_layout(results["meta_test_other"], _OTHER, "results.meta_test_other")
        tables["meta_test_other"] = (results["meta_test_other"]["normalisation"], results["meta_test_other"]["rows"])
    for name, (normalisation, rows) in tables.items():
        if normalisation not in _NORMALISATIONS:
            raise ValueError(f"normalisation of {name} is {normalisation!r}; allowed: {', '.join(_NORMALISATIONS)}")
        if not rows:
            raise ValueError(f"results.{name} has no row")
        for row, cells in rows.items():
            _check_layout(cells, _ROW | (_SPREAD if "architecture_sd" in cells else {}), f"results.{name}.{row}")
            if not 0 <= cells["accuracy"] <= 1:
                raise ValueError(f"results.{name}.{row}.accuracy is {cells['accuracy']}; it is a share, from 0 to 1")


def _check_layout(value: Any, layout: Any, where: str) -> None:
    if isinstance(layout, list):
        _check_layout(value, list, where)
        for number, entry in enumerate(value):
            _check_layout(entry, layout[0], f"{where}[{number}]")
        return
    if not isinstance(layout, dict):
        if not isinstance(value, layout) or (isinstance(value, bool) and layout not in (object, bool)):
            allowed = layout.__name__ if isinstance(layout, type) else "number"
            raise ValueError(f"{where} is {value!r}; it must be a {allowed}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where} is {value}; it must be finite")
        return
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}; it must be an object")
    if str in layout:
        layout = dict.fromkeys(value, layout[str])
    if layout and (wrong := set(value) ^ set(layout)):
        kind = "lacks" if wrong & set(layout) else "has the unknown key"
        raise ValueError(f"{where} {kind} {sorted(wrong & set(layout) or wrong)[0]!r}")
    for name, below in layout.items():
        _check_layout(value[name], below, f"{where}.{name}")


def write_results(workdir: str, results: Mapping[str, Any]) -> str:
    """Check `results` and write them as `results.json`, whole or not at all; return its path.

    Raises:
        ValueError: they are not of schema 1, or hold what JSON cannot.
    """
    check_results(results)
    os.makedirs(workdir, exist_ok=True)
    path = os.path.join(workdir, "results.json")
    try:
        text = json.dumps(results, indent=2, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"results cannot be written as JSON: {error}") from error
    write_whole(path, text + "\n")
    return path


def results_table(results: Mapping[str, Any]) -> str:
    """Return the final table as text of at most 100 columns: a row per method, accuracy in % with its 95 % interval."""
    protocol, data, other = results["protocol"], results["data"], results["meta_test_other"]
    title = (
        f"{os.path.basename(data['source'])}, meta_test: {protocol['ways']}-way {protocol['shots']}-shot, "
        f"{protocol['queries']} queries a class, {protocol['episodes']} episodes, {steps_text(results)}"
    )
    columns = [protocol["normalisation"]] + ([other["normalisation"]] if other else [])
    lines = [title, "", f"{'':<22}" + "".join(f"{name + ' %':>19}" for name in columns) + f"{'params':>12}{'MACs':>14}"]
    for name, row in results["meta_test"].items():
        cells = [row] + ([other["rows"].get(name)] if other else [])
        lines.append(
            f"{name[:21]:<22}" + "".join(f"{_percent(cell):>19}" for cell in cells)
            + f"{round(row['params']):>12,}{round(row['macs']):>14,}"
        )  # fmt: skip
    for name, row in results["meta_test"].items():
        if "architecture_sd" in row:
            cells = [row] + ([other["rows"][name]] if other and name in other["rows"] else [])
            sds = " and ".join(f"{100 * cell['architecture_sd']:.2f}" for cell in cells)
            lines += ["", f"{name}: standard deviation over its architectures {sds} points"]
    said = remarks(results)
    if tried := results.get("trial"):
        said += textwrap.wrap(trial_text(tried), 100)
    if said:
        lines += ["", *said]
    genotype = results["genotype"] if len(results["genotype"]) <= 91 else results["genotype"][:88] + "..."
    return "\n".join([*(line[:100] for line in lines), "", f"genotype {genotype}"])


def steps_text(results: Mapping[str, Any]) -> str:
    """Return how many inner steps adapt to an episode, in words."""
    number, most = results["protocol"]["inner_steps"], stored_config(results["config"]).learner.tolerance
    return "at most " * bool(most) + f"{number} inner step" + "s" * (number != 1)


def remarks(results: Mapping[str, Any]) -> list[str]:
    """Return what a table must say of its test and of what was trained on, a line each."""
    config = stored_config(results["config"])
    said = ["rotated classes of meta_test took part as classes of their own"] if config.protocol.rotations else []
    if tolerance := config.learner.tolerance:
        said.append(f"an adaptation ends early once its support loss, or the fall of it, is below {tolerance:g} nats")
    return said + (["the finish trained on the classes of meta_valid too"] if takes_valid(config) else [])


def _percent(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None else f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}"
