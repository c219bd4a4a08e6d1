"""The finish of a run: after the last generation the shared best, chosen for good, trains alone."""

import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.job.budget import takes_valid
from atnas_jax.job.build import build
from atnas_jax.job.compiled import compiled
from atnas_jax.job.defaults import default_config
from atnas_jax.job.progress import make_progress
from atnas_jax.job.results import results_table
from atnas_jax.job.state import init_state
from atnas_jax.novel.meta_network import load_meta_network
from atnas_jax.report.accuracy import protocol_text
from atnas_jax.report.page import write_report
from atnas_jax.run import units
from atnas_jax.run.generation import Run
from atnas_jax.run.search import across_task_search
from atnas_jax.run.steps import make_train, training_classes
from atnas_jax.space.slots import mask_of

CHOSEN = jnp.asarray([1, 1, 0, 2, 1])


@pytest.mark.parametrize(("finish", "searches"), [(0.0, 4), (0.25, 3), (0.5, 2)])
def test_what_trains_and_when_the_best_is_chosen(tiny, monkeypatch, finish, searches):
    config = tiny({"train.finish": finish, "train.warmup": 0.25, "search.generations": 2})
    parts, trained, done = build(config), [], []
    sampled = jnp.zeros((2, 2, *mask_of(parts.space, CHOSEN).shape))

    class Programs:
        draw = staticmethod(lambda *_: sampled)

    def train(run, meta, masks, *_):
        trained.append(np.asarray(masks))
        return meta

    def remember(name, result):
        return lambda run, state: (done.append((name, len(trained))), result(state))[1]

    monkeypatch.setattr(units, "train", train)
    monkeypatch.setattr(units, "generation", remember("generation", lambda state: state))
    monkeypatch.setattr(units, "rank_again", remember("ranked", lambda state: CHOSEN))
    run = Run("", config, parts, Programs(), None, make_progress({}, quiet=True), {"history": []})
    state = init_state(config, parts)
    for unit in range(4):
        state = units.search_unit(run, state, unit)

    for unit, masks in enumerate(trained):
        expected = np.broadcast_to(mask_of(parts.space, CHOSEN), masks.shape) if unit >= searches else sampled
        np.testing.assert_array_equal(masks, expected)
    generations = [after for name, after in done if name == "generation"]
    assert len(generations) == 2 and generations[-1] == searches
    assert [entry for entry in done if entry[0] == "ranked"] == ([("ranked", searches)] if finish else [])
    assert not finish or (state.best == CHOSEN).all()


def test_classes_of_meta_valid_join_in_the_finish_alone(tiny):
    """Of the control too, whose steps count anew; without the setting there is nothing to tell."""
    config = tiny({"train.finish": 0.5, "train.finish_valid": True})
    table, half = build(config).dataset.table, config.train.steps // 2
    for step in range(config.train.steps):
        classes, among = training_classes(config, table, jnp.int32(step))
        here = [table.meta_train] + ([table.meta_valid] if step >= half else [])
        np.testing.assert_array_equal(classes[:among], np.concatenate(here))
    config.train.finish_valid = False
    assert training_classes(config, table, jnp.int32(half))[1] is None


def test_a_run_with_it_is_another_from_the_finish_on(tiny):
    config = tiny({"train.finish": 0.5, "train.finish_valid": True, "train.chunk": 1})
    parts = build(config)
    masks = jnp.broadcast_to(mask_of(parts.space, CHOSEN), (1, config.train.tasks, *mask_of(parts.space, CHOSEN).shape))
    same = []
    for step in (0, config.train.steps // 2):
        losses = []
        for config.train.finish_valid in (False, True):
            meta = init_state(config, parts).meta._replace(step=jnp.int32(step))
            train = compiled(make_train(config, parts, parts.learner), {"compile_s": 0.0}, mesh=parts.mesh)
            losses.append(float(train(meta, masks, parts.dataset.table)[1]["loss"]))
        same.append(losses[0] == losses[1])
    assert same == [True, False]


ALL = {
    **{"train.finish": 0.5, "train.mirrors": True, "train.alike": True, "train.chunk": 1, "search.generations": 1},
    **{"space.chain.last_pool": True, "meta_test.rows": ("best", "conv4"), "meta_test.other_normalisation": False},
}


def test_a_whole_run_chooses_the_same_before_its_finish_takes_meta_valid(tiny, tmp_path):
    found = {}
    for valid in (False, True):
        config = tiny(ALL | {"train.finish_valid": valid})
        found[valid] = across_task_search(config, str(tmp_path / str(valid)), quiet=True)
    without, taken = found[False], found[True]
    assert without["genotype"] == taken["genotype"] and len(taken["history"]) == 1
    assert [one["best_fitness"] for one in without["history"]] == [one["best_fitness"] for one in taken["history"]]
    assert without["genotype"].rpartition("/")[2] in ("max2", "none")
    weights = [
        load_meta_network(str(tmp_path / name)).params["body"]["block0"]["conv3"]["kernel"]
        for name in ("False", "True")
    ]
    assert not np.array_equal(*weights)
    said = "the finish trained on the classes of meta_valid too"
    for say in (results_table, protocol_text):
        assert [said in say(results) for results in (without, taken)] == [False, True]
    page = open(write_report(str(tmp_path / "True")), encoding="utf-8").read()
    assert said in page


def test_the_control_that_pools_last_starts_with_the_temperature_of_its_own_embedding(tiny):
    config = tiny({"space.chain.last_pool": True})
    state = init_state(config, build(config))
    start = {name: float(getattr(state, name).params["head"]["log_temperature"]) for name in ("meta", "control")}
    assert start["meta"] == pytest.approx(-0.5 * np.log(2 * 2 * 8))  # 10x10 images come down to 2x2, of 8 channels
    assert start["control"] == pytest.approx(-0.5 * np.log(8))


def test_a_finish_that_a_short_run_has_not_takes_nothing():
    config = default_config()
    config.train.update({"finish": 0.5, "finish_valid": True, "steps": 100, "chunk": 50})
    assert takes_valid(config)
    config.train.steps = 50
    assert not takes_valid(config)
