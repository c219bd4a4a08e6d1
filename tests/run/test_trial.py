"""The trial of the search on a support set: measured on meta_valid alone, and kept to."""

import dataclasses
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.data.episodes import fixed_episodes
from atnas_jax.data.table import split_classes
from atnas_jax.evaluate import score_each
from atnas_jax.evidence import curves
from atnas_jax.evidence import meta_test as module
from atnas_jax.evidence.choose import META_VALID, episodes_of, warm_population
from atnas_jax.evidence.evidence import Asked, gather
from atnas_jax.evidence.meta_test import meta_test, open_bench
from atnas_jax.evidence.trials import try_search
from atnas_jax.job.budget import FINAL_ROUNDS, first_unseen
from atnas_jax.job.build import build
from atnas_jax.job.checkpoint import open_checkpoints, restore_latest
from atnas_jax.job.config import check_config
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.progress import make_progress
from atnas_jax.job.results import interval, results_table
from atnas_jax.job.state import init_state
from atnas_jax.job.trial import Trial, trial_from_dict, trial_to_dict
from atnas_jax.novel.meta_network import load_meta_network, save_meta_network
from atnas_jax.novel.novel import adapt_to
from atnas_jax.report.accuracy import section
from atnas_jax.report.choice import verdict
from atnas_jax.report.read import read_run
from atnas_jax.report.read_adaptation import Adaptation
from atnas_jax.run.search import meta_network, report, test_again
from atnas_jax.space.slots import mask_of
from atnas_jax.study.seeds import _tried

meta_test.__test__ = test_again.__test__ = False  # pytest takes them for tests
QUIET = make_progress({}, quiet=True)
LOSES, PAYS = Trial(1, 100, -0.02, 0.01), Trial(1, 100, 0.02, 0.01)
TRIALS = 10  # two chunks of the six episodes of the meta-test, the second cut short


@pytest.fixture(scope="module")
def searched(finished):
    """Config, parts, the last state and the opened bench of the finished run, of a config with a trial."""
    config = finished.config.copy_and_resolve_references()
    config.adapt.trials, config.adapt.margin = TRIALS, -1.0  # takes whatever is found
    config.meta_test.rows, config.meta_test.other_normalisation = ("adapted", "best"), False
    parts = build(config)
    manager = open_checkpoints(finished.workdir)
    state, _ = restore_latest(manager, init_state(config, parts))
    manager.close()
    return config, parts, state, open_bench(config, parts, QUIET)


@pytest.fixture(scope="module")
def tried(searched):
    """The trial of the finished run."""
    return try_search(*searched, QUIET)


@pytest.mark.parametrize(
    "trial, pays", [(PAYS, True), (LOSES, False), (Trial(1, 9, 0.01, 0.02), False), (Trial(1, 9, 0.0, 0.0), False)]
)
def test_a_trial_pays_where_it_gains_more_than_its_interval(trial, pays):
    assert trial.pays is pays and trial_to_dict(trial)["pays"] is pays
    assert trial_from_dict(trial_to_dict(trial)) == trial
    assert trial.keeps(1) is not pays
    assert not trial.keeps(2)  # folds of several images, of which it says nothing
    assert trial._replace(shots=5).keeps(2) is not pays and not trial._replace(shots=5).keeps(1)


def test_the_trial_is_what_the_choices_gain_on_meta_valid_episode_by_episode(searched, tried):
    config, parts, state, bench = searched
    assert first_unseen(config) == (config.search.generations + FINAL_ROUNDS) * config.search.episodes
    index = first_unseen(config) + jnp.arange(12)
    table, weights = parts.dataset.table, state.meta.params
    episodes = fixed_episodes(
        parts.dataset.fingerprint, "meta_valid", config.protocol.seed, index, table, parts.test_spec, parts.normalise
    )
    learner = evaluation_learner(config, parts.space, parts.image_shape, config.protocol.ways)
    warm = warm_population(config, state)
    choices = [bench.choice(weights, warm, jnp.asarray(False), i, table, META_VALID) for i in (index[:6], index[6:])]
    found = jnp.concatenate(choices)
    assert len(np.unique(np.asarray(found), axis=0)) > 1
    best = jnp.broadcast_to(state.best, found.shape)
    ours, shared = (score_each(learner, weights, mask_of(parts.space, rows), episodes)[0] for rows in (found, best))
    gains = np.asarray(ours - shared)[:TRIALS]
    assert np.any(gains)
    assert tried == Trial(1, TRIALS, *map(pytest.approx, interval(gains)))


def test_no_image_of_meta_test_has_a_say(searched, tried):
    config, parts, state, bench = searched
    table, rows = parts.dataset.table, []
    for k in np.asarray(split_classes(table, "meta_test")):
        rows.append(np.arange(*np.asarray(table.offsets)[k : k + 2]))
    other = table._replace(images=table.images.at[np.concatenate(rows)].set(0))
    assert try_search(config, _with(parts, other), state, bench, QUIET) == tried
    rows = np.arange(*np.asarray(table.offsets)[[int(table.meta_valid[0]), int(table.meta_valid[-1]) + 1]])
    other = table._replace(images=table.images.at[rows].set(0))
    assert try_search(config, _with(parts, other), state, bench, QUIET) != tried


def _with(parts, table):
    return parts._replace(dataset=dataclasses.replace(parts.dataset, table=table))


def test_meta_valid_and_meta_test_are_drawn_by_one_program(finished, searched, tried):
    config, parts, state, _ = searched
    compiled = []
    note = make_progress({}, quiet=True)._replace(note=compiled.append)
    bench = open_bench(config, parts, note)
    assert try_search(config, parts, state, bench, note) == tried
    meta_test(config, parts, state, note, bench, PAYS)
    assert sum(text.startswith("compiled") for text in compiled) == 2  # of choosing and of scoring
    for valid, split in ((True, "meta_valid"), (False, "meta_test")):
        drawn = episodes_of(config, parts, jnp.arange(2), parts.dataset.table, jnp.asarray(valid))
        truth = fixed_episodes(
            parts.dataset.fingerprint, split, config.protocol.seed, jnp.arange(2), parts.dataset.table,
            parts.test_spec, parts.normalise,
        )  # fmt: skip
        assert all(np.array_equal(a, b) for a, b in zip(drawn, truth, strict=True))


def test_where_the_trial_shows_no_gain_adapted_is_the_shared_best(searched, monkeypatch):
    config, parts, state, bench = searched
    searched_for = meta_test(config, parts, state, QUIET, bench, PAYS)
    assert np.any(np.asarray(searched_for.chosen["adapted"]) != np.asarray(state.best))
    for other in (None, LOSES._replace(shots=5)):  # no trial, or of other tasks
        again = meta_test(config, parts, state, QUIET, bench, other)
        assert np.array_equal(again.chosen["adapted"], searched_for.chosen["adapted"])
    monkeypatch.setattr(module, "choose", None)  # nothing is searched for
    score, scored = bench.scorers["inductive"], []

    def counted(*given):
        scored.append(np.asarray(given[1]))
        return score(*given)

    kept = meta_test(config, parts, state, QUIET, bench._replace(scorers={"inductive": counted}), LOSES)
    assert kept.rows["adapted"] == kept.rows["best"]
    assert len(scored) == 2  # once for both rows, and once for the seconds
    assert np.all(np.asarray(kept.chosen["adapted"]) == np.asarray(state.best))


def test_a_novel_task_keeps_to_the_trial_unless_a_search_is_asked_for(finished, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 10, 10), np.uint8)
    network = load_meta_network(finished.workdir)
    assert network.trial is None
    save_meta_network(str(tmp_path), network._replace(trial=LOSES))
    network = load_meta_network(str(tmp_path))
    assert network.trial == LOSES
    kept = adapt_to(network, images[:3], [0, 1, 2], estimate=False)
    assert kept.about["kept_by_trial"] == trial_to_dict(LOSES) and kept.about["evaluations"] == 0
    assert np.array_equal(kept.genotype, network.population[0])
    assert kept.about["found"] == kept.about["genotype"] and kept.about["found_is_better_by"] is None
    said = verdict(Adaptation(*(kept if name == "network" else None for name in Adaptation._fields)))
    assert "nothing was searched for" in said and "-2.00 ± 1.00 points" in said
    patient = network.config.copy_and_resolve_references()
    patient.adapt.seconds = 0.01
    for given, labels, options in (
        (network, [0, 1, 2], {"generations": 1}),
        (network, [0, 1, 2], {"max_params": 10**6}),
        (network._replace(config=patient), [0, 1, 2], {}),  # a trial cannot keep seconds
        (network, [0, 0, 1, 1, 2, 2], {}),  # the trial was of single images
        (network._replace(trial=PAYS), [0, 1, 2], {}),
        (network._replace(trial=None), [0, 1, 2], {}),
    ):
        found = adapt_to(given, images[: len(labels)], labels, estimate=False, **options)
        assert found.about["kept_by_trial"] is None and found.about["evaluations"] > 0


def test_a_run_tries_its_search_and_says_so(finished, searched, tried, tmp_path):
    config, parts, state, bench = searched
    notes = {"history": [], **dict.fromkeys(("meta_train_s", "search_s", "control_s", "compile_s"), 0.0)}
    results = report(config, parts, state, notes, QUIET, str(tmp_path), bench, tried, lambda: 7.0)
    assert results["ledger"]["meta_test_s"] == 7 and results["ledger"]["search_s"] == 0
    assert results["trial"] == trial_to_dict(tried)
    assert "10 tasks of meta_valid, 1 image a class" in results_table(results)
    assert meta_network(config, parts, state, tried).trial == tried
    record = read_run(finished.workdir)
    assert "Trial of" not in section(record, lambda *_: "").body
    assert "10 tasks of meta_valid" in section(record._replace(results=results), lambda *_: "").body


def test_a_run_that_is_tested_again_is_tried_again_unless_its_choices_are_asked_for(finished, tmp_path):
    workdir = shutil.copytree(finished.workdir, tmp_path / "run")

    def tested(rows, **changes):
        named = {"adapt.trials": 6} | {f"adapt.{name}": value for name, value in changes.items()}
        return test_again(str(workdir), named, rows=rows, quiet=True)

    tried = tested(("adapted", "best"))
    assert tried["trial"]["episodes"] == 6
    if not tried["trial"]["pays"]:
        assert tried["meta_test"]["adapted"] == tried["meta_test"]["best"]
    asked = tested(("adapted", "best"), margin=-1.0)
    assert "trial" not in asked and asked["config"]["adapt"]["trials"] == 0
    assert asked["meta_test"]["adapted"]["params"] != asked["meta_test"]["best"]["params"]
    other = tested(("best",))
    assert "trial" not in other and other["config"]["adapt"]["trials"] == 6  # merges with other seeds


def test_the_curve_of_a_task_is_of_searches_where_the_trial_keeps(searched, monkeypatch):
    config, parts, state, bench = searched
    kept = meta_test(config, parts, state, QUIET, bench, LOSES)
    free = meta_test(config, parts, state, QUIET, bench)
    assert kept.kept and not free.kept
    last = free.rows["adapted"]["accuracy"]
    assert last != kept.rows["adapted"]["accuracy"]
    monkeypatch.setattr(curves, "compiled", lambda *_, **__: bench.choice)  # of any number of generations
    for found in (kept, free):
        points = gather(Asked(generations=True), config, parts, state, [], bench, found, QUIET)
        points = points["adaptation_generations"]["inductive"]
        assert [point["generation"] for point in points] == [0, 1, 2]
        assert points[0]["accuracy"] == kept.rows["best"]["accuracy"] and points[-1]["accuracy"] == last


def test_merged_seeds_say_in_how_many_the_search_pays():
    runs = [{"trial": trial_to_dict(LOSES)}, {"trial": trial_to_dict(PAYS)}, {}]
    assert _tried(runs) == ["a search on the support pays in 1 of 2 trials of 3 runs; else adapted is best"]
    assert _tried([{}, {}]) == []


def test_one_trial_has_no_interval(tiny):
    with pytest.raises(ValueError, match="trials 1 has no interval"):
        check_config(tiny({"adapt.trials": 1}))
