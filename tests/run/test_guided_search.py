"""A search across tasks whose strategy carries a pool and a fitted predictor: it runs, and its checkpoint is whole."""

import jax
import numpy as np
import pytest

from atnas_jax.job.build import build, make_search
from atnas_jax.job.config import check_config
from atnas_jax.job.progress import make_progress
from atnas_jax.job.spaces import make_space
from atnas_jax.rng import stream
from atnas_jax.run.units import run_units
from atnas_jax.space.text import parse

SMALL = {
    "train.steps": 6,
    "train.warmup": 0.0,
    "search.generations": 3,
    "search.episodes": 2,
    "search.options.seeds": 4,
    "meta_test.conv4": False,
}


def test_a_guided_search_runs_and_is_restored(tiny, tmp_path):
    options = {"fit_steps": 2, "refit": 12, "pool": 8, "embedding": 3, "hidden": 5}
    config = tiny(SMALL | {"search.strategy": "nao"} | {f"search.options.{k}": v for k, v in options.items()})
    check_config(config)
    parts = build(config)
    state, notes = run_units(config, parts, str(tmp_path), make_progress({}, quiet=True))
    search = state.search
    assert int(search.generation) == len(notes["history"]) == 3
    assert int(search.told) == 12 and int(search.stale) == 8
    assert search.fitted["embed"].shape[-1] == 3 and search.fitted["encoder"]["state"].shape == (5, 20)
    told = {row.tobytes() for row in np.asarray(search.population)}
    pool = {row.tobytes() for row in np.asarray(search.pool.genotypes[search.pool.filled])}
    assert told <= pool
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(search.fitted))
    for generation in notes["history"]:
        parse(parts.space, generation["best_genotype"])
    again, _ = run_units(config, parts, str(tmp_path), make_progress({}, quiet=True))
    jax.tree.map(np.testing.assert_array_equal, again, state)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"predictor": "mlp", "proposer": "ucb"}, "needs a predictor with a deviation"),
        ({"candidates": 0}, "candidates=0"),
        ({"kappa": -1.0}, "kappa=-1.0"),
        ({"climb_steps": 0}, "climb_steps=0"),
        ({"hidden": 8}, "'hidden' of strategy 'predictor' is unknown"),
    ],
)
def test_the_options_reach_the_strategy(options, says, tiny):
    changes = {f"search.options.{name}": value for name, value in options.items()}
    config = tiny(SMALL | {"search.strategy": "predictor"} | changes)
    with pytest.raises(ValueError, match=says):
        make_search(config, make_space(config), (10, 10, 1))


@pytest.mark.parametrize(
    ("predictor", "field"), [("gp", "factor"), ("ridge", "factor"), ("mlp", "w"), ("nao", "embed")]
)
def test_the_predictor_is_the_one_that_the_config_names(predictor, field, tiny):
    config = tiny(SMALL | {"search.strategy": "predictor", "search.options.predictor": predictor})
    strategy = make_search(config, make_space(config), (10, 10, 1))
    fitted = jax.eval_shape(strategy.init, stream(0, "population")).fitted
    assert field in (fitted[0] if isinstance(fitted, list) else getattr(fitted, "_fields", fitted))
