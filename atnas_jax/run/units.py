"""The units of a run: one chunk of outer steps each, and the generations that fall due after it.

First come the units of the supernet, then those of the control, the hand-made network trained alone by the same recipe,
last the choice of the shared best. A checkpoint is taken between units, so a killed run goes on where it was and, keys
being made from step numbers, ends as if nothing had happened.
"""

import contextlib
import time
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.meta.average import evaluated
from atnas_jax.race import part_of
from atnas_jax.run.budget import architecture_steps, rungs_of
from atnas_jax.run.build import Parts, evaluation_learner, hand_made
from atnas_jax.run.checkpoint import finish, open_checkpoints, save
from atnas_jax.run.compiled import stopwatch
from atnas_jax.run.config import chunk_of
from atnas_jax.run.faults import check_nonfinite, count_nonfinite, too_many
from atnas_jax.run.files import warn
from atnas_jax.run.generations import add_generation, keep_generations
from atnas_jax.run.metrics import Metrics, has_metrics, open_metrics
from atnas_jax.run.outer import outer_schedule
from atnas_jax.run.preemption import GOES_ON, Stopped, finishes_first
from atnas_jax.run.processes import anywhere, by_first, first_only, is_first
from atnas_jax.run.progress import Progress
from atnas_jax.run.random_curve import at_random
from atnas_jax.run.state import RunState, init_state, restore_run
from atnas_jax.run.steps import Programs, make_programs
from atnas_jax.run.tensorboard import with_tensorboard
from atnas_jax.space.slots import mask_of
from atnas_jax.space.text import to_text
from atnas_jax.types import Array, MetaState

FINAL_ROUNDS = 4  # batches of meta_valid episodes that rank the last population again
LEDGER = ("compile_s", "meta_train_s", "search_s", "control_s")


class Run(NamedTuple):
    """What all units share; `notes` (ledger and history) is the one thing that is written to."""

    workdir: str
    config: ConfigDict
    parts: Parts
    programs: Programs
    metrics: Metrics
    progress: Progress
    notes: dict[str, Any]


def generations_due(config: ConfigDict) -> list[int]:
    """Return, per generation, the unit after which it is held: evenly after the warm-up, the last at the very end."""
    chunks, number = config.train.steps // chunk_of(config), config.search.generations
    warm = int(config.train.warmup * chunks)
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
    chunks = config.train.steps // chunk_of(config)
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
            if unit == units:
                state = state._replace(best=rank_again(run, state))
            else:
                state = search_unit(run, state, unit) if unit < chunks else control_unit(run, state)
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
    """Train the supernet for one chunk on masks of the sampler, then hold the generations that are due."""
    config, held = run.config, run.notes["history"]
    share = config.search.population_share if held else 0.0
    anchored = config.search.anchor == "always" or not held
    masks = run.programs.draw(state.search, state.meta.step, jnp.float32(share), jnp.asarray(anchored))
    state = state._replace(meta=train(run, state.meta, masks, "meta_train", "meta_train_s", to_best(run, state)))
    for _ in range(generations_due(config).count(unit)):
        state = generation(run, state)
    return state


def control_unit(run: Run, state: RunState) -> RunState:
    """Train the hand-made network for one chunk: the same recipe and episodes under one mask, and no teacher."""
    mask = mask_of(run.parts.space, hand_made(run.parts.space))
    masks = jnp.broadcast_to(mask, (chunk_of(run.config), run.config.train.tasks, *mask.shape))
    return state._replace(control=train(run, state.control, masks, "control", "control_s", {}))


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
    rate = float(outer_schedule(run.config)(step - 1))
    run.metrics.write(
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


def spent(notes: dict[str, Any]) -> float:
    """Return the seconds of compiling, training and searching so far, those before a resume included."""
    return sum(notes[name] for name in LEDGER)


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


def generation(run: Run, state: RunState) -> RunState:
    """Hold one generation of the search and tell it.

    Raises:
        ValueError: all genotypes are beyond the limits of the config.
    """
    parts, number, taken = run.parts, len(run.notes["history"]), stopwatch(run.notes)
    state, asked, scores, scored = (by_fitness if parts.strategy.relax is None else by_gradient)(run, state, number)
    if not np.isfinite(scores).any():
        raise ValueError(
            f"no genotype of generation {number + 1} keeps search.max_params, max_macs and max_latency_ms; raise them"
        )
    seconds = taken()
    run.notes["search_s"] += seconds
    row = {
        "generation": number + 1,
        "step": int(state.meta.step),
        "best_fitness": float(scores.max()),
        "mean_fitness": float(scores[np.isfinite(scores)].mean()),
        "best_genotype": to_text(parts.space, np.asarray(state.best)),
    }
    run.notes["history"].append(row)
    fitness = scores if parts.strategy.relax is None else None
    control = at_random(run.config, run.programs, run.workdir, state, number, parts.dataset.table, run.notes)
    by_first(add_generation, run.workdir, number + 1, row["step"], asked, fitness, parts.cost(asked), control)
    params, macs = (int(cost) for cost in parts.cost(state.best))
    run.metrics.write(
        phase="search",
        seconds=spent(run.notes),
        episodes_per_s=scored / seconds,
        params=params,
        macs=macs,
        **row,
    )
    return state


def by_fitness(run: Run, state: RunState, number: int) -> tuple[RunState, Array, np.ndarray, int]:
    """Ask, score on fresh meta_valid episodes, tell; the shared best is that of this generation's own scores.

    Returns:
        (state, asked int32 [P,E], scores float32 [P], evaluations).
    """
    size, table, params = run.config.search.episodes, run.parts.dataset.table, evaluated(state.meta)
    asked = run.programs.ask(state.search, jnp.int32(number), params, table)
    order, rungs = jnp.arange(len(asked)), rungs_of(run.config, size)
    fitness, scored, _ = run.programs.fitness(params, asked, order, rungs, jnp.int32(number * size), table)
    search = run.programs.tell(state.search, asked, fitness)
    state = state._replace(search=search, best=asked[jnp.argmax(fitness[:, 0])])
    return state, asked, np.asarray(fitness[:, 0]), int(scored)


def by_gradient(run: Run, state: RunState, number: int) -> tuple[RunState, Array, np.ndarray, int]:
    """Spend what `by_fitness` would on gradients of masks over fresh meta_valid episodes; the best is the likeliest.

    Returns:
        (state, its population int32 [P,E], the mean accuracy float32 [1] of the masks, episodes).
    """
    search, right = run.programs.descend(
        state.search, evaluated(state.meta), jnp.int32(number), run.parts.dataset.table
    )
    state = state._replace(search=search, best=jnp.asarray(run.parts.strategy.best(search)))
    spent = architecture_steps(run.config) * run.config.train.tasks
    return state, search.population, np.asarray(right)[None], spent


def rank_again(run: Run, state: RunState) -> Array:
    """Return the best genotype int32 [E] of the last population by meta_valid episodes that nobody has seen yet.

    The best of many noisy scores is a lucky one; fresh episodes, several times as many, correct for that.
    """
    taken, settings, population = stopwatch(run.notes), run.config.search, state.search.population
    size, table, params = settings.episodes, run.parts.dataset.table, evaluated(state.meta)
    order, rungs = jnp.arange(len(population)), rungs_of(run.config, FINAL_ROUNDS * size)
    total = jnp.zeros(len(population))
    for number in range(FINAL_ROUNDS):
        first = jnp.int32((settings.generations + number) * size)
        now = part_of(rungs, number * size, (number + 1) * size)
        scores, _, order = run.programs.fitness(params, population, order, now, first, table)
        # Those that saw all of this round were in all before, so their totals are over the same episodes.
        field = int(now[np.argmax(now[:, 1] == size), 0])
        total = jnp.where(jnp.isin(jnp.arange(len(total)), order[:field]), total + scores[:, 0], -jnp.inf)
        order = jnp.argsort(-total, stable=True)
    run.notes["search_s"] += taken()
    return population[order[0]]
