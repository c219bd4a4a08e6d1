"""The main job: meta-train a supernet over tasks while a population of genotypes evolves on it (DESIGN section 6)."""

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.evidence.evidence import NOTHING, Asked, check_asked, gather, kept_evidence, with_rows
from atnas_jax.evidence.meta_test import Bench, meta_test, open_bench
from atnas_jax.evidence.shown import write_shown
from atnas_jax.evidence.trials import try_search
from atnas_jax.job.budget import all_chunks, passes_of
from atnas_jax.job.build import Parts, build, relearned
from atnas_jax.job.checkpoint import open_checkpoints
from atnas_jax.job.compiled import stopwatch
from atnas_jax.job.config import check_config, evaluation_steps, stored_config
from atnas_jax.job.files import only_run, read_json
from atnas_jax.job.processes import by_first, check_same, is_first, together
from atnas_jax.job.progress import Progress, make_progress
from atnas_jax.job.results import SCHEMA, check_results, peak_memory_mb, versions, write_results
from atnas_jax.job.state import RunState, keep_config, ranked_population, restore_run
from atnas_jax.job.trial import Trial, trial_to_dict
from atnas_jax.meta.average import evaluated
from atnas_jax.novel.meta_network import MetaNetwork, save_meta_network
from atnas_jax.run.pick import pick, recalled
from atnas_jax.run.preemption import stops_at_once
from atnas_jax.run.tensorboard import check_tensorboard
from atnas_jax.run.units import run_units
from atnas_jax.space.text import space_to_dict, to_text


def across_task_search(
    config: ConfigDict, workdir: str, *, quiet: bool = False, accept_changes: bool = False, mesh: str = ""
) -> dict[str, Any]:
    """Search across tasks, or go on with a search that was stopped, and report it.

    Args:
        config: see `job/defaults.py`.
        workdir: where config.json, checkpoints/, metrics.csv, metrics.jsonl and results.json live.
        quiet: show no progress.
        accept_changes: go on though settings differ that are harmless, see `state.HARMLESS`.
        mesh: the layout of the devices, such as "tasks:4,population:2", see `devices.mesh_for`.

    Returns:
        What results.json holds, see README; a finished run is read, not run again.

    Raises:
        ValueError, FileNotFoundError: one line that says what does not fit, before anything is compiled.
        OSError, Fault: the disk, the device or the numbers fail; the same command goes on from the last checkpoint.
        Stopped: by SIGTERM or SIGINT, after a checkpoint.
    """
    check_config(config)
    if config.log.tensorboard:
        check_tensorboard()
    known = by_first(recalled, config, workdir)
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(known or {})
    check_same("settings", config.to_json())
    if (done := by_first(finished, workdir)) is not None:
        by_first(keep_config, workdir, config, accept_changes)
        return done
    parts = together(build, config, mesh)
    check_same("data", parts.dataset.fingerprint)
    with contextlib.ExitStack() as held:
        by_first(held.enter_context, only_run(workdir))
        held.enter_context(stops_at_once())
        if config.measure and known is None:
            config.update_from_flattened_dict(picked(config, parts, mesh, quiet))
            parts = relearned(config, parts, mesh)
        parts = parts._replace(by_core=by_first(bool, parts.by_core))  # which another host's cores could deny
        by_first(keep_config, workdir, config, accept_changes)
        return _search(config, parts, workdir, quiet)


def picked(config: ConfigDict, parts: Parts, mesh: str, quiet: bool) -> dict[str, Any]:
    """Return what `pick` finds worth taking, and show it."""
    progress = make_progress({}, quiet or not is_first())
    try:
        return pick(config, parts, mesh, progress.note)
    finally:
        progress.close()


def _search(config: ConfigDict, parts: Parts, workdir: str, quiet: bool) -> dict[str, Any]:
    progress = make_progress(passes_of(config), quiet or not is_first())
    progress.note(f"{parts.mesh.size} of {jax.device_count()} devices ({jax.devices()[0].device_kind}) share each step")
    try:
        state, notes = run_units(config, parts, workdir, progress)
        by_first(save_meta_network, workdir, meta_network(config, parts, state))  # which a trial may add to
        bench = open_bench(config, parts, progress)
        seconds, trial = stopwatch(bench.clock), try_search(config, parts, state, bench, progress)
        by_first(save_meta_network, workdir, meta_network(config, parts, state, trial))
        results = report(config, parts, state, notes, progress, workdir, bench, trial, seconds)
    finally:
        progress.close()
    by_first(write_results, workdir, results)
    return results


def test_again(
    workdir: str,
    changes: dict[str, Any],
    *,
    rows: tuple[str, ...] = (),
    asked: Asked = NOTHING,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run the meta-test of a finished search again and rewrite its results.json.

    Args:
        workdir: of the search.
        changes: settings to differ in by their dotted names: protocol.ways, .shots, .queries, .episodes, .seed,
            .rotations, adapt.margin, learner.eval_inner_steps, .tolerance, data.source. The architecture stays the one
            chosen under those of the search.
        rows: of `config.meta_test.rows`, the ones to score; empty for all that the search had.
        asked: what to add to the table; what was added before stays, if it is of the same episodes.
        quiet: show no progress.

    Raises:
        FileNotFoundError: the workdir holds no finished search, or not its last checkpoint.
        ValueError: the changed episodes do not fit the data, the data is not that of the search, or a row of `rows` has
            no network.
    """
    if (results := finished(workdir)) is None:
        raise FileNotFoundError(f"{workdir} holds no finished search; run launch.search with this --workdir first")
    config = stored_config(read_json(os.path.join(workdir, "config.json"), "bring back a copy"))
    config.update_from_flattened_dict(changes)
    config.meta_test.rows = tuple(rows) or config.meta_test.rows
    if "adapt.margin" in changes:
        config.adapt.trials = 0  # what this margin chooses is asked for
    if "conv4" in rows and not config.meta_test.conv4:
        raise ValueError(f"rows has 'conv4', which {workdir} did not train (meta_test.conv4 is False); leave it out")
    with_rows(config, asked)
    check_config(config)
    check_asked(asked, config.protocol.episodes)
    parts = build(config)
    with only_run(workdir), stops_at_once():
        with contextlib.closing(open_checkpoints(workdir, config.log.keep)) as checkpoints:
            found = restore_run(checkpoints, config, parts)
        if found is None:
            raise FileNotFoundError(f"{workdir} holds no checkpoint any more; run launch.search with a new --workdir")
        state, notes = found
        if notes["unit"] <= all_chunks(config) * (1 + config.meta_test.conv4):
            raise ValueError(
                f"{workdir} holds no sound checkpoint of the finished search; remove its results.json and run "
                "launch.search again, which goes on from the one before"
            )
        progress = make_progress({"meta_test": 1.0}, quiet)
        try:
            bench = open_bench(config, parts, progress)
            chooses, seconds = {"adapted", "permuted_architecture"} & set(config.meta_test.rows), stopwatch(bench.clock)
            trial = try_search(config, parts, state, bench, progress) if chooses else None
            again = report(config, parts, state, notes, progress, workdir, bench, trial, seconds, asked)
        finally:
            progress.close()
        if evidence := kept_evidence(results, again):
            again["evidence"] = evidence
        again["versions"] = results["versions"]  # of what was trained
        write_results(workdir, again)
    return again


def meta_network(config: ConfigDict, parts: Parts, state: RunState, trial: Trial | None = None) -> MetaNetwork:
    """Return the outcome of a search: weights and population, the shared best first."""
    return MetaNetwork(
        evaluated(state.meta), ranked_population(state), parts.space, parts.image_shape, parts.normalise, config,
        parts.latency, trial,
    )  # fmt: skip


def finished(workdir: str) -> dict[str, Any] | None:
    """Return the results of a finished run, or None."""
    path = os.path.join(workdir, "results.json")
    if not os.path.exists(path):
        return None
    cure = "remove it, and launch.search writes it again"
    results = read_json(path, cure)
    try:
        check_results(results)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}; {cure}") from error
    return results


def report(
    config: ConfigDict,
    parts: Parts,
    state: RunState,
    notes: dict[str, Any],
    progress: Progress,
    workdir: str,
    bench: Bench,
    trial: Trial | None,
    seconds: Callable[[], float],
    asked: Asked = NOTHING,
) -> dict[str, Any]:
    """Return the results of a searched meta-network: the meta-test, what is asked besides, and what it took.

    `seconds` tells those since the trial began, without compiling. It writes `meta_test.npz` into the workdir, see
    `evidence/shown.py`.
    """
    clock = {"compile_s": 0.0}
    found, taken = meta_test(config, parts, state, progress, bench, trial), seconds()
    write_shown(workdir, config, parts, state, found.chosen, clock)
    evidence = gather(asked, config, parts, state, notes["history"], bench, found, progress)
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
            "meta_test_s": taken,
            "peak_memory_mb": peak_memory_mb(),
        },
        "history": notes["history"],
        **({"trial": trial_to_dict(trial)} if trial else {}),
        **({"evidence": evidence} if evidence else {}),
    }
