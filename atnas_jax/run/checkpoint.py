"""Checkpoints: a pytree of arrays and a small JSON note per step, of which a killed process never leaves half.

Orbax writes a checkpoint beside the others and renames it when it is whole. Saving is synchronous, so a donated buffer
is never read late; 3 MB take 0.1 s on two cores. Keys are never stored, see `rng.py`.
"""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from atnas_jax.types import PyTree

Checkpoints = ocp.CheckpointManager
# Of several processes the first alone, which has all of the state, opens checkpoints, see `processes.py`.
ALONE = {"create": False, "multiprocessing_options": ocp.options.MultiprocessingOptions(active_processes={0})}


def open_checkpoints(workdir: str, keep: int = 2) -> Checkpoints:
    """Open, or make, the checkpoints of a run; the last `keep` stay, what a killed process left half-written goes."""
    folder = os.path.join(os.path.abspath(workdir), "checkpoints")
    os.makedirs(folder, exist_ok=True)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
        **(ALONE if jax.process_count() > 1 else {}),
    )
    return ocp.CheckpointManager(folder, options=options)


def save(manager: Checkpoints, step: int, state: PyTree, meta: dict[str, Any]) -> None:
    """Write `state` and `meta` as the checkpoint of `step`; on return it is whole on the disk.

    Args:
        manager: from `open_checkpoints`.
        step: grows from save to save.
        state: arrays of any shape and dtype, NumPy or Python numbers; no typed PRNG keys.
        meta: what JSON can hold.

    Raises:
        ValueError: the step does not grow, or a leaf is a key or no number.
    """
    latest = manager.latest_step()
    if latest is not None and step <= latest:
        raise ValueError(f"checkpoint {step} does not follow {latest}, the latest of {manager.directory}")
    named = _named_leaves(state)
    # Orbax has no empty arrays; the template gives them back.
    arrays = {f"{i}": np.asarray(jax.device_get(leaf)) for i, (_, leaf) in enumerate(named) if np.size(leaf)}
    note = {"leaves": [_describe(name, leaf) for name, leaf in named], "meta": meta}
    manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(arrays), note=ocp.args.JsonSave(note)))


def restore_latest(manager: Checkpoints, template: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
    """Return (state, meta) of the latest checkpoint, bit for bit, or None where there is none.

    Args:
        manager: from `open_checkpoints`.
        template: a state of the same structure, shapes and dtypes; its leaves say what comes back as a jax.Array (with
            the same sharding), as a NumPy array or as a Python number.

    Raises:
        ValueError: the checkpoint is of another structure, shape or dtype.
    """
    step = manager.latest_step()
    if step is None:
        return None
    note = manager.restore(step, args=ocp.args.Composite(note=ocp.args.JsonRestore())).note
    named = _named_leaves(template)
    _check_fit(note["leaves"], [_describe(name, leaf) for name, leaf in named], f"{manager.directory / str(step)}")
    blanks = {f"{i}": np.empty(np.shape(leaf), _dtype(leaf)) for i, (_, leaf) in enumerate(named) if np.size(leaf)}
    stored = manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(blanks))).state
    leaves = [_like(leaf, stored[f"{i}"]) if np.size(leaf) else leaf for i, (_, leaf) in enumerate(named)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves), note["meta"]


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
