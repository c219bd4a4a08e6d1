"""The across-task search from end to end: what it writes, what it refuses, what it compiles."""

import csv
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.data.episodes import fixed_episodes
from atnas_jax.data.sources import load
from atnas_jax.job.budget import rungs_of
from atnas_jax.job.build import build
from atnas_jax.job.config import check_config, stored_config
from atnas_jax.job.defaults import ROWS
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.progress import make_progress
from atnas_jax.job.results import check_results, results_table
from atnas_jax.job.spaces import hand_made, make_space
from atnas_jax.job.state import init_state
from atnas_jax.report.accuracy import protocol_text
from atnas_jax.report.read import read_run
from atnas_jax.run import search
from atnas_jax.run.search import across_task_search, test_again
from atnas_jax.run.steps import make_programs
from atnas_jax.run.units import generations_due, run_units
from atnas_jax.space.cost import cost_model
from atnas_jax.space.text import parse, space_from_dict

OF_ALL = {"step", "phase", "generation", "seconds", "episodes_per_s"}
OF_TRAINING = OF_ALL | {"loss", "accuracy", "grad_norm", "learning_rate", "skipped"}
OF_SEARCH = OF_ALL | {"best_fitness", "mean_fitness", "best_genotype", "params", "macs"}
test_again.__test__ = False  # pytest takes it for a test


def _read(workdir, name):
    with open(os.path.join(workdir, name), encoding="utf-8") as file:
        return file.read()


def test_the_results_are_whole(finished, tiny_data):
    results = finished.results
    check_results(results)
    assert tuple(results["meta_test"]) == tuple(results["meta_test_other"]["rows"]) == ROWS
    assert (results["protocol"]["normalisation"], results["meta_test_other"]["normalisation"]) == (
        "inductive",
        "transductive",
    )
    assert results["data"]["fingerprint"] == load(str(tiny_data)).fingerprint
    assert results["data"]["class_counts"] == {"meta_train": 8, "meta_valid": 6, "meta_test": 6}
    assert {row["episodes"] for row in results["meta_test"].values()} == {6}
    assert all(seconds >= 0 for seconds in results["ledger"].values())


def test_the_stored_config_is_the_one_that_ran(finished):
    for stored in (finished.results["config"], json.loads(_read(finished.workdir, "config.json"))):
        config = stored_config(stored)
        check_config(config)
        assert config == finished.config


def test_the_genotype_and_its_costs_belong_together(finished):
    space = make_space(finished.config)
    assert space_from_dict(finished.results["space"]) == space
    genotype = parse(space, finished.results["genotype"])
    cost = cost_model(space, (10, 10, 1), finished.config.net.readout, 3)(jnp.asarray(genotype))
    assert (finished.results["params"], finished.results["macs"]) == tuple(map(int, cost))
    row = finished.results["meta_test"]["best"]
    assert (row["params"], row["macs"]) == tuple(map(int, cost))


def test_metrics_have_a_row_per_chunk_and_per_generation(finished):
    rows = [json.loads(line) for line in _read(finished.workdir, "metrics.jsonl").splitlines()]
    steps = {phase: [row["step"] for row in rows if row["phase"] == phase] for phase in {row["phase"] for row in rows}}
    assert steps == {"meta_train": [2, 4, 6, 8], "search": [4, 8], "control": [10, 12, 14, 16]}
    assert [row["generation"] for row in rows if row["phase"] == "search"] == [1, 2]
    table = list(csv.DictReader(_read(finished.workdir, "metrics.csv").splitlines()))
    assert [(row["phase"], int(row["step"])) for row in table] == [(row["phase"], row["step"]) for row in rows]
    assert [row["best_genotype"] for row in rows if row["phase"] == "search"] == [
        generation["best_genotype"] for generation in finished.results["history"]
    ]
    for row in rows:
        assert set(row) == (OF_SEARCH if row["phase"] == "search" else OF_TRAINING)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[0] > 0
    rates = [0.005 * (1 + np.cos(np.pi * step / 8)) for step in (1, 3, 5, 7)]  # of the last step of each chunk of two
    found = [[row["learning_rate"] for row in rows if row["phase"] == phase] for phase in ("meta_train", "control")]
    np.testing.assert_allclose(found, [rates, rates], rtol=1e-5)
    space = make_space(finished.config)
    cost = cost_model(space, (10, 10, 1), finished.config.net.readout, 3)
    for row in rows:
        if row["phase"] == "search":
            genotype = jnp.asarray(parse(space, row["best_genotype"]))
            assert (row["params"], row["macs"]) == tuple(map(int, cost(genotype)))


def test_each_program_is_compiled_once_for_all_masks_steps_and_generations(finished):
    wanted = {"train_chunk": 1, "draw": 1, "ask": 1, "fitness": 1, "tell": 1, "choose_all": 1}
    assert {name: finished.compiled.get(f"jit({name})") for name in wanted} == wanted
    assert finished.compiled["jit(score)"] == 2  # normalisations
    assert finished.late == []  # units 2 and 3, the second generation among them


def test_a_finished_run_is_read_and_not_run_again(finished, monkeypatch):
    def never(*_):
        raise AssertionError("ran again")

    monkeypatch.setattr(search, "run_units", never)
    monkeypatch.setattr(search, "meta_test", never)
    before = _read(finished.workdir, "results.json")
    assert across_task_search(finished.config, finished.workdir, quiet=True) == json.loads(before)
    assert _read(finished.workdir, "results.json") == before


def test_another_config_in_the_workdir_is_refused_in_one_line(finished, tiny):
    with pytest.raises(ValueError, match=r"other settings \(search.episodes, seed\)") as caught:
        across_task_search(tiny({"search.episodes": 5, "seed": 1}), finished.workdir, quiet=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"space.chain.ops": ("sep3", "identity")}, "needs op 'conv3' in block 0.*meta_test.conv4 to False"),
        ({"search.max_params": 5}, "max_params 5 .* leave none of 4096 random genotypes"),
        ({"protocol.ways": 7}, "ways=7 but meta_valid of npz:tiny.npz has 6 classes"),
        ({"train.queries": 10}, "has only 10 images"),
        ({"data.source": "nowhere.npz"}, "nowhere.npz does not exist"),
        ({"train.steps": 7}, "train.steps 7 is not a multiple"),
        ({"space.chain.depths": (1, 3)}, "the last of depths is 3"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(tiny, tmp_path, changes, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        across_task_search(tiny(changes), str(tmp_path / "run"), quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("chunks", [1, 2, 3, 10, 37])
@pytest.mark.parametrize("generations", [1, 2, 5, 12])
@pytest.mark.parametrize(("warmup", "finish"), [(0.0, 0.0), (0.3, 0.0), (0.9, 0.0), (0.3, 0.5), (0.5, 0.49)])
def test_every_generation_is_held_and_the_last_before_the_finish(tiny, chunks, generations, warmup, finish):
    settings = {"train.steps": 2 * chunks, "search.generations": generations}
    due = generations_due(tiny(settings | {"train.warmup": warmup, "train.finish": finish}))
    assert len(due) == generations
    assert due == sorted(due) and due[-1] == chunks - int(finish * chunks) - 1
    assert due[0] >= max(int(warmup * chunks) - 1, 0)


def test_a_genotype_beyond_the_limits_never_has_the_best_fitness(tiny):
    config = tiny({"search.max_params": 240})
    parts = build(config)
    scorer = evaluation_learner(config, parts.space, parts.image_shape, 3)
    programs = make_programs(config, parts, scorer, {"compile_s": 0.0})
    state = init_state(config, parts)
    genotypes = jnp.concatenate([hand_made(parts.space)[None], state.search.population[1:]])
    fits = np.asarray(cost_model(parts.space, (10, 10, 1), "flatten", 3)(genotypes)[:, 0]) <= 240
    assert not fits[0] and fits[1:].any()
    rungs = rungs_of(config, config.search.episodes)
    fitness, _, _ = programs.fitness(
        state.meta.params, genotypes, jnp.arange(len(genotypes)), rungs, jnp.int32(0), parts.dataset.table
    )
    assert np.isfinite(fitness[:, 0]).tolist() == fits.tolist()


def test_the_meta_test_of_a_finished_run_can_be_done_again(short, tmp_path):
    workdir = str(shutil.copytree(short.workdir, tmp_path / "copy"))
    again = test_again(workdir, {"protocol.seed": 0}, quiet=True)
    assert json.loads(_read(workdir, "results.json")) == json.loads(json.dumps(again))
    assert json.loads(json.dumps(again | {"ledger": 0})) == short.results | {"ledger": 0}
    other = test_again(workdir, {"protocol.ways": 2, "protocol.shots": 2}, rows=("best", "no_adaptation"), quiet=True)
    assert (other["protocol"]["ways"], other["protocol"]["shots"]) == (2, 2)
    assert {name: row["accuracy"] for name, row in other["meta_test"].items()}["no_adaptation"] == 0.5
    assert list(other["meta_test"]) == ["best", "no_adaptation"]
    assert other["params"] == other["meta_test"]["best"]["params"] != short.results["params"]  # a smaller head
    assert read_run(workdir).config.protocol.ways == 2  # what the page says of the table
    assert across_task_search(short.config, workdir, quiet=True) == json.loads(json.dumps(other))  # config.json stays
    turned = test_again(workdir, {"protocol.rotations": True}, rows=("best",), quiet=True)
    for say in (results_table, protocol_text):
        assert ["rotated classes" in say(results) for results in (turned, short.results)] == [True, False]
    with np.load(os.path.join(workdir, "meta_test.npz")) as shown:
        support = shown["support"]
    config = read_run(workdir).config
    parts, index = build(config), jnp.arange(len(support))
    expected, upright = (
        fixed_episodes(
            parts.dataset.fingerprint, "meta_test", 0, index, parts.dataset.table, parts.test_spec, rotations=rotations
        ).support_x.reshape(support.shape)
        for rotations in (True, False)
    )
    assert config.protocol.rotations and not np.allclose(support, np.rint(255 * upright))
    np.testing.assert_array_equal(support, np.rint(255 * expected))
    with pytest.raises(FileNotFoundError, match="holds no finished search"):
        test_again(str(tmp_path), {}, quiet=True)
    with pytest.raises(ValueError, match=r"protocol\.episodes is 1"):
        test_again(workdir, {"protocol.episodes": 1}, quiet=True)


def test_a_finished_run_whose_data_moved_is_tested_by_another_margin(short, tmp_path):
    workdir, moved = shutil.copytree(short.workdir, tmp_path / "copy"), str(tmp_path / "moved.npz")
    shutil.copy(short.config.data.source, moved)
    config = short.config.copy_and_resolve_references()
    config.data.source = str(tmp_path / "gone.npz")
    with pytest.raises(ValueError, match=r"\(data.source\); --accept_changes keeps these for launch.meta_test"):
        across_task_search(config, str(workdir), quiet=True)
    assert across_task_search(config, str(workdir), quiet=True, accept_changes=True) == short.results
    assert json.loads(_read(workdir, "config.json"))["data"]["source"] == config.data.source
    again = test_again(str(workdir), {"data.source": moved, "adapt.margin": 50.0}, quiet=True)
    assert (again["config"]["data"]["source"], again["config"]["adapt"]["margin"]) == (moved, 50.0)
    assert again["meta_test"]["adapted"] == again["meta_test"]["best"] == short.results["meta_test"]["best"]
    assert short.results["meta_test"]["adapted"]["params"] != again["meta_test"]["adapted"]["params"]


def test_a_row_that_was_not_trained_is_refused(short, tmp_path):
    config = short.config.copy_and_resolve_references()
    config.meta_test.conv4 = False
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    shutil.copy(os.path.join(short.workdir, "results.json"), tmp_path)
    with pytest.raises(ValueError, match=r"rows has 'conv4', which .* did not train"):
        test_again(str(tmp_path), {}, rows=("best", "conv4"), quiet=True)


def test_one_device_finds_what_two_found(short, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    alone = across_task_search(short.config, str(tmp_path), quiet=True)
    assert json.loads(json.dumps(alone | {"ledger": 0})) == short.results | {"ledger": 0}


def test_racing_scores_less_and_chooses_by_the_same_measure(tiny):
    config = tiny({"search.population": 8, "search.episodes": 8})
    parts = build(config)
    scorer = evaluation_learner(config, parts.space, parts.image_shape, 3)
    programs = make_programs(config, parts, scorer, {"compile_s": 0.0})
    state, table = init_state(config, parts), parts.dataset.table
    found = {}
    for racing in ("halving", "none"):
        config.search.racing = racing
        args = jnp.arange(8), rungs_of(config, 8), jnp.int32(0), table
        found[racing] = programs.fitness(state.meta.params, state.search.population, *args)
    (raced, scored, order), (whole, scored_all, _) = found["halving"], found["none"]
    assert (int(scored), int(scored_all)) == (8 * 2 + 4 * 2 + 2 * 4, 64)
    finalists = np.asarray(order[:2])  # these have seen all episodes
    np.testing.assert_allclose(raced[finalists, 0], whole[finalists, 0], atol=1e-6)
    config.search.update({"racing": "halving", "strategy": "nsga2", "objectives": ("accuracy", "params")})
    assert (rungs_of(config, 8) == (8, 8)).all()


def test_a_search_by_a_distribution_is_resumable_and_keeps_its_limit_by_repair(tiny, tmp_path):
    changes = {"search.strategy": "asng", "search.max_params": 200, "search.over_limit": "repair"}
    short = {"meta_test.rows": ("best",), "meta_test.conv4": False, "meta_test.other_normalisation": False}
    config = tiny(changes | short | {"search.anchor": "never"})
    parts = build(config)
    across_task_search(config, str(tmp_path), quiet=True)
    state, notes = run_units(config, parts, str(tmp_path), make_progress({}, quiet=True))  # of the checkpoint
    assert (parts.cost(state.search.population)[:, 0] <= 200).all()
    assert int(state.search.generation) == len(notes["history"]) == 2
    assert abs(float(state.search.memory.probabilities.sum()) - parts.space.num_slots) < 1e-4


def test_other_data_than_that_of_the_run_is_refused(short, tmp_path):
    with np.load(short.config.data.source) as file:
        arrays = dict(file)
    arrays["images"][0, 0, 0] ^= 1
    np.savez(tmp_path / "other.npz", **arrays)
    workdir = shutil.copytree(short.workdir, tmp_path / "copy")
    config = short.config.copy_and_resolve_references()
    config.data.source = str(tmp_path / "other.npz")
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))  # as if the file itself had changed
    with pytest.raises(ValueError, match="no longer the data of this run"):
        test_again(str(workdir), {}, quiet=True)
    (workdir / "results.json").unlink()
    with pytest.raises(ValueError, match="no longer the data of this run"):
        across_task_search(config, str(workdir), quiet=True)
    assert not (workdir / "results.json").exists()
