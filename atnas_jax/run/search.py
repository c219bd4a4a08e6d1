"""The main job: meta-train a supernet over tasks while a population of genotypes evolves on it (DESIGN section 6).

A run is a row of units: every unit is one chunk of outer steps and the generations that fall due after it; the units
of the control, the hand-made network trained alone by the same recipe, follow. A checkpoint is taken between units, so
that a killed run goes on where it was and, keys being made from step numbers, ends as if nothing had happened.
"""

import json
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.rng import stream
from atnas_jax.run.build import Parts, build, evaluation_learner, hand_made
from atnas_jax.run.checkpoint import open_checkpoints, restore_latest, save
from atnas_jax.run.config import check_config
from atnas_jax.run.meta_test import meta_test
from atnas_jax.run.metrics import Metrics, open_metrics
from atnas_jax.run.progress import Progress, make_progress
from atnas_jax.run.results import SCHEMA, check_results, peak_memory_mb, versions, write_results
from atnas_jax.run.state import RunState, init_state, keep_config
from atnas_jax.run.steps import Programs, compile_programs
from atnas_jax.space.text import space_to_dict, to_text

FINAL_ROUNDS = 4  # batches of meta_valid episodes that rank the last population again
LEDGER = ("compile_s", "meta_train_s", "search_s", "control_s", "elapsed_s")


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
    parts = build(config)
    keep_config(workdir, config)
    if (done := finished(workdir)) is not None:
        return done
    chunks = config.train.steps // min(config.train.chunk, config.train.steps)
    weights = {"meta_train": chunks, "control": chunks * config.meta_test.conv4, "meta_test": chunks / 2}
    progress = make_progress({name: weight for name, weight in weights.items() if weight}, quiet)
    try:
        state, notes = run_units(config, parts, workdir, progress)
        results = report(config, parts, state, notes, progress)
    finally:
        progress.close()
    write_results(workdir, results)
    return results


def finished(workdir: str) -> dict[str, Any] | None:
    """Return the results of a finished run, or None."""
    path = os.path.join(workdir, "results.json")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    check_results(results)
    return results


def run_units(config: ConfigDict, parts: Parts, workdir: str, progress: Progress) -> tuple[RunState, dict[str, Any]]:
    """Run all units that a checkpoint does not hold already; returns the last state and the notes (ledger, history)."""
    chunk = min(config.train.chunk, config.train.steps)
    chunks = config.train.steps // chunk
    units = chunks * (1 + config.meta_test.conv4)
    state, notes = init_state(config.seed, parts), {"history": [], **dict.fromkeys(LEDGER, 0.0)}
    checkpoints, done = open_checkpoints(workdir, config.log.keep), 0
    if (found := restore_latest(checkpoints, state)) is not None:
        (state, notes), done = found, found[1]["unit"]
        progress.note(f"goes on after {done} of {units} units")
    metrics = open_metrics(workdir, done * chunk if done else None)
    if done <= units:
        scorer = evaluation_learner(config, parts.space, parts.image_shape, config.protocol.ways)
        programs = compile_programs(config, parts, state, scorer)
        notes["compile_s"] += programs.compile_s
    saved = began = time.monotonic()
    for unit in range(done, units + 1):
        if unit == units:
            state = state._replace(best=rank_again(config, programs, parts, state))
        elif unit < chunks:
            state = search_unit(config, parts, programs, state, notes, unit, metrics, progress)
        else:
            state = control_unit(config, parts, programs, state, notes, unit - chunks, metrics, progress)
        now = time.monotonic()
        if unit == units or now - saved > 60 * config.log.checkpoint_minutes:
            saved, elapsed = now, notes["elapsed_s"] + now - began
            save(checkpoints, unit + 1, state, {**notes, "elapsed_s": elapsed, "unit": unit + 1})
    metrics.close()
    checkpoints.close()
    return state, notes


def search_unit(
    config: ConfigDict,
    parts: Parts,
    programs: Programs,
    state: RunState,
    notes: dict[str, Any],
    unit: int,
    metrics: Metrics,
    progress: Progress,
) -> RunState:
    """Train the supernet for one chunk on masks of the sampler, then hold the generations that are due."""
    due = generations_due(config)
    step = unit * min(config.train.chunk, config.train.steps)
    share = config.search.population_share if len(notes["history"]) else 0.0
    began = time.perf_counter()
    genotypes = programs.draw(state.search, jnp.int32(step), jnp.float32(share))
    meta, found = programs.train(state.meta, genotypes, parts.dataset.table)
    found = {name: float(value) for name, value in found.items()}
    seconds = time.perf_counter() - began
    notes["meta_train_s"] += seconds
    state, step = state._replace(meta=meta), int(meta.step)
    speed = genotypes.shape[0] * genotypes.shape[1] / seconds
    metrics.write(
        step=step, phase="meta_train", generation=len(notes["history"]), loss=found["loss"],
        accuracy=found["accuracy"], grad_norm=found["gradient_norm"], episodes_per_s=speed,
    )  # fmt: skip
    for _ in range(due.count(unit)):
        state = generation(config, parts, programs, state, notes, step, metrics)
    shown = {"generation": len(notes["history"])} if notes["history"] else {}
    progress.update(
        "meta_train", step, config.train.steps, loss=found["loss"], accuracy=found["accuracy"], episodes_per_s=speed,
        **shown, best=to_text(parts.space, np.asarray(state.best)),
    )  # fmt: skip
    return state


def generations_due(config: ConfigDict) -> list[int]:
    """Return, per generation, the unit after which it is held: evenly after the warm-up, the last at the very end."""
    chunks = config.train.steps // min(config.train.chunk, config.train.steps)
    warm = int(config.train.warmup * chunks)
    return [warm + (chunks - warm) * (g + 1) // config.search.generations - 1 for g in range(config.search.generations)]


def generation(
    config: ConfigDict,
    parts: Parts,
    programs: Programs,
    state: RunState,
    notes: dict[str, Any],
    step: int,
    metrics: Metrics,
) -> RunState:
    """Ask, score on fresh meta_valid episodes, tell; the shared best is that of this generation's own scores."""
    began, number = time.perf_counter(), len(notes["history"])
    asked = parts.strategy.ask(stream(config.seed, "ask", number), state.search)
    first = jnp.int32(number * config.search.episodes)
    fitness, accuracy = programs.fitness(state.meta.params, asked, first, parts.dataset.table)
    search = parts.strategy.tell(state.search, asked, fitness)
    best = asked[int(jnp.argmax(fitness[:, 0]))]
    seconds = time.perf_counter() - began
    notes["search_s"] += seconds
    scores, text = np.asarray(fitness[:, 0]), to_text(parts.space, np.asarray(best))
    row = {"best_fitness": float(scores.max()), "mean_fitness": float(scores.mean()), "best_genotype": text}
    notes["history"].append({"generation": number + 1, "step": step, **row})
    metrics.write(
        step=step, phase="search", generation=number + 1, **row, episodes_per_s=accuracy.size / seconds
    )  # fmt: skip
    return state._replace(search=search, best=best)


def rank_again(config: ConfigDict, programs: Programs, parts: Parts, state: RunState) -> jax.Array:
    """Return the best genotype int32 [E] of the last population by meta_valid episodes that nobody has seen yet.

    The best of many noisy scores is a lucky one; fresh episodes, several times as many, correct for that.
    """
    first = config.search.generations * config.search.episodes
    rounds = [
        programs.fitness(
            state.meta.params, state.search.population, jnp.int32(first + r * config.search.episodes), parts.dataset.table
        )[0][:, 0]
        for r in range(FINAL_ROUNDS)
    ]
    return state.search.population[int(jnp.argmax(sum(rounds)))]


def control_unit(
    config: ConfigDict,
    parts: Parts,
    programs: Programs,
    state: RunState,
    notes: dict[str, Any],
    unit: int,
    metrics: Metrics,
    progress: Progress,
) -> RunState:
    """Train the hand-made network for one chunk: the same program, recipe and episodes under one mask."""
    chunk, tasks = min(config.train.chunk, config.train.steps), config.train.tasks
    genotypes = jnp.broadcast_to(hand_made(parts.space), (chunk, tasks, parts.space.num_slots))
    began = time.perf_counter()
    control, found = programs.train(state.control, genotypes, parts.dataset.table)
    found = {name: float(value) for name, value in found.items()}
    seconds = time.perf_counter() - began
    notes["control_s"] += seconds
    metrics.write(
        step=config.train.steps + int(control.step), phase="control", loss=found["loss"], accuracy=found["accuracy"],
        grad_norm=found["gradient_norm"], episodes_per_s=chunk * tasks / seconds,
    )  # fmt: skip
    progress.update(
        "control", int(control.step), config.train.steps, loss=found["loss"], accuracy=found["accuracy"],
        episodes_per_s=chunk * tasks / seconds,
    )  # fmt: skip
    return state._replace(control=control)


def report(
    config: ConfigDict, parts: Parts, state: RunState, notes: dict[str, Any], progress: Progress
) -> dict[str, Any]:
    """Return the results of a searched meta-network: the meta-test and what it took."""
    found = meta_test(config, parts, state, progress)
    data, test = parts.dataset, config.protocol
    steps = config.learner.eval_inner_steps if config.learner.eval_inner_steps >= 0 else config.learner.inner_steps
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
            "inner_steps": steps,
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
            "compile_s": notes["compile_s"] + found.compile_s,
            "adapt_s_per_task": found.adapt_s_per_task,
            "meta_test_s": found.seconds,
            "peak_memory_mb": peak_memory_mb(),
        },
        "history": notes["history"],
    }
