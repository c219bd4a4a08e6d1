"""How a run computes, by a short measurement at its first start: which of a few settings is fastest on this machine."""

import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from atnas_jax.job.budget import rungs_of
from atnas_jax.job.build import build, evaluation_learner
from atnas_jax.job.config import check_config, chunk_of, stored_config
from atnas_jax.job.faults import Fault
from atnas_jax.job.files import read_json
from atnas_jax.job.processes import by_first
from atnas_jax.job.state import flat_settings, init_state
from atnas_jax.meta.average import evaluated
from atnas_jax.run.steps import make_programs

PICKED = ("net.conv", "train.task_batch", "search.batch")
BATCHES = (1, 4, 16)  # pairs of genotype and episode
ROUNDS = 2


def recalled(config: ConfigDict, workdir: str) -> dict[str, Any]:
    """Return what the run in a workdir has picked, by the dotted names of `PICKED`; empty if it has not begun."""
    path = os.path.join(workdir, "config.json")
    if not config.measure or not os.path.exists(path):
        return {}
    kept = flat_settings(stored_config(read_json(path, "type another --workdir, or bring back a copy")).to_dict())
    return {name: kept[name] for name in PICKED}


def alternatives(config: ConfigDict) -> dict[str, list[Any]]:
    """Return, by the names of `PICKED`, the values that are measured, that of the config first.

    Nothing that rounds more than the config does is among them, and batches only where masks that are batched do not
    run every branch.
    """
    folded, settings = config.net.execution == "folded", flat_settings(config.to_dict())
    others = {
        "net.conv": ("auto",),
        "train.task_batch": (1, config.train.tasks) if folded else (),
        "search.batch": BATCHES if folded else (),
    }
    return {name: list(dict.fromkeys((settings[name], *others[name]))) for name in PICKED}


def pick(config: ConfigDict, mesh: str, note: Callable[[str], None]) -> dict[str, Any]:
    """Measure one setting of `PICKED` after the other, and return the fastest values by their names.

    Of `search.batch` a generation is timed, of the others a chunk of training, each `ROUNDS` times in turns. A value
    that does not compile, or not fit, is passed over. With several processes the first one's clock decides.

    Args:
        config: of the run.
        mesh: see `build`.
        note: is told what each value took.

    Raises:
        ValueError, Fault: the config's own values do not run.
    """
    chosen: dict[str, Any] = {}
    for name, values in alternatives(config).items():
        if len(values) < 2:
            continue
        note(f"{name}: measures {', '.join(map(repr, values))}, each of which is compiled")
        runs = {}
        for value in values:
            try:
                runs[value] = _ready(_with(config, chosen | {name: value}), mesh, name)
            except (ValueError, Fault) as problem:
                if value == values[0]:
                    raise
                note(f"{name} {value!r} is passed over: {problem}")
        taken = _least_seconds(runs)
        best = by_first(min, list(taken), key=taken.__getitem__)
        what = "a generation" if name == "search.batch" else f"{chunk_of(config)} outer steps"
        times = ", ".join(f"{seconds:.3g} s with {value!r}" for value, seconds in taken.items())
        note(f"{name}: {what} in {times}; takes {best!r}")
        chosen[name] = best
    return chosen


def _with(config: ConfigDict, changes: dict[str, Any]) -> ConfigDict:
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    check_config(config)
    return config


def _least_seconds(runs: dict[Any, Callable[[], Any]]) -> dict[Any, float]:
    taken = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for value, run in runs.items():
            began = time.perf_counter()
            jax.block_until_ready(run())
            taken[value] = min(taken[value], time.perf_counter() - began)
    return taken


def _ready(config: ConfigDict, mesh: str, name: str) -> Callable[[], Any]:
    """Return a call that does what the setting `name` changes; it has been called once, so all is compiled."""
    parts = build(config, mesh)
    scorer = evaluation_learner(config, parts.space, parts.image_shape, config.protocol.ways)
    programs, state = make_programs(config, parts, scorer, {"compile_s": 0.0}), init_state(config, parts)
    table, size = parts.dataset.table, config.search.episodes

    def generation():
        population = state.search.population
        order, rungs = jnp.arange(len(population)), rungs_of(config, size)
        return programs.fitness(evaluated(state.meta), population, order, rungs, jnp.int32(0), table)

    def chunk():
        nonlocal state
        masks = programs.draw(state.search, jnp.int32(0), jnp.float32(0.0), jnp.asarray(False))
        state = state._replace(meta=programs.train(state.meta, masks, table)[0])  # which donates it
        return state.meta

    run = generation if name == "search.batch" else chunk
    run()
    return run
