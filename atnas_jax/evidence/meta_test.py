"""The meta-test: the same fixed episodes of unseen classes for every row of the table.

| row                   | architecture                                         | weights                              |
|-----------------------|------------------------------------------------------|--------------------------------------|
| adapted               | chosen per episode from its support, warm population | adapted to the support               |
| best                  | the shared best genotype                             | adapted to the support               |
| permuted_architecture | that which `adapted` chose for another episode       | adapted to the support               |
| random_architecture   | mean over several random genotypes                   | adapted to the support               |
| random_search         | chosen per episode from its support, random draws    | adapted to the support               |
| conv4                 | the hand-made one, trained alone, see `Control`      | adapted to the support               |
| zero_steps            | the shared best genotype                             | head from the support, no inner step |
| no_adaptation         | the shared best genotype                             | nothing has seen the support         |
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.devices import AXIS
from atnas_jax.evaluate import score_each
from atnas_jax.evidence.choose import META_TEST, choose, chooser, chunks_of, episodes_of
from atnas_jax.evidence.rows import Plan, everywhere, plan, same_plan
from atnas_jax.job.build import Parts
from atnas_jax.job.compiled import compiled, stopwatch
from atnas_jax.job.config import evaluation_steps
from atnas_jax.job.learners import evaluation_learner, normalisations
from atnas_jax.job.progress import Progress
from atnas_jax.job.results import interval
from atnas_jax.job.state import RunState
from atnas_jax.job.trial import Trial
from atnas_jax.meta.average import evaluated
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.types import Array


class Found(NamedTuple):
    """The outcome of a meta-test, in the shapes of results.json, and what it was made of."""

    rows: dict[str, dict[str, float]]
    other: dict[str, Any] | None
    normalisation: str
    params: int
    macs: int
    adapt_s_per_task: float
    compile_s: float
    accuracies: dict[str, dict[str, np.ndarray]]  # mode -> row -> float [episodes]
    chosen: dict[str, np.ndarray]  # int32 [episodes,E], of the rows that choose for each episode
    kept: bool  # whether `adapted` keeps the shared best, as a trial showed no gain


class Bench(NamedTuple):
    """The programs of a meta-test, each compiled once for all rows and curves."""

    choice: Callable  # see `chooser`
    scorers: dict[str, Callable]  # "inductive" or "transductive", the protocol's own first -> see `make_scorer`
    control: dict[str, Callable]  # the same for conv4, whose space may be another, see `Control`
    clock: dict[str, float]  # gets the seconds of compilation


def open_bench(config: ConfigDict, parts: Parts, progress: Progress) -> Bench:
    """Return the programs of a meta-test."""
    clock = {"compile_s": 0.0}

    def program(function):
        return compiled(function, clock, mesh=parts.mesh, note=progress.note, by_core=parts.by_core)

    def scorers_of(space):
        return {mode: program(make_scorer(config, parts, space, name)) for mode, name in normalisations(config).items()}

    scorers, own = scorers_of(parts.space), parts.control.space
    return Bench(program(chooser(config, parts)), scorers, scorers if own is parts.space else scorers_of(own), clock)


def meta_test(
    config: ConfigDict,
    parts: Parts,
    state: RunState,
    progress: Progress,
    bench: Bench | None = None,
    trial: Trial | None = None,
) -> Found:
    """Score the rows of `config.meta_test.rows` on `config.protocol.episodes` episodes of meta_test.

    Architectures are chosen under the protocol's own normalisation; the other mode scores the same architectures and
    the same weights, normalised differently. Where a `trial` has shown no gain, `adapted` keeps the shared best.
    """
    bench = bench or open_bench(config, parts, progress)
    names = [name for name in config.meta_test.rows if name != "conv4" or config.meta_test.conv4]
    chosen, taken = choose_rows(config, parts, state, progress, bench, names, trial)
    plans = {name: plan(config, parts, state, name, chosen, bench.clock) for name in names}
    tables, accuracies = {}, {}
    for mode in bench.scorers:
        tables[mode], accuracies[mode], scored = {}, {}, []
        for done, (name, row) in enumerate(plans.items()):
            counted, scorers = (parts.control.cost, bench.control) if name == "conv4" else (parts.cost, bench.scorers)
            known = [values for other, values in scored if same_plan(row, other)]  # as where a trial keeps the best
            each = known[0] if known else accuracies_of_each(config, parts, row, scorers[mode])
            scored.append((row, each))
            values = accuracies[mode][name] = np.mean(each, 0)
            tables[mode][name] = score_of(values) | mean_cost(counted, row.genotypes) | spread(each)
            progress.update("meta_test", (len(tables) - 1) * len(plans) + done + 1, len(bench.scorers) * len(plans),
                            row=name, accuracy=tables[mode][name]["accuracy"])  # fmt: skip
    own, *others = bench.scorers
    cost = np.asarray(parts.cost(state.best))
    return Found(
        rows=tables[own],
        other={"normalisation": others[0], "rows": tables[others[0]]} if others else None,
        normalisation=own,
        params=int(cost[0]),
        macs=int(cost[1]),
        adapt_s_per_task=taken.get("adapted", 0.0) + seconds_per_score(config, parts, state, bench),
        compile_s=bench.clock["compile_s"],
        accuracies=accuracies,
        chosen=chosen,
        kept=keeps(config, trial),
    )


def choose_rows(
    config: ConfigDict,
    parts: Parts,
    state: RunState,
    progress: Progress,
    bench: Bench,
    names: list[str],
    trial: Trial | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return the genotypes int32 [episodes,E] and the seconds an episode of the choices that the rows `names` need."""
    budget = f"{config.adapt.population * config.adapt.generations} genotypes an episode"
    needed = {"adapted": ("adapted", "permuted_architecture"), "random_search": ("random_search",)}
    chosen, taken = {}, {}
    for name in (name for name, users in needed.items() if set(users) & set(names)):
        if name == "adapted" and keeps(config, trial):
            chosen[name], taken[name] = everywhere(config, state.best)[0], 0.0
            continue
        progress.note(f"meta-test: choosing architectures for {name}, {budget}")
        at_random = name == "random_search"
        chosen[name], taken[name] = choose(config, parts, state, bench.choice, at_random, bench.clock)
    return chosen, taken


def keeps(config: ConfigDict, trial: Trial | None) -> bool:
    """Return whether the episodes of the protocol keep the shared best, by a trial of such episodes."""
    return trial is not None and trial.keeps(config.protocol.shots)


def make_scorer(config: ConfigDict, parts: Parts, space: SearchSpace, normalisation: str) -> Callable:
    """Return score(params, genotypes [n,E], index [n], inner steps, table, valid) -> accuracy [n], of all of a space.

    Args:
        config, parts: of the run.
        space: of the genotypes.
        normalisation: one of `NORMALISATIONS`.

    Of `score`, `valid` says whether the episodes are of meta_valid, see `episodes_of`.
    """
    ways = config.protocol.ways

    def score(params, genotypes, index, steps, table, valid=False):
        learner = evaluation_learner(
            config, space, parts.image_shape, ways, normalisation=normalisation, inner_steps=steps
        )
        episodes = episodes_of(config, parts, index, table, valid)
        return score_each(learner, params, mask_of(space, genotypes), episodes, axis=AXIS)[0]

    return score


def accuracies_of(
    config: ConfigDict, parts: Parts, row: Plan, scorer: Callable, episodes: int | None = None
) -> np.ndarray:
    """Return the accuracy float [episodes] of a row, the mean over its genotypes; arguments of `accuracies_of_each`."""
    return np.mean(accuracies_of_each(config, parts, row, scorer, episodes), 0)


def accuracies_of_each(
    config: ConfigDict, parts: Parts, row: Plan, scorer: Callable, episodes: int | None = None
) -> list[np.ndarray]:
    """Return R accuracies float [episodes] of a row on the first fixed episodes, all of them by default.

    They come in the chunks of all, whatever their number, so that one compiled scorer serves every call.
    """
    whole, found = config.protocol.episodes, []
    episodes = whole if episodes is None else min(episodes, whole)
    steps = jnp.asarray(row.steps, jnp.int32)
    for genotypes in row.genotypes:
        parts_of = []
        for index in (chunk for chunk in chunks_of(whole) if chunk[0] < episodes):
            rows = genotypes[np.minimum(index, whole - 1)]
            given = (row.params, rows, jnp.asarray(index), steps, parts.dataset.table, META_TEST)
            parts_of.append(np.asarray(scorer(*given)))
        found.append(np.concatenate(parts_of)[:episodes])
    return found


def spread(accuracies: list[np.ndarray]) -> dict[str, float]:
    """Return the standard deviation (n - 1) of the accuracies [episodes] of several genotypes, nothing of one alone.

    The interval of their mean is over episodes, for these genotypes; this says how much others would differ.
    """
    means = [float(values.mean()) for values in accuracies]
    return {"architecture_sd": float(np.std(means, ddof=1))} if len(means) > 1 else {}


def score_of(accuracies: np.ndarray) -> dict[str, float]:
    """Return the accuracy of a row, its 95 % interval over episodes and their number."""
    accuracy, ci95 = interval(accuracies)
    return {"accuracy": accuracy, "ci95": ci95, "episodes": len(accuracies)}


def mean_cost(cost: Callable[[Array], Array], genotypes: Array) -> dict[str, float]:
    """Return the mean parameters and multiply-adds of genotypes int32 [...,E], which `cost` counts."""
    params, macs = np.asarray(cost(jnp.asarray(genotypes)), np.float64).reshape(-1, 2).mean(0)
    return {"params": float(params), "macs": float(macs)}


def seconds_per_score(config: ConfigDict, parts: Parts, state: RunState, bench: Bench) -> float:
    """Return the seconds that adapting the weights to an episode and predicting its queries take, without compiling."""
    index = jnp.asarray(chunks_of(config.protocol.episodes)[0])
    genotypes, steps = np.tile(state.best, (len(index), 1)), evaluation_steps(config)
    args = (evaluated(state.meta), genotypes, index, jnp.asarray(steps, jnp.int32), parts.dataset.table, META_TEST)
    seconds = stopwatch(bench.clock)
    jax.block_until_ready(next(iter(bench.scorers.values()))(*args))
    return seconds() / len(index)
