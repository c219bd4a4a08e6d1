"""The main job: meta-train a supernet over tasks while a population of genotypes evolves on it (DESIGN section 6)."""

import json
import os
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.meta.average import evaluated
from atnas_jax.run.build import Parts, build
from atnas_jax.run.checkpoint import open_checkpoints
from atnas_jax.run.command import keep_command
from atnas_jax.run.config import check_config, chunk_of, evaluation_steps, stored_config
from atnas_jax.run.meta_network import MetaNetwork, save_meta_network
from atnas_jax.run.meta_test import meta_test
from atnas_jax.run.progress import Progress, make_progress
from atnas_jax.run.results import SCHEMA, check_results, peak_memory_mb, versions, write_results
from atnas_jax.run.shown import write_shown
from atnas_jax.run.state import RunState, keep_config, ranked_population, restore_run
from atnas_jax.run.tensorboard import check_tensorboard
from atnas_jax.run.units import run_units
from atnas_jax.space.text import space_to_dict, to_text


def across_task_search(config: ConfigDict, workdir: str, *, quiet: bool = False) -> dict[str, Any]:
    """Search across tasks, or go on with a search that was stopped, and report it.

    Args:
        config: see `run/defaults.py`.
        workdir: where config.json, checkpoints/, metrics.csv, metrics.jsonl and results.json live.
        quiet: show no progress.

    Returns:
        What results.json holds, see README; a finished run is read, not run again.

    Raises:
        ValueError, FileNotFoundError: one line that says what does not fit, before anything is compiled.
    """
    check_config(config)
    if config.log.tensorboard:
        check_tensorboard()
    if (done := finished(workdir)) is not None:
        keep_config(workdir, config)
        return done
    parts = build(config)
    keep_config(workdir, config)
    keep_command(workdir)
    chunks = config.train.steps // chunk_of(config)
    weights = {"meta_train": chunks, "control": chunks * config.meta_test.conv4, "meta_test": chunks / 2}
    progress = make_progress({name: weight for name, weight in weights.items() if weight}, quiet)
    progress.note(f"{parts.mesh.size} of {jax.device_count()} devices ({jax.devices()[0].device_kind}) share each step")
    try:
        state, notes = run_units(config, parts, workdir, progress)
        save_meta_network(workdir, meta_network(config, parts, state))
        results = report(config, parts, state, notes, progress, workdir)
    finally:
        progress.close()
    write_results(workdir, results)
    return results


def test_again(workdir: str, changes: dict[str, int], *, quiet: bool = False) -> dict[str, Any]:
    """Run the meta-test of a finished search again and rewrite its results.json.

    Args:
        workdir: of the search.
        changes: settings of `config.protocol` to differ in: episodes, queries, seed.
        quiet: show no progress.

    Raises:
        FileNotFoundError: the workdir holds no finished search, or not its last checkpoint.
        ValueError: the changed episodes do not fit the data, or the data is not that of the search.
    """
    if (results := finished(workdir)) is None:
        raise FileNotFoundError(f"{workdir} holds no finished search; run launch.search with this --workdir first")
    with open(os.path.join(workdir, "config.json"), encoding="utf-8") as file:
        config = stored_config(json.load(file))
    config.protocol.update(changes)
    check_config(config)
    parts = build(config)
    checkpoints = open_checkpoints(workdir, config.log.keep)
    found = restore_run(checkpoints, config, parts)
    checkpoints.close()
    if found is None:
        raise FileNotFoundError(f"{workdir} holds no checkpoint any more; run launch.search with a new --workdir")
    state, notes = found
    progress = make_progress({"meta_test": 1.0}, quiet)
    try:
        again = report(config, parts, state, notes, progress, workdir)
    finally:
        progress.close()
    results |= {name: again[name] for name in ("config", "protocol", "meta_test", "meta_test_other", "ledger")}
    write_results(workdir, results)
    return results


def meta_network(config: ConfigDict, parts: Parts, state: RunState) -> MetaNetwork:
    """Return the outcome of a search: weights and population, the shared best first."""
    return MetaNetwork(
        evaluated(state.meta), ranked_population(state), parts.space, parts.image_shape, parts.normalise, config,
        parts.latency,
    )  # fmt: skip


def finished(workdir: str) -> dict[str, Any] | None:
    """Return the results of a finished run, or None."""
    path = os.path.join(workdir, "results.json")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    check_results(results)
    return results


def report(
    config: ConfigDict, parts: Parts, state: RunState, notes: dict[str, Any], progress: Progress, workdir: str
) -> dict[str, Any]:
    """Return the results of a searched meta-network, the meta-test and what it took; writes `meta_test.npz`."""
    found, clock = meta_test(config, parts, state, progress), {"compile_s": 0.0}
    write_shown(workdir, config, parts, state, found.chosen, clock)
    data, test = parts.dataset, config.protocol
    ledger = {name: notes[name] for name in ("meta_train_s", "search_s", "control_s")}
    return {
        "schema": SCHEMA,
        "config": json.loads(config.to_json()),
        "seed": config.seed,
        "versions": versions(),
        "data": {
            "source": data.source,
            "fingerprint": data.fingerprint,
            "split": data.split_name,
            "class_counts": {
                split: len(getattr(data.table, split)) for split in ("meta_train", "meta_valid", "meta_test")
            },
        },
        "protocol": {
            **{name: getattr(test, name) for name in ("ways", "shots", "queries", "episodes")},
            "inner_steps": evaluation_steps(config),
            "normalisation": found.normalisation,
        },
        "genotype": to_text(parts.space, np.asarray(state.best)),
        "space": space_to_dict(parts.space),
        "params": found.params,
        "macs": found.macs,
        "meta_test": found.rows,
        "meta_test_other": found.other,
        "ledger": ledger
        | {
            "compile_s": notes["compile_s"] + found.compile_s + clock["compile_s"],
            "adapt_s_per_task": found.adapt_s_per_task,
            "meta_test_s": found.seconds,
            "peak_memory_mb": peak_memory_mb(),
        },
        "history": notes["history"],
    }
