"""Random search beside a search, on the same weights and episodes; nothing learns from it."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from atnas_jax.data.table import ClassTable
from atnas_jax.job.budget import rungs_of
from atnas_jax.job.compiled import stopwatch
from atnas_jax.job.processes import by_first
from atnas_jax.job.state import RunState
from atnas_jax.meta.average import evaluated
from atnas_jax.run.generations import best_random
from atnas_jax.run.steps import Programs


def at_random(
    config: ConfigDict,
    programs: Programs,
    workdir: str,
    state: RunState,
    number: int,
    table: ClassTable,
    notes: dict[str, Any],
) -> tuple[np.ndarray, np.ndarray] | None:
    """Score the best random genotype so far and new random ones, as many as a generation has.

    Args:
        config, programs, table: of the run.
        workdir: tells the best so far, from `generations.jsonl`.
        state: after the generation; its weights score.
        number: of the generation, 0 for the first; its meta_valid episodes are used.
        notes: control_s gets the seconds.

    Returns:
        (genotypes int32 [P,E], fitness float32 [P]), or None where log.random_search is off.
    """
    if not config.log.random_search:
        return None
    taken, size = stopwatch(notes), config.search.episodes
    asked = np.array(programs.random(np.int32(number)))
    if (best := by_first(best_random, workdir)) is not None:
        asked[0] = best
    order, first = np.arange(len(asked), dtype=np.int32), np.int32(number * size)
    args = (evaluated(state.meta), asked, order, rungs_of(config, size), first, table)
    fitness = np.asarray(programs.fitness(*args)[0])[:, 0]
    notes["control_s"] += taken()
    return asked, fitness
