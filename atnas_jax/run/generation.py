"""One generation of the search in a run: ask, score on meta_valid episodes, tell, and write down what was found."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.job.budget import FINAL_ROUNDS, architecture_steps, rungs_of
from atnas_jax.job.build import Parts
from atnas_jax.job.compiled import stopwatch
from atnas_jax.job.processes import by_first
from atnas_jax.job.progress import Progress
from atnas_jax.job.state import RunState
from atnas_jax.meta.average import evaluated
from atnas_jax.run.generations import add_generation
from atnas_jax.run.metrics import Metrics
from atnas_jax.run.random_curve import at_random
from atnas_jax.run.steps import Programs
from atnas_jax.space.text import to_text
from atnas_jax.types import Array

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


def spent(notes: dict[str, Any]) -> float:
    """Return the seconds of compiling, training and searching so far, those before a resume included."""
    return sum(notes[name] for name in LEDGER)


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
    params, macs = np.asarray(parts.cost(state.best)).tolist()
    by_first(
        run.metrics.write,
        phase="search",
        seconds=spent(run.notes),
        episodes_per_s=scored / seconds,
        params=params,
        macs=macs,
        **row,
    )
    return state


def by_fitness(run: Run, state: RunState, number: int) -> tuple[RunState, np.ndarray, np.ndarray, int]:
    """Ask, score on fresh meta_valid episodes, tell; the shared best is that of this generation's own scores.

    Returns:
        (state, asked int32 [P,E], scores float32 [P], evaluations).
    """
    size, table, params = run.config.search.episodes, run.parts.dataset.table, evaluated(state.meta)
    asked = run.programs.ask(state.search, np.int32(number), params, table)
    order, rungs = np.arange(len(asked), dtype=np.int32), rungs_of(run.config, size)
    fitness, scored, _ = run.programs.fitness(params, asked, order, rungs, np.int32(number * size), table)
    search = run.programs.tell(state.search, asked, fitness)
    asked, scores = np.asarray(asked), np.asarray(fitness)[:, 0]
    state = state._replace(search=search, best=jnp.asarray(asked[np.argmax(scores)]))
    return state, asked, scores, int(scored)


def by_gradient(run: Run, state: RunState, number: int) -> tuple[RunState, Array, np.ndarray, int]:
    """Spend what `by_fitness` would on gradients of masks over fresh meta_valid episodes; the best is the likeliest.

    Returns:
        (state, its population int32 [P,E], the mean accuracy float32 [1] of the masks, episodes).
    """
    search, right = run.programs.descend(state.search, evaluated(state.meta), np.int32(number), run.parts.dataset.table)
    state = state._replace(search=search, best=jnp.asarray(run.parts.strategy.best(search)))
    spent = architecture_steps(run.config) * run.config.train.tasks
    return state, search.population, np.asarray(right)[None], spent


def rank_again(run: Run, state: RunState) -> Array:
    """Return the best genotype int32 [E] of the last population by meta_valid episodes that nobody has seen yet.

    The best of many noisy scores is a lucky one; fresh episodes, several times as many, correct for that.
    """
    taken, size, population = stopwatch(run.notes), run.config.search.episodes, state.search.population
    table, params = run.parts.dataset.table, evaluated(state.meta)
    order, seen = np.arange(len(population), dtype=np.int32), 0
    right, first = np.zeros(len(population)), run.config.search.generations * size
    rungs = rungs_of(run.config, FINAL_ROUNDS * size)
    for field, last in rungs:
        while seen < last:
            more = min(size, last - seen)
            whole = np.full_like(rungs, (field, more))  # nobody drops out on the way, before the sums are known
            scores, _, _ = run.programs.fitness(params, population, order.copy(), whole, np.int32(first + seen), table)
            right[order[:field]] += more * np.asarray(scores)[order[:field], 0]
            seen += more
        order[:field] = order[:field][np.argsort(-right[order[:field]], kind="stable")]
    run.notes["search_s"] += taken()
    return jnp.asarray(np.asarray(population)[order[0]])
