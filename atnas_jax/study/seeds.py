"""The same config with several seeds: mean and standard deviation over runs, which no interval over episodes tells.

The interval over episodes says how well a run is measured, the deviation over seeds how much another run would differ.
A seed draws the first weights, the training episodes and the search; the evaluation episodes and the split stay.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from atnas_jax.evidence.paired import pairs_of
from atnas_jax.job.config import check_config, stored_config
from atnas_jax.job.files import write_whole
from atnas_jax.job.processes import by_first
from atnas_jax.job.results import remarks
from atnas_jax.job.state import flat_settings
from atnas_jax.run.pick import recalled
from atnas_jax.run.search import across_task_search, finished

SCHEMA = 1
FILE = "seeds.json"
# What may differ between runs that are merged; the fingerprint says that the data is the same.
_FREE = (
    *("seed", "measure", "devices", "meta_test.rows", "data.source", "data.cache_dir"),
    *("log.checkpoint_minutes", "log.keep"),
)


def run_seeds(config: ConfigDict, workdir: str, seeds: int, *, quiet: bool = False) -> dict[str, Any]:
    """Run a config with the seeds config.seed, config.seed + 1, ... in `workdir`/seedN, and merge what they found.

    A finished seed is not run again, a stopped one goes on, see `across_task_search`.

    Args:
        config: see `job/defaults.py`.
        workdir: gets a folder a seed, and seeds.json.
        seeds: number of runs, at least 2.
        quiet: show no progress.

    Returns:
        What seeds.json holds, see `merge`.

    Raises:
        ValueError: fewer than two seeds; else as `across_task_search`.
    """
    if seeds < 2:
        raise ValueError(f"seeds is {seeds}; a deviation over seeds needs 2 or more")
    check_config(config)
    runs = {}
    for number in range(config.seed, config.seed + seeds):
        runs[number] = config.copy_and_resolve_references()
        runs[number].seed = number
        check_config(runs[number])
    folders = [os.path.join(workdir, f"seed{number}") for number in runs]
    for folder, changed in zip(folders, runs.values()):
        if folder != folders[0]:  # the first measures for all
            changed.update_from_flattened_dict((by_first(recalled, changed, folders[0]) or {}) | {"measure": False})
        across_task_search(changed, folder, quiet=quiet)
    return write_seeds(workdir, merge(folders))


def write_seeds(workdir: str, record: dict[str, Any]) -> dict[str, Any]:
    """Write what `merge` returned as seeds.json of the workdir, whole or not at all; returns it."""
    os.makedirs(workdir, exist_ok=True)
    write_whole(os.path.join(workdir, FILE), json.dumps(record, indent=2, allow_nan=False) + "\n")
    return record


def merge(workdirs: Sequence[str]) -> dict[str, Any]:
    """Return mean and standard deviation over finished runs that differ in their seed alone.

    Args:
        workdirs: of the runs, at least 2.

    Returns:
        {"schema": 1, "workdirs", "seeds", "data", "protocol", "remarks" (see `job/results.py`), "genotypes" (each a
        list over runs but data, protocol and remarks); "rows": mode -> row -> {"accuracy": the mean over seeds, "sd"
        (n - 1), "values": a list over runs, "ci95_over_episodes": the same of their intervals, "params", "macs":
        means}; "differences": mode -> objects {"row", "minus", "difference", "sd", "values"}, of the same episodes}.

    Raises:
        FileNotFoundError: a workdir holds no finished run.
        ValueError: fewer than two runs, a seed twice, or runs that differ in more than their seed.
    """
    if len(workdirs) < 2:
        raise ValueError(f"runs names {len(workdirs)}; a deviation over seeds needs 2 or more")
    if twice := [workdir for number, workdir in enumerate(workdirs) if workdir in workdirs[:number]]:
        raise ValueError(f"runs names {twice[0]} twice; name each run once")
    found = {workdir: finished(workdir) for workdir in workdirs}
    if missing := [workdir for workdir, results in found.items() if results is None]:
        raise FileNotFoundError(f"{missing[0]} holds no finished search; run launch.search with this --workdir first")
    runs = list(found.values())
    _check_alike(found)
    tables = [_by_mode(results) for results in runs]
    rows = {
        mode: {row: _over_seeds([table[mode][row] for table in tables]) for row in _shared(tables, mode)}
        for mode in _shared(tables)
    }
    return {
        "schema": SCHEMA,
        "workdirs": list(found),
        "seeds": [results["seed"] for results in runs],
        "data": runs[0]["data"],
        "protocol": runs[0]["protocol"],
        "remarks": remarks(runs[0]) + _tried(runs),
        "genotypes": [results["genotype"] for results in runs],
        "rows": rows,
        "differences": {mode: _differences(cells) for mode, cells in rows.items()},
    }


def seeds_table(record: Mapping[str, Any]) -> str:
    """Return the record as text of at most 100 columns: rows and their differences, mean ± deviation over seeds."""
    seeds, protocol, modes = record["seeds"], record["protocol"], list(record["rows"])
    lines = [
        f"{os.path.basename(record['data']['source'])}, meta_test: {protocol['ways']}-way {protocol['shots']}-shot, "
        f"{protocol['episodes']} episodes",
        f"mean ± standard deviation over the {len(seeds)} seeds {', '.join(map(str, seeds))}",
        *record.get("remarks", ()),
        "",
        f"{'':<44}" + "".join(f"{mode + ' %':>19}" for mode in modes),
    ]
    for row in record["rows"][modes[0]]:
        cells = (record["rows"][mode].get(row) for mode in modes)
        lines.append(f"{row:<44}" + "".join(f"{_percent(cell, 'accuracy', ''):>19}" for cell in cells))
    lines += ["", "differences on the same episodes, points"]
    named = {mode: {f"{d['row']} - {d['minus']}": d for d in record["differences"][mode]} for mode in modes}
    for name in named[modes[0]]:
        cells = (named[mode].get(name) for mode in modes)
        lines.append(f"{name:<44}" + "".join(f"{_percent(cell, 'difference', '+'):>19}" for cell in cells))
    return "\n".join(line[:100] for line in lines)


def _check_alike(found: Mapping[str, Mapping[str, Any]]) -> None:
    (first, one), *others = found.items()
    settings = flat_settings(stored_config(one["config"]).to_dict())
    seeds = {one["seed"]: first}
    for workdir, results in others:
        if results["seed"] in seeds:
            raise ValueError(f"{seeds[results['seed']]} and {workdir} are both of seed {results['seed']}; name one")
        seeds[results["seed"]] = workdir
        if results["data"]["fingerprint"] != one["data"]["fingerprint"]:
            raise ValueError(f"{first} and {workdir} are of other data or another split; merge runs of the same")
        other = flat_settings(stored_config(results["config"]).to_dict())
        differ = [name for name in settings if name not in _FREE and settings[name] != other.get(name)]
        if differ:
            raise ValueError(
                f"{first} and {workdir} differ in more than the seed ({', '.join(differ[:5])}); take runs of one config"
            )


def _tried(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the runs' trials of the search on a support say, in a line, where any was made."""
    trials = [results["trial"] for results in runs if "trial" in results]
    if not trials:
        return []
    paid = sum(trial["pays"] for trial in trials)
    return [f"a search on the support pays in {paid} of {len(trials)} trials of {len(runs)} runs; else adapted is best"]


def _by_mode(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    tables, other = {results["protocol"]["normalisation"]: results["meta_test"]}, results["meta_test_other"]
    return tables | ({other["normalisation"]: other["rows"]} if other else {})


def _shared(tables: Sequence[Mapping[str, Any]], mode: str | None = None) -> list[str]:
    """Return the modes, or the rows of a mode, that all runs have, in the order of the first."""
    names = [table if mode is None else table[mode] for table in tables]
    return [name for name in names[0] if all(name in other for other in names)]


def _over_seeds(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [cell["accuracy"] for cell in cells]
    return {
        "accuracy": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)),
        "values": values,
        "ci95_over_episodes": [cell["ci95"] for cell in cells],
        **{name: float(np.mean([cell[name] for cell in cells])) for name in ("params", "macs")},
    }


def _differences(rows: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for row, minus in pairs_of(rows):
        values = [a - b for a, b in zip(rows[row]["values"], rows[minus]["values"])]
        mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
        found.append({"row": row, "minus": minus, "difference": mean, "sd": sd, "values": values})
    return found


def _percent(cell: Mapping[str, Any] | None, name: str, sign: str) -> str:
    return "-" if cell is None else f"{100 * cell[name]:{sign}.2f} ± {100 * cell['sd']:.2f}"
