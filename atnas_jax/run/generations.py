"""Who was evaluated in each generation, `generations.jsonl`, in which no row is lost or stands twice after a resume."""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from atnas_jax.job.files import read_rows, write_whole
from atnas_jax.types import Array

FILE = "generations.jsonl"


def keep_generations(workdir: str, held: int) -> None:
    """Cut the file of a run to its first `held` generations; what a torn last line held is cut too."""
    os.makedirs(workdir, exist_ok=True)
    kept = [row for row in read_generations(workdir) if row["generation"] <= held]
    write_whole(os.path.join(workdir, FILE), "".join(map(_line, kept)))


def add_generation(
    workdir: str,
    generation: int,
    step: int,
    asked: Sequence[Array],
    fitness: np.ndarray | None,
    costs: Sequence[Array],
    random: tuple[np.ndarray, np.ndarray] | None,
) -> None:
    """Append one generation; call it before the checkpoint that holds the generation.

    Args:
        workdir: of the run.
        generation: 1 for the first.
        step: outer steps done.
        asked: int32 [P,E], who was evaluated; of a gradient strategy, who was drawn from its policy.
        fitness: float32 [P], the first objective on meta_valid; None where nobody was evaluated by fitness.
        costs: int32 [P,2], parameters and multiply-adds.
        random: (genotypes int32 [P,E], fitness float32 [P]) of a random search on the same weights and episodes.
    """
    params, macs = np.asarray(costs).T.tolist()
    row = {
        "generation": generation,
        "step": step,
        "genotypes": np.asarray(asked).tolist(),
        "fitness": None if fitness is None else _finite(fitness),
        "params": params,
        "macs": macs,
        "random": random and {"genotypes": np.asarray(random[0]).tolist(), "fitness": _finite(random[1])},
    }
    with open(os.path.join(workdir, FILE), "a", encoding="utf-8", newline="") as file:
        file.write(_line(row))


def read_generations(workdir: str) -> list[dict[str, Any]]:
    """Return the rows of a run, none where there is no file."""
    return read_rows(os.path.join(workdir, FILE), "remove it to go on without the generations so far")


def best_random(workdir: str) -> list[int] | None:
    """Return the best genotype of the last generation of the random search, or None before the first."""
    rows = [row["random"] for row in read_generations(workdir)[-1:] if row["random"]]
    return max(_pairs(rows[0]), key=lambda pair: pair[0])[1] if rows and any(_pairs(rows[0])) else None


def _pairs(random: dict[str, Any]) -> list[tuple[float, list[int]]]:
    return [pair for pair in zip(random["fitness"], random["genotypes"], strict=True) if pair[0] is not None]


def _finite(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in np.asarray(values)]


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
