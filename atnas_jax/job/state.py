"""What a run carries from unit to unit, and what its checkpoint therefore holds."""

import json
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.job.build import Parts
from atnas_jax.job.checkpoint import Checkpoints, restore_latest
from atnas_jax.job.config import stored_config
from atnas_jax.job.files import read_json, write_whole
from atnas_jax.job.plain import as_plain
from atnas_jax.job.processes import by_first, of_first
from atnas_jax.job.spaces import hand_made
from atnas_jax.rng import stream
from atnas_jax.types import Array, MetaState, PyTree

HARMLESS = (  # settings that change no training, past or to come; the fingerprint guards source and split
    *("data.source", "data.split", "data.cache_dir", "log.checkpoint_minutes", "log.keep", "train.nonfinite_limit"),
    *("protocol.episodes", "protocol.rotations", "meta_test.rows", "meta_test.random_architectures"),
    *("adapt.score", "adapt.margin", "adapt.generations", "adapt.seconds", "adapt.population", "adapt.folds"),
    *("adapt.copies", "adapt.trials", "meta_test.other_normalisation"),
)


class RunState(NamedTuple):
    """All arrays of a run; keys are never among them, see `rng.py`."""

    meta: MetaState  # the supernet
    control: MetaState  # the hand-made network trained alone, in `Parts.control.space`
    search: PyTree  # of the strategy
    best: Array  # int32 [E], the shared best genotype; ranked again at the end


def init_state(config: ConfigDict, parts: Parts) -> RunState:
    """Return the state before the first outer step.

    The control starts from weights of its own draw, those of its plain network; an anchored search starts from the
    hand-made genotype and random others, since that is the one whose weights every step trains.
    """
    seed, warm = config.seed, hand_made(parts.space)[None] if config.search.anchor != "never" else None
    meta = jax.jit(parts.learner.init)(stream(seed, "init"))
    control = jax.jit(parts.control.learner.init)(stream(seed, "init control"))
    if config.meta_test.conv4:
        own = parts.control.space
        plain = as_plain(own, hand_made(own), control.params, parts.image_shape)
        control = control._replace(params=plain)
    search = jax.jit(parts.strategy.init)(stream(seed, "population"), warm)
    return RunState(meta, control, search, jnp.asarray(parts.strategy.best(search)))


def restore_run(checkpoints: Checkpoints, config: ConfigDict, parts: Parts) -> tuple[RunState, dict[str, Any]] | None:
    """Return the state and the notes of the latest checkpoint, or None where there is none.

    Raises:
        ValueError: the run was begun on other data, or with another config.
    """
    if (found := _restored(checkpoints, init_state(config, parts))) is None:
        return None
    began, now = found[1]["fingerprint"], parts.dataset.fingerprint
    if began != now:
        raise ValueError(
            f"{parts.dataset.source} is no longer the data of this run: its fingerprint is {now}, at the start it was "
            f"{began}; bring that data back, or type another --workdir"
        )
    return found


def _restored(checkpoints: Checkpoints, template: RunState) -> tuple[RunState, dict[str, Any]] | None:
    found = [template]

    def read() -> dict[str, Any] | None:
        if (latest := restore_latest(checkpoints, template)) is None:
            return None
        found[0], notes = latest
        return notes

    notes = by_first(read)
    return None if notes is None else (of_first(found[0]), notes)


def ranked_population(state: RunState) -> Array:
    """Return int32 [1+P,E]: the shared best, then the living population, fittest first."""
    best, search = np.asarray(state.best), jax.tree.map(np.asarray, (state.search.fitness, state.search.population))
    order = np.argsort(-search[0][:, 0], kind="stable")
    return jnp.asarray(np.concatenate([best[None], search[1][order]]))


def keep_config(workdir: str, config: ConfigDict, accept: bool = False) -> None:
    """Write the config into the workdir, or check that it is the one that is there.

    Args:
        workdir: of the run, made where absent.
        config: of the run.
        accept: let settings of `HARMLESS` differ, and write the new ones.

    Raises:
        ValueError: the workdir holds a run of another config; names the settings that differ.
    """
    os.makedirs(workdir, exist_ok=True)
    path = os.path.join(workdir, "config.json")
    if os.path.exists(path):
        # A setting that is younger than the file has its default there.
        began = stored_config(read_json(path, "type another --workdir, or bring back a copy"))
        found, wanted = (flat_settings(json.loads(json.dumps(given.to_dict()))) for given in (began, config))
        differ = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        differ = [name for name in differ if name != "measure"]  # decides nothing once the run has begun
        harmful = [name for name in differ if name not in HARMLESS]
        if harmful or (differ and not accept):
            done = os.path.exists(os.path.join(workdir, "results.json"))
            does = "keeps these for launch.meta_test" if done else "goes on with these"
            cure = "" if harmful else f"--accept_changes {does}, or "
            raise ValueError(
                f"{workdir} holds a run with other settings ({', '.join(harmful or differ)}); "
                f"{cure}type another --workdir, or the same settings to go on"
            )
        if not differ:
            return
    write_whole(path, json.dumps(config.to_dict(), indent=2))


def flat_settings(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return the settings of nested dicts by their dotted names."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        name: value
        for key, below in tree.items()
        for name, value in flat_settings(below, f"{prefix}.{key}".strip(".")).items()
    }
