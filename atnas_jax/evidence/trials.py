"""A trial of the search on a support set, on episodes of meta_valid, whose query labels may be looked at.

One support set says little of an architecture, and what wins on it may lose on its queries (winner's curse). How the
choice fares on average over tasks can be measured before any novel task is seen, so it is: where it does not pay, novel
tasks keep the shared best.
"""

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.evidence.choose import META_VALID, chunks_of, warm_population
from atnas_jax.evidence.meta_test import Bench
from atnas_jax.job.budget import first_unseen
from atnas_jax.job.build import Parts
from atnas_jax.job.config import evaluation_steps
from atnas_jax.job.progress import Progress
from atnas_jax.job.results import interval
from atnas_jax.job.state import RunState
from atnas_jax.job.trial import Trial, trial_text, trial_to_dict
from atnas_jax.meta.average import evaluated


def try_search(config: ConfigDict, parts: Parts, state: RunState, bench: Bench, progress: Progress) -> Trial | None:
    """Compare what `adapted` would choose with the shared best on `adapt.trials` fixed episodes of meta_valid.

    They are none of those that the search across tasks was judged by. What speaks for the shared best there, having
    been chosen on other episodes of these classes and, with `train.finish_valid`, having trained on them, makes the
    trial err towards keeping it.

    Args:
        config, parts, state, bench, progress: of a run that has ended.

    Returns:
        The trial, under the protocol's own normalisation; None where `adapt.trials` is 0.
    """
    if not (number := config.adapt.trials):
        return None
    progress.note(f"trial: choosing architectures for {number} episodes of meta_valid")
    weights, warm, table = evaluated(state.meta), warm_population(config, state), parts.dataset.table
    steps, scorer = jnp.asarray(evaluation_steps(config), jnp.int32), next(iter(bench.scorers.values()))
    gains, size = [], len(chunks_of(config.protocol.episodes)[0])  # as in the meta-test, whose programs these are
    for chunk in chunks_of(number, size):
        index = jnp.asarray(first_unseen(config) + chunk)
        found = bench.choice(weights, warm, jnp.asarray(False), index, table, META_VALID)
        best = np.tile(state.best, (len(index), 1))
        ours, shared = (np.asarray(scorer(weights, rows, index, steps, table, META_VALID)) for rows in (found, best))
        gains.append(ours - shared)
    trial = Trial(config.protocol.shots, number, *interval(np.concatenate(gains)[:number]))
    progress.note(trial_text(trial_to_dict(trial)))
    return trial
