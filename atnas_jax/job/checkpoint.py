"""Checkpoints: a pytree of arrays and a JSON note per step, of which a killed process never leaves half.

Orbax writes a checkpoint beside the others and renames it when it is whole, in a thread of its own: `save` copies the
arrays to the host and returns. Keys are never stored, see `rng.py`. The note holds SHA-256 sums of itself and of the
arrays, so whatever a disk does to a checkpoint is seen at restore, and the newest sound one is used.

The arrays are one array of bytes for orbax: it gives up with the first of several that it cannot write, and the others,
still on their way, then tell of their own failure in tracebacks that nothing can catch.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from atnas_jax.job.faults import Fault
from atnas_jax.job.files import warn
from atnas_jax.job.packed import packed, sum_of, unpacked
from atnas_jax.job.results import versions
from atnas_jax.types import PyTree

Checkpoints = ocp.CheckpointManager
# Of several processes the first alone, which has all of the state, opens checkpoints, see `processes.py`.
ALONE = {"create": False, "multiprocessing_options": ocp.options.MultiprocessingOptions(active_processes={0})}
FORMAT = 3  # 2 had an array for each leaf, 1 neither sums nor a format besides; both are still read
DAMAGED = "damaged_checkpoints"  # folder of the workdir that they are moved to


class _Damaged(Exception):
    """Why one checkpoint cannot be used."""


@dataclass(frozen=True)
class _LastAndBest(PreservationPolicy):
    """What of the checkpoints in `folder` stays: the last `keep`, and the one before them with the largest score."""

    folder: str
    keep: int

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        old = {step: self._score(step) for step in [checkpoint.step for checkpoint in checkpoints][: -self.keep]}
        best = max((step for step in old if old[step] is not None), key=lambda step: (old[step], step), default=None)
        return [checkpoint.step not in old or checkpoint.step == best for checkpoint in checkpoints]

    def _score(self, step: int) -> float | None:
        try:
            with open(os.path.join(self.folder, str(step), "note", "metadata"), encoding="utf-8") as file:
                return json.load(file)["score"]
        except (OSError, ValueError, KeyError, TypeError):  # damaged, or of format 1
            return None


def open_checkpoints(workdir: str, keep: int = 2) -> Checkpoints:
    """Open, or make, the checkpoints of a run; the last `keep` and the best stay, what was half-written goes."""
    logging.getLogger("absl").addFilter(_not_of_orbax)
    folder = os.path.join(os.path.abspath(workdir), "checkpoints")
    os.makedirs(folder, exist_ok=True)
    alone = jax.process_count() == 1
    options = ocp.CheckpointManagerOptions(
        preservation_policy=_LastAndBest(folder, keep),
        enable_async_checkpointing=alone,
        cleanup_tmp_directories=True,
        **({} if alone else ALONE),
    )
    return ocp.CheckpointManager(folder, options=options)


def save(manager: Checkpoints, step: int, state: PyTree, meta: dict[str, Any], score: float | None = None) -> None:
    """Begin to write `state` and `meta` as the checkpoint of `step`, when the one before is whole; see `finish`.

    Args:
        manager: from `open_checkpoints`.
        step: grows from save to save.
        state: arrays of any shape and dtype, NumPy or Python numbers; no typed PRNG keys. They may change afterwards.
        meta: what JSON can hold.
        score: the checkpoint with the largest is kept besides the last ones; None is no candidate.

    Raises:
        ValueError: the step does not grow, or a leaf is a key or no number.
        Fault: this or the checkpoint before cannot be written.
    """
    finish(manager)
    latest = manager.latest_step()
    if latest is not None and step <= latest:
        raise ValueError(f"checkpoint {step} does not follow {latest}, the latest of {manager.directory}")
    named = [(name, leaf, np.array(jax.device_get(leaf))) for name, leaf in _named_leaves(state)]
    # Without the empty ones, as formats before had them; the template gives those back.
    arrays = {f"{i}": value for i, (_, _, value) in enumerate(named) if value.size}
    note = {"format": FORMAT, "library": versions()["atnas_jax"], "meta": meta, "score": score}
    note |= {"leaves": [_describe(name, leaf) for name, leaf, _ in named], "arrays": sum_of(arrays)}
    note = json.loads(json.dumps(note))  # a copy: a thread writes it, and the caller's history grows
    note |= {"sum": _sum_of_note(note)}
    parts = ocp.args.Composite(state=ocp.args.StandardSave({"bytes": packed(arrays)}), note=ocp.args.JsonSave(note))
    _written(manager, lambda: manager.save(step, args=parts))


def finish(manager: Checkpoints) -> None:
    """Wait until the last checkpoint is whole on the disk.

    Raises:
        Fault: it cannot be written; the ones before it are whole.
    """
    _written(manager, manager.wait_until_finished)


def restore_latest(manager: Checkpoints, template: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
    """Return (state, meta) of the newest sound checkpoint, bit for bit, or None where there is none at all.

    Damaged ones that are newer are told in a line each and moved aside.

    Args:
        manager: from `open_checkpoints`.
        template: a state of the same structure, shapes and dtypes; its leaves say what comes back as a jax.Array (with
            the same sharding), as a NumPy array or as a Python number.

    Raises:
        ValueError: a checkpoint is of another structure, shape or dtype or of an unknown format, or all are damaged.
    """
    finish(manager)
    damaged = {}
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            found = _restore(manager, step, template)
        except _Damaged as error:
            damaged[step] = str(error)
            continue
        for bad, reason in damaged.items():
            aside = _move_aside(manager, bad)
            warn(f"checkpoint {bad} is damaged ({reason}) and now in {aside}; going on from checkpoint {step}")
        return found
    if damaged:
        told = "; ".join(f"{step}: {reason}" for step, reason in damaged.items())
        raise ValueError(
            f"all checkpoints in {manager.directory} are damaged ({told}); bring back a copy, or type another --workdir"
        )
    return None


def _restore(manager: Checkpoints, step: int, template: PyTree) -> tuple[PyTree, dict[str, Any]]:
    note = _attempt(lambda: manager.restore(step, args=ocp.args.Composite(note=ocp.args.JsonRestore())).note)
    where = manager.directory / str(step)
    if not isinstance(note, dict) or not {"leaves", "meta"} <= note.keys():
        raise _Damaged("its note is not whole")
    if "format" in note or "sum" in note:
        if note.get("sum") != _sum_of_note(note):
            raise _Damaged("its note has changed")
        if note["format"] > FORMAT:
            raise ValueError(
                f"checkpoint {where} has format {note['format']} of atnas_jax {note['library']}, this version reads up "
                f"to {FORMAT}; install atnas_jax {note['library']} or newer, or type another --workdir"
            )
    named = _named_leaves(template)
    _check_fit(note["leaves"], [_describe(name, leaf) for name, leaf in named], f"{where}")
    blanks = {f"{i}": np.empty(np.shape(leaf), _dtype(leaf)) for i, (_, leaf) in enumerate(named) if np.size(leaf)}
    one = note.get("format", 1) > 2
    args = ocp.args.Composite(state=ocp.args.StandardRestore({"bytes": packed(blanks)} if one else blanks))
    read = _attempt(lambda: manager.restore(step, args=args).state)
    stored = _attempt(lambda: unpacked(read["bytes"], blanks)) if one else read
    if "arrays" in note and note["arrays"] != sum_of(stored):
        raise _Damaged("its arrays have changed")
    leaves = [_like(leaf, stored[f"{i}"]) if np.size(leaf) else leaf for i, (_, leaf) in enumerate(named)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves), note["meta"]


def _attempt(read: Callable[[], Any]) -> Any:
    """Return what `read` does; orbax, tensorstore and json fail in many ways where a file is damaged."""
    try:
        return read()
    except (PermissionError, MemoryError):
        raise
    except Exception as error:
        raise _Damaged(" ".join(str(error).split())[:120] or type(error).__name__) from error


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """Whether a record of absl's log is another's: what orbax logs it raises too, and is told in a line."""
    return f"{os.sep}orbax{os.sep}" not in record.pathname


def _written(manager: Checkpoints, write: Callable[[], Any]) -> None:
    try:
        write()
    except Exception as error:  # tensorstore tells a full disk as a ValueError
        free = shutil.disk_usage(manager.directory).free if os.path.isdir(manager.directory) else 0
        raise Fault(
            f"a checkpoint cannot be written into {manager.directory} ({' '.join(str(error).split())[:120]}; "
            f"{free / 1e6:,.0f} MB are free there); make room, then the same command goes on from the one before"
        ) from error


def _move_aside(manager: Checkpoints, step: int) -> str:
    aside = os.path.join(os.path.dirname(manager.directory), DAMAGED, str(step))
    shutil.rmtree(aside, ignore_errors=True)
    os.makedirs(os.path.dirname(aside), exist_ok=True)
    os.replace(manager.directory / str(step), aside)
    manager.reload()
    return aside


def _sum_of_note(note: dict[str, Any]) -> str:
    # The rule is the same in every format, so that a version can tell a newer note from a damaged one.
    rest = {name: value for name, value in note.items() if name != "sum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    named = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    for name, leaf in named:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise ValueError(f"state{name} is a PRNG key; store the seed and the step, and derive it with rng.stream")
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float):
            raise ValueError(f"state{name} is a {type(leaf).__name__}; a checkpoint holds arrays and numbers")
    return named


def _dtype(leaf: Any) -> np.dtype:
    return np.dtype(leaf.dtype if hasattr(leaf, "dtype") else type(leaf))


def _describe(name: str, leaf: Any) -> list:
    return [name, _dtype(leaf).name, list(np.shape(leaf))]


def _check_fit(stored: list, wanted: list, path: str) -> None:
    if stored == wanted:
        return
    here, there = next(((w, s) for w, s in zip(wanted, stored) if w != s), (None, None))
    if here is None:
        problem = f"it has {len(stored)} arrays, this run has {len(wanted)}"
    else:
        problem = f"it has {there[0]} {there[1]} {there[2]}, this run has {here[0]} {here[1]} {here[2]}"
    raise ValueError(f"checkpoint {path} is of another config: {problem}; use that config or a new --workdir")


def _like(leaf: Any, value: np.ndarray) -> Any:
    if isinstance(leaf, jax.Array):
        # An uncommitted array stays one, so that a jitted function is not compiled again for it.
        return jax.device_put(value, leaf.sharding) if leaf.committed else jnp.asarray(value)
    if isinstance(leaf, bool | int | float) and not isinstance(leaf, np.generic):
        return type(leaf)(value)
    return value[()]
