"""What the workdir of a run holds, read as far as it is there."""

import json
import os
import zipfile
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from atnas_jax.evidence import shown
from atnas_jax.job.command import kept_command
from atnas_jax.job.config import stored_config
from atnas_jax.job.files import read_json, read_rows
from atnas_jax.job.spaces import make_space
from atnas_jax.novel import meta_network
from atnas_jax.run.generations import read_generations
from atnas_jax.space.slots import SearchSpace
from atnas_jax.space.text import from_text


class Record(NamedTuple):
    """One run; what its workdir lacks is None or empty."""

    workdir: str
    name: str  # last part of the workdir
    config: ConfigDict  # of the results, where the run has ended
    results: dict[str, Any]  # see README "The workdir"; {} where the run has not ended
    metrics: list[dict[str, Any]]  # rows of metrics.jsonl
    generations: list[dict[str, Any]]  # rows of generations.jsonl
    shown: dict[str, np.ndarray]  # arrays of meta_test.npz
    space: SearchSpace
    genotype: np.ndarray | None  # int32 [E], the shared best so far
    image_shape: tuple[int, int, int] | None  # H, W, C
    command: str


def read_run(workdir: str) -> Record:
    """Read a run, finished or not.

    Raises:
        FileNotFoundError: the workdir holds no run.
        ValueError: one of its files is damaged.
    """
    path = os.path.join(workdir, "config.json")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{workdir} holds no run (no config.json); type the --workdir of a launch.search")
    cure = "run launch.search again in a new --workdir"
    given = read_json(path, cure)
    results = read_json(path, cure) if os.path.exists(path := os.path.join(workdir, "results.json")) else {}
    config = stored_config(results.get("config", given))  # a run that was tested again differs from its config.json
    rows = read_rows(os.path.join(workdir, "metrics.jsonl"), "remove it, and the report has no curves")
    space = make_space(config)
    generations = read_generations(workdir)
    best = results.get("genotype") or next((row["best_genotype"] for row in rows[::-1] if "best_genotype" in row), None)
    arrays = _arrays(os.path.join(workdir, shown.FILE))
    about = _arrays(os.path.join(workdir, meta_network.FILE), ("about",))
    return Record(
        workdir=workdir,
        name=os.path.basename(os.path.abspath(workdir)),
        config=config,
        results=results,
        metrics=rows,
        generations=generations,
        shown=arrays,
        space=space,
        genotype=None if best is None else from_text(space, best),
        image_shape=tuple(json.loads(str(about["about"]))["image_shape"]) if about else None,
        command=kept_command(workdir),
    )


def _arrays(path: str, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    if not os.path.exists(path):
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names or file.files}
    except (ValueError, OSError, KeyError, zipfile.BadZipFile):
        return {}
