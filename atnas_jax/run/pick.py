"""How a run computes, by a short measurement at its first start: which of a few settings is fastest on this machine."""

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.devices import mesh_for
from atnas_jax.job.budget import rows_of, rungs_of
from atnas_jax.job.build import Parts, relearned
from atnas_jax.job.config import chunk_of, stored_config
from atnas_jax.job.faults import Fault
from atnas_jax.job.files import read_json
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.processes import by_first, together
from atnas_jax.job.state import RunState, flat_settings, init_state
from atnas_jax.job.turns import in_rounds
from atnas_jax.meta.average import evaluated
from atnas_jax.meta.inner import recomputes
from atnas_jax.meta.learners import LEARNERS
from atnas_jax.run.steps import make_programs

PICKED = ("net.conv", "train.remat", "train.task_batch", "devices", "search.batch")
BATCHES = (1, 4, 16)  # pairs of genotype and episode
ROUNDS = 2
WORTH = 0.95  # another value is taken where it needs less than so much of the time of the config's own


def recalled(config: ConfigDict, workdir: str) -> dict[str, Any] | None:
    """Return what the run in a workdir has picked, by the dotted names of `PICKED`; None if it has not begun.

    A value that the config could not have led to is left out, so that `keep_config` says what differs.
    """
    path = os.path.join(workdir, "config.json")
    if not os.path.exists(path):
        return None
    kept = flat_settings(stored_config(read_json(path, "type another --workdir, or bring back a copy")).to_dict())
    known = {name: kept[name] for name, values in _choices(config).items() if kept[name] in values}
    if config.measure and not config.devices:  # measured where the run began, which may have been another machine
        known["devices"] = kept["devices"]
    return known


def alternatives(config: ConfigDict, parts: Parts, layout: str) -> dict[str, list[Any]]:
    """Return, by the names of `PICKED`, the values that are measured, that of the config first.

    Nothing that rounds coarser than the config does is among them, no `train.task_batch` by which fewer devices would
    share, and no `devices` beside a layout, or with several processes.
    """

    def same_devices(batch: int) -> bool:
        try:
            return mesh_for(config.train.tasks // batch, layout, config.devices) == parts.mesh
        except ValueError:
            return False

    found = _choices(config)
    if "train.task_batch" in found:
        found["train.task_batch"] = list(filter(same_devices, found["train.task_batch"]))
    if "devices" in found:
        alone = not layout and jax.process_count() == 1
        found["devices"] = _different(found["devices"], rows_of(config)) if alone else []
    return found


def pick(config: ConfigDict, parts: Parts, layout: str, note: Callable[[str], None]) -> dict[str, Any]:
    """Measure one setting of `PICKED` after the other, and return by their names the values that are worth taking.

    Of `search.batch` a generation is timed, of the others a chunk of training, each `ROUNDS` times in turns. A value
    that does not compile, or not fit, is passed over. With several processes the first one's clock decides.

    Args:
        config, parts: of the run.
        layout: see `mesh_for`.
        note: is told what is measured and what each value took.

    Raises:
        ValueError, Fault: the config's own values do not run.
    """
    chosen, base = {}, config.copy_and_resolve_references()
    for name in PICKED:
        values = alternatives(base, parts, layout).get(name, [])
        if len(values) < 2:
            continue
        note(f"{name}: measures {', '.join(map(repr, values))}, each of which is compiled")
        held, runs = {"state": _first_state(config, parts)}, {}
        for value in values:
            trial = base.copy_and_resolve_references()
            trial.update_from_flattened_dict({name: value})
            try:
                runs[value] = together(_ready, trial, parts, layout, name, held)
            except (ValueError, Fault) as problem:
                if value == values[0]:
                    raise
                note(f"{name} {value!r} is passed over: {problem}")
                held["state"] = _first_state(config, parts)  # what failed may have had the other donated
        taken = {value: min(seconds) for value, seconds in together(in_rounds, runs, ROUNDS).items()}
        best = by_first(_fastest, taken, values[0])
        what = "a generation" if name == "search.batch" else f"{chunk_of(config)} outer steps"
        times = ", ".join(f"{seconds:.3g} s with {value!r}" for value, seconds in taken.items())
        note(f"{name}: {what} in {times}; takes {best!r}")
        chosen[name] = best
        base.update_from_flattened_dict({name: best})
    return chosen


def _fastest(seconds: dict[Any, float], given: Any) -> Any:
    """Return the value of the least seconds, or the `given` one where that gains too little."""
    best = min(seconds, key=seconds.__getitem__)
    return best if seconds[best] < WORTH * seconds[given] else given


def _choices(config: ConfigDict) -> dict[str, list[Any]]:
    if not config.measure:
        return {}
    settings, tasks, choices = flat_settings(config.to_dict()), config.train.tasks, {"net.conv": ("auto",)}
    moves, first_order, _ = LEARNERS[config.learner.name]
    if moves != "head" and not first_order and config.learner.inner_steps > 1:
        other = "never" if recomputes(config.learner.inner_steps, first_order) else "always"
        choices["train.remat"] = (other,) if config.train.remat == "auto" else ("always", "never")
    if config.net.execution == "folded":  # a switch runs every branch of masks that are batched
        choices |= {"train.task_batch": (n for n in range(1, tasks + 1) if tasks % n == 0), "search.batch": BATCHES}
    if jax.default_backend() == "cpu":  # where devices that are fewer than the cores have several in each operation
        most = config.devices or jax.device_count()
        choices["devices"] = [fewer for fewer in (most // 2, 1) if 0 < fewer < most]
    return {name: list(dict.fromkeys((settings[name], *choices[name]))) for name in PICKED if name in choices}


def _different(most: list[int], rows: int) -> list[int]:
    """Return the limits that do not come down to the number of devices of one before."""
    sizes: dict[int, int] = {}
    for limit in most:
        sizes.setdefault(mesh_for(rows, most=limit).size, limit)
    return list(sizes.values())


def _first_state(config: ConfigDict, parts: Parts) -> RunState:
    """Return the state of a run behind what its first steps do otherwise, see `Early`."""
    state = init_state(config, parts)
    begun = max(config.train.first_order_steps, config.train.every_step_loss)
    return state._replace(meta=state.meta._replace(step=state.meta.step + begun))


def _ready(config: ConfigDict, parts: Parts, layout: str, name: str, held: dict[str, RunState]) -> Callable[[], Any]:
    """Return a call that does what the setting `name` changes to the state in `held`; it has been called once."""
    parts = relearned(config, parts, layout)
    scorer = evaluation_learner(config, parts.space, parts.image_shape, config.protocol.ways)
    programs = make_programs(config, parts, scorer, {"compile_s": 0.0})
    table, size = parts.dataset.table, config.search.episodes

    def generation():
        population = held["state"].search.population
        order, rungs = np.arange(len(population), dtype=np.int32), rungs_of(config, size)
        scored = programs.fitness(evaluated(held["state"].meta), population, order, rungs, np.int32(0), table)
        return jax.block_until_ready(scored)

    def chunk():
        state = held["state"]
        masks = programs.draw(state.search, np.int32(0), np.float32(0.0), np.bool_(False))
        held["state"] = state._replace(meta=programs.train(state.meta, masks, table)[0])  # which donates it
        return jax.block_until_ready(held["state"].meta)

    run = generation if name == "search.batch" else chunk
    run()
    return run
