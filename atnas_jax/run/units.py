"""The units of a run: one chunk of outer steps each, and the generations that fall due after it.

First come the units of the supernet, then those of the control, the hand-made network trained alone by the same recipe.
The shared best is chosen last of all, or before the finish, in which it trains alone. A checkpoint is taken between
units, so a killed run goes on where it was and, keys being made from step numbers, ends as if nothing had happened.
"""

import contextlib
import time
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from atnas_jax.job.budget import all_chunks, searching
from atnas_jax.job.build import Parts
from atnas_jax.job.checkpoint import finish, open_checkpoints, save
from atnas_jax.job.command import keep_command
from atnas_jax.job.compiled import stopwatch
from atnas_jax.job.config import chunk_of
from atnas_jax.job.faults import check_nonfinite, count_nonfinite, too_many
from atnas_jax.job.files import warn
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.processes import anywhere, by_first, first_only, is_first
from atnas_jax.job.progress import Progress
from atnas_jax.job.spaces import hand_made
from atnas_jax.job.state import RunState, init_state, restore_run
from atnas_jax.run.generation import LEDGER, Run, generation, rank_again, spent
from atnas_jax.run.generations import keep_generations
from atnas_jax.run.metrics import has_metrics, open_metrics
from atnas_jax.run.preemption import GOES_ON, Stopped, finishes_first
from atnas_jax.run.steps import make_programs
from atnas_jax.run.tensorboard import with_tensorboard
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.space.text import to_text
from atnas_jax.types import Array, MetaState


def generations_due(config: ConfigDict) -> list[int]:
    """Return, per generation, the unit after which it is held: evenly after the warm-up, the last before the finish."""
    chunks, number = searching(config), config.search.generations
    warm = int(config.train.warmup * all_chunks(config))
    return [max(warm + (chunks - warm) * (g + 1) // number - 1, 0) for g in range(number)]


def run_units(config: ConfigDict, parts: Parts, workdir: str, progress: Progress) -> tuple[RunState, dict[str, Any]]:
    """Run all units that no checkpoint holds yet; returns the last state and the notes: ledger, history, fingerprint.

    Raises:
        ValueError: the workdir holds checkpoints of other data, or none that is sound.
        Fault: a checkpoint cannot be written, or too many outer steps in a row were not finite.
        Stopped: a signal arrived; the last state is saved.
    """
    with contextlib.closing(first_only(lambda: open_checkpoints(workdir, config.log.keep))) as checkpoints:
        return _run_units(config, parts, workdir, progress, checkpoints)


def _run_units(config, parts, workdir, progress, checkpoints) -> tuple[RunState, dict[str, Any]]:
    chunks = all_chunks(config)
    units = chunks * (1 + config.meta_test.conv4)
    if (found := restore_run(checkpoints, config, parts)) is not None:
        (state, notes), done = found, found[1]["unit"]
        notes["nonfinite_most"] = 0  # what stopped the run is over, unless the next step is not finite either
        progress.note(f"goes on after {min(done, units)} of {units} units")
    else:
        state, done = init_state(config, parts), 0
        notes = {"fingerprint": parts.dataset.fingerprint, "history": [], **dict.fromkeys(LEDGER, 0.0)}
        if has_metrics(workdir):
            warn(f"{workdir} has metrics but no checkpoint, as if a run had ended before its first; beginning anew")
    by_first(keep_command, workdir)  # of a run whose checkpoints can be read
    if done > units:
        return state, notes
    resumed = done * chunk_of(config) if done else None
    metrics = first_only(lambda: open_metrics(workdir, resumed))
    if config.log.tensorboard and is_first():
        metrics = with_tensorboard(metrics, workdir, resumed)
    by_first(keep_generations, workdir, len(notes["history"]))
    scorer = evaluation_learner(config, parts.space, parts.image_shape, config.protocol.ways)
    programs = make_programs(config, parts, scorer, notes, progress.note)
    run, saved = Run(workdir, config, parts, programs, metrics, progress, notes), time.monotonic()
    limit = config.train.nonfinite_limit
    with contextlib.closing(metrics), finishes_first() as asked:
        for unit in range(done, units + 1):
            if unit < units:
                state = search_unit(run, state, unit) if unit < chunks else control_unit(run, state)
            elif searching(config) == chunks:
                state = state._replace(best=rank_again(run, state))
            stop = anywhere(bool(asked()) or too_many(notes, limit))
            late = time.monotonic() - saved > 60 * config.log.checkpoint_minutes
            if anywhere(unit == units or stop or late):
                score = notes["history"][-1]["best_fitness"] if notes["history"] else None
                by_first(save, checkpoints, unit + 1, state, notes | {"unit": unit + 1}, score)
                saved = time.monotonic()
            if stop:
                by_first(finish, checkpoints)
                check_nonfinite(notes, limit)
                who = asked() or "a signal to another process"
                raise Stopped(f"stopped by {who}, {min(unit + 1, units)} of {units} units saved; {GOES_ON}")
        by_first(finish, checkpoints)
    return state, notes


def search_unit(run: Run, state: RunState, unit: int) -> RunState:
    """Train the supernet for one chunk, then hold the generations that are due.

    The masks are the sampler's, in the finish those of the shared best, which is chosen for good before it.
    """
    config, held = run.config, run.notes["history"]
    if unit < searching(config):
        share = config.search.population_share if held else 0.0
        anchored = config.search.anchor == "always" or not held
        masks = run.programs.draw(state.search, state.meta.step, np.float32(share), np.bool_(anchored))
    else:
        masks = alone(run, run.parts.space, state.best)
    state = state._replace(meta=train(run, state.meta, masks, "meta_train", "meta_train_s", to_best(run, state)))
    for _ in range(generations_due(config).count(unit)):
        state = generation(run, state)
    if unit + 1 == searching(config) < all_chunks(config):
        state = state._replace(best=rank_again(run, state))
    return state


def control_unit(run: Run, state: RunState) -> RunState:
    """Train the hand-made network for one chunk: the same recipe and episodes under one mask, and no teacher."""
    own = run.parts.control.space
    masks = alone(run, own, hand_made(own))
    return state._replace(control=train(run, state.control, masks, "control", "control_s", {}))


def alone(run: Run, space: SearchSpace, genotype: Array) -> np.ndarray:
    """Return masks [chunk,T,E,O] that are all of one genotype int32 [E] of a space."""
    mask = np.asarray(mask_of(space, genotype))
    return np.broadcast_to(mask, (chunk_of(run.config), run.config.train.tasks, *mask.shape))


def train(run: Run, meta: MetaState, masks: Array, phase: str, ledger: str, shown: dict[str, str]) -> MetaState:
    """Take one chunk of outer steps on masks [chunk,T,E,O], and tell it."""
    taken, steps = stopwatch(run.notes), run.config.train.steps
    program = run.programs.train if phase == "meta_train" else run.programs.control
    meta, found = program(meta, masks, run.parts.dataset.table)
    skipped = count_nonfinite(run.notes, np.asarray(found.pop("skipped")).tolist())
    found, step = {name: float(value) for name, value in found.items()}, int(meta.step)
    seconds = taken()
    run.notes[ledger] += seconds
    values = {
        "loss": found["loss"],
        "accuracy": found["accuracy"],
        "episodes_per_s": masks.shape[0] * masks.shape[1] / seconds,
    }
    rate = float(run.programs.rate(np.int32(step - 1)))
    by_first(
        run.metrics.write,
        step=step if phase == "meta_train" else steps + step,
        phase=phase,
        generation=len(run.notes["history"]),
        seconds=spent(run.notes),
        grad_norm=found["gradient_norm"],
        learning_rate=rate,
        skipped=skipped,
        **values,
    )
    if skipped:
        run.progress.note(f"{phase}: {skipped} of {masks.shape[0]} updates were not finite and are skipped")
    run.progress.update(phase, step, steps, **values, **shown)
    return meta


def to_best(run: Run, state: RunState) -> dict[str, str]:
    """Return what progress shows of the search so far."""
    held = len(run.notes["history"])
    return (
        {
            "generation": f"{held}/{run.config.search.generations}",
            "best": to_text(run.parts.space, np.asarray(state.best)),
        }
        if held
        else {}
    )
