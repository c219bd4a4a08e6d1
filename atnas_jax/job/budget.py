"""What a run spends on what: units of training, and evaluations of one genotype on one episode in a generation."""

import numpy as np
from ml_collections import ConfigDict

from atnas_jax.job.config import chunk_of, evaluation_steps
from atnas_jax.race import halving

# Evaluations that one gradient to the mask on one episode counts for. An evaluation passes Q queries forwards and S
# support images I times forwards and back: Q + 3SI passes of an image. Its derivative takes 3Q + 9SI (second order),
# three times as many. What a mixture costs beyond a single op is not counted: a folded supernet has one price for all.
GRADIENT_COST = 3
FINAL_ROUNDS = 4  # batches of meta_valid episodes that rank the last population again


def rows_of(config: ConfigDict) -> int:
    """Return the rows of an outer step that devices share: episodes, or the chunks of them that run together."""
    return config.train.tasks // config.train.task_batch


def rungs_of(config: ConfigDict, episodes: int) -> np.ndarray:
    """Return the rungs int32 [R,2] of a race over so many episodes; without racing, all rungs are the whole field."""
    rungs = halving(config.search.population, episodes, config.search.racing_share)
    if config.search.racing == "halving" and len(config.search.objectives) == 1:
        return rungs
    return np.full_like(rungs, (config.search.population, episodes))


def evaluations_of(rungs: np.ndarray) -> int:
    """Return how many evaluations a race takes that no limit cuts short."""
    return int((rungs[:, 0] * np.diff(rungs[:, 1], prepend=0)).sum())


def architecture_steps(config: ConfigDict) -> int:
    """Return the gradient steps of a generation, each on train.tasks episodes, for what a generation's race takes."""
    spent = evaluations_of(rungs_of(config, config.search.episodes))
    return max(1, spent // (GRADIENT_COST * config.train.tasks))


def first_unseen(config: ConfigDict) -> int:
    """Return the number of the first fixed episode of meta_valid that has chosen nothing yet when a search ends."""
    return (config.search.generations + FINAL_ROUNDS) * config.search.episodes


def all_chunks(config: ConfigDict) -> int:
    """Return how many units train the supernet."""
    return config.train.steps // chunk_of(config)


def searching(config: ConfigDict) -> int:
    """Return how many of them come before the finish, in which the shared best trains alone (train.finish)."""
    return max(all_chunks(config) - int(config.train.finish * all_chunks(config)), 1)


def passes_of(config: ConfigDict) -> dict[str, float]:
    """Return what each phase of a run takes, in passes of an image forwards: what the time that is left goes by.

    A pass costs the same whatever the genotype; generations, which take little, count as training.
    """
    train, test, adapt, rows = config.train, config.protocol, config.adapt, config.meta_test.rows
    inner, steps = config.learner.inner_steps, evaluation_steps(config)
    trained = train.steps * train.tasks * train.ways * (3 * train.queries + 9 * train.shots * inner)
    modes = 1 + config.meta_test.other_normalisation
    scored = modes * (len(rows) + ("random_architecture" in rows) * (config.meta_test.random_architectures - 1))
    chosen = adapt.population * adapt.generations
    tested = test.episodes * (scored + chosen * ("random_search" in rows)) + adapt.trials * (chosen + 2)
    tested += test.episodes * chosen * ("adapted" in rows and not adapt.trials)
    phases = {"meta_train": trained, "control": trained * config.meta_test.conv4}
    phases["meta_test"] = tested * test.ways * (test.queries + 3 * test.shots * steps)
    return {name: float(passes) for name, passes in phases.items() if passes}


def takes_valid(config: ConfigDict) -> bool:
    """Return whether any unit trains on the classes of meta_valid (train.finish_valid); a short run has no finish."""
    return config.train.finish_valid and searching(config) < all_chunks(config)
