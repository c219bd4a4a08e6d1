"""The meta-test: the same fixed episodes of unseen classes for every row of the table.

| row                 | architecture                                        | weights                         |
|---------------------|-----------------------------------------------------|---------------------------------|
| adapted             | chosen per episode from its support, warm population | adapted to the support         |
| best                | the shared best genotype                            | adapted to the support          |
| random_architecture | mean over several random genotypes                  | adapted to the support          |
| random_search       | chosen per episode from its support, random draws   | adapted to the support          |
| conv4               | the hand-made one, trained alone                    | adapted to the support          |
| zero_steps          | the shared best genotype                            | head from the support, no inner step |
| no_adaptation       | the shared best genotype                            | nothing has seen the support    |
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.devices import AXIS
from atnas_jax.evaluate import score_each
from atnas_jax.meta.average import evaluated
from atnas_jax.rng import stream
from atnas_jax.run.build import Parts, evaluation_learner, hand_made, normalisations
from atnas_jax.run.choose import choose, chooser, chunks_of, episodes_of
from atnas_jax.run.compiled import compiled, stopwatch
from atnas_jax.run.config import evaluation_steps
from atnas_jax.run.costs import feasibility
from atnas_jax.run.progress import Progress
from atnas_jax.run.results import interval
from atnas_jax.run.state import RunState
from atnas_jax.search.variation import random_feasible
from atnas_jax.space.slots import mask_of
from atnas_jax.types import Array, Params


class Found(NamedTuple):
    """The outcome of a meta-test, in the shapes of results.json."""

    rows: dict[str, dict[str, float]]
    other: dict[str, Any] | None
    normalisation: str
    params: int
    macs: int
    adapt_s_per_task: float
    compile_s: float
    seconds: float
    chosen: dict[str, Array]  # int32 [episodes,E], of the rows that choose for each episode


class Plan(NamedTuple):
    """One row: per episode, which genotypes and weights, and in how many inner steps the weights adapt."""

    genotypes: Array  # int32 [R,episodes,E], averaged over R
    params: Params
    steps: int


def meta_test(config: ConfigDict, parts: Parts, state: RunState, progress: Progress) -> Found:
    """Score the rows of `config.meta_test.rows` on `config.protocol.episodes` episodes of meta_test.

    Architectures are chosen under the protocol's own normalisation; the other mode scores the same architectures and
    the same weights, normalised differently.
    """
    clock = {"compile_s": 0.0}
    seconds = stopwatch(clock)
    names = [name for name in config.meta_test.rows if name != "conv4" or config.meta_test.conv4]
    modes = normalisations(config)
    budget = f"{config.adapt.population * config.adapt.generations} genotypes an episode"
    choice, chosen, taken = compiled(chooser(config, parts), clock, mesh=parts.mesh, note=progress.note), {}, {}
    for name in (name for name in ("adapted", "random_search") if name in names):
        progress.note(f"meta-test: choosing architectures for {name}, {budget}")
        chosen[name], taken[name] = choose(config, parts, state, choice, name == "random_search", clock)
    plans = {name: plan(config, parts, state, name, chosen) for name in names}
    tables, scorers = {}, {}
    for mode, normalisation in modes.items():
        scorer = make_scorer(config, parts, normalisation)
        scorers[mode], tables[mode] = compiled(scorer, clock, mesh=parts.mesh, note=progress.note), {}
        for done, (name, row) in enumerate(plans.items()):
            tables[mode][name] = score_row(config, parts, row, scorers[mode])
            progress.update("meta_test", (len(tables) - 1) * len(plans) + done + 1, len(modes) * len(plans), row=name,
                            accuracy=tables[mode][name]["accuracy"])  # fmt: skip
    own, *others = modes
    cost = parts.cost(state.best)
    return Found(
        rows=tables[own],
        other={"normalisation": others[0], "rows": tables[others[0]]} if others else None,
        normalisation=own,
        params=int(cost[0]),
        macs=int(cost[1]),
        adapt_s_per_task=taken.get("adapted", 0.0) + seconds_per_score(config, parts, state, scorers[own], clock),
        compile_s=clock["compile_s"],
        seconds=seconds(),
        chosen=chosen,
    )


def plan(config: ConfigDict, parts: Parts, state: RunState, name: str, chosen: dict[str, Array]) -> Plan:
    """Return which genotypes and weights a row of the table stands for."""
    episodes, slots, steps = config.protocol.episodes, parts.space.num_slots, evaluation_steps(config)
    weights = evaluated(state.meta)
    if name in chosen:
        return Plan(chosen[name][None], weights, steps)
    if name == "random_architecture":
        feasible = feasibility(config, parts.space, parts.image_shape, parts.latency)
        number = config.meta_test.random_architectures
        rows = random_feasible(stream(config.seed, "random architectures"), parts.space, number, feasible, 64)
        return Plan(jnp.broadcast_to(rows[:, None], (number, episodes, slots)), weights, steps)
    if name == "conv4":
        rows = jnp.broadcast_to(hand_made(parts.space), (1, episodes, slots))
        return Plan(rows, evaluated(state.control), steps)
    rows = jnp.broadcast_to(state.best, (1, episodes, slots))
    params = blind(weights) if name == "no_adaptation" else weights
    return Plan(rows, params, steps if name == "best" else 0)


def blind(params: Params) -> Params:
    """Return meta-parameters whose head does not see the support: at temperature 0 prototypes weigh nothing."""
    head = params["head"]
    return params | {"head": head | dict.fromkeys({"log_temperature"} & head.keys(), jnp.float32(-jnp.inf))}


def make_scorer(config: ConfigDict, parts: Parts, normalisation: str) -> Callable:
    """Return score(params, genotypes [n,E], index [n], inner steps, table) -> accuracy [n]; it serves all rows."""
    ways = config.protocol.ways

    def score(params, genotypes, index, steps, table):
        learner = evaluation_learner(
            config, parts.space, parts.image_shape, ways, normalisation=normalisation, inner_steps=steps
        )
        episodes = episodes_of(config, parts, index, table)
        return score_each(learner, params, mask_of(parts.space, genotypes), episodes, axis=AXIS)[0]

    return score


def score_row(config: ConfigDict, parts: Parts, row: Plan, scorer: Callable) -> dict[str, float]:
    """Return accuracy, its 95 % interval over episodes, and the mean cost of the row's genotypes."""
    episodes, found = config.protocol.episodes, []
    for genotypes in row.genotypes:
        parts_of = []
        for index in chunks_of(episodes):
            rows = genotypes[np.minimum(index, episodes - 1)]
            steps = jnp.asarray(row.steps, jnp.int32)
            parts_of.append(np.asarray(scorer(row.params, rows, jnp.asarray(index), steps, parts.dataset.table)))
        found.append(np.concatenate(parts_of)[:episodes])
    accuracy, ci95 = interval(np.mean(found, 0))
    params, macs = np.asarray(parts.cost(row.genotypes), np.float64).reshape(-1, 2).mean(0)
    return {"accuracy": accuracy, "ci95": ci95, "episodes": episodes, "params": float(params), "macs": float(macs)}


def seconds_per_score(
    config: ConfigDict, parts: Parts, state: RunState, scorer: Callable, clock: dict[str, float]
) -> float:
    """Return the seconds that adapting the weights to an episode and predicting its queries take, without compiling."""
    index = jnp.asarray(chunks_of(config.protocol.episodes)[0])
    genotypes, steps = jnp.broadcast_to(state.best, (len(index), len(state.best))), evaluation_steps(config)
    args = (evaluated(state.meta), genotypes, index, jnp.asarray(steps, jnp.int32), parts.dataset.table)
    seconds = stopwatch(clock)
    jax.block_until_ready(scorer(*args))
    return seconds() / len(index)
