"""The last population is ranked again by one race over episodes that nobody has seen, in calls of one program."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from atnas_jax.job.budget import evaluations_of, rungs_of
from atnas_jax.job.progress import make_progress
from atnas_jax.run import generation
from atnas_jax.run.generation import FINAL_ROUNDS, Run, rank_again

P, T, GENERATIONS = 10, 6, 3


@pytest.mark.parametrize("share", [0.0, 0.2])
@pytest.mark.parametrize("racing", ["halving", "none"])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_race_by_hand_over_all_the_episodes(monkeypatch, seed, racing, share):
    right = np.random.default_rng(seed).random((P, (GENERATIONS + FINAL_ROUNDS) * T)).astype(np.float32)
    seen = np.zeros(right.shape, int)

    def fitness(params, population, order, rungs, first, table):
        field, last = np.asarray(rungs)[0]
        assert (np.asarray(rungs) == (field, last)).all() and 1 <= last <= T
        rows, columns = np.asarray(order)[:field], int(first) + np.arange(last)
        seen[np.ix_(rows, columns)] += 1
        scores = np.full((P, 1), -np.inf)
        scores[rows, 0] = right[np.ix_(rows, columns)].mean(1)
        return jnp.asarray(scores), None, order

    search = {"population": P, "episodes": T, "generations": GENERATIONS}
    search |= {"racing": racing, "racing_share": share, "objectives": ("accuracy",)}
    config = ConfigDict({"search": search})
    parts = SimpleNamespace(dataset=SimpleNamespace(table=None))
    run = Run("", config, parts, SimpleNamespace(fitness=fitness), None, make_progress({}, quiet=True),
              {"search_s": 0.0, "compile_s": 0.0})  # fmt: skip
    state = SimpleNamespace(search=SimpleNamespace(population=np.arange(P)), meta=None)
    monkeypatch.setattr(generation, "evaluated", lambda meta: None)
    chosen = rank_again(run, state)

    fresh, rungs = right[:, GENERATIONS * T :], rungs_of(config, FINAL_ROUNDS * T)
    order = np.arange(P)
    for field, last in rungs:
        order = order[:field][np.argsort(-fresh[order[:field], :last].mean(1), kind="stable")]
    assert chosen == order[0]
    assert seen.max() == 1 and not seen[:, : GENERATIONS * T].any()
    assert seen.sum() == evaluations_of(rungs)
