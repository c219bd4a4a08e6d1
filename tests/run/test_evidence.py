"""Evidence of one finished run: curves and fronts are what separate evaluations say, and nothing is compiled twice."""

import copy
import json
import shutil
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.evaluate import score_each
from atnas_jax.evidence import meta_test as module
from atnas_jax.evidence.choose import episodes_of
from atnas_jax.evidence.evidence import Asked, check_asked, evidence_text, kept_evidence
from atnas_jax.evidence.front import on_front_of
from atnas_jax.evidence.paired import derangement
from atnas_jax.job.build import build
from atnas_jax.job.checkpoint import open_checkpoints, restore_latest
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.results import check_results
from atnas_jax.job.spaces import hand_made
from atnas_jax.job.state import init_state, ranked_population
from atnas_jax.run import search
from atnas_jax.run.search import test_again
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.equivalents import canonical, distinct
from atnas_jax.space.slots import mask_of
from atnas_jax.space.text import parse, to_text

test_again.__test__ = False  # pytest takes it for a test
ASKED = Asked(paired=True, inner_steps=(0, 1, 3), generations=True, front=6)


class Again(NamedTuple):
    """A finished run tested again with all evidence."""

    results: dict[str, Any]
    found: Any  # of `meta_test`
    compiled: Counter
    searches: list[bool]  # at random or not, of every choice


@pytest.fixture(scope="module")
def again(finished, tmp_path_factory):
    """The finished run tested again; what was compiled and chosen was counted."""
    workdir = str(shutil.copytree(finished.workdir, tmp_path_factory.mktemp("again") / "run"))
    compiled, searches, kept = Counter(), [], []
    choose, meta_test = module.choose, module.meta_test

    def listen(event, _, **about):
        if event == "/jax/core/compile/backend_compile_duration" and not kept.count("done"):
            compiled[about["fun_name"]] += 1

    def counted(config, parts, state, choice, at_random, clock):
        searches.append(at_random)
        return choose(config, parts, state, choice, at_random, clock)

    def watched(*args):
        kept.append(meta_test(*args))
        return kept[0]

    jax.monitoring.register_event_duration_secs_listener(listen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "choose", counted)
        patch.setattr(search, "meta_test", watched)
        results = test_again(workdir, {}, asked=ASKED, quiet=True)
    kept.append("done")
    with open(f"{workdir}/results.json") as file:
        assert json.load(file) == json.loads(json.dumps(results))
    return Again(results, kept[0], compiled, searches)


@pytest.fixture(scope="module")
def searched(finished):
    """The parts and the last state of the finished run."""
    parts = build(finished.config)
    manager = open_checkpoints(finished.workdir)
    state, _ = restore_latest(manager, init_state(finished.config, parts))
    manager.close()
    return parts, state


def _score(row):
    return {name: row[name] for name in ("accuracy", "ci95", "episodes")}


def _tables(results):
    return {"inductive": results["meta_test"], "transductive": results["meta_test_other"]["rows"]}


def test_the_table_stays_and_one_program_a_mode_scores_everything(finished, again):
    for name in ("meta_test", "meta_test_other", "history", "genotype"):
        assert again.results[name] == finished.results[name]
    assert again.searches == [False, True]  # adapted and random_search; the permutation has none
    assert again.compiled["jit(score)"] == 2  # all rows, inner steps, generations and points of fronts
    assert again.compiled["jit(choose_all)"] == 2  # of two generations, and of one for the curve


def test_the_permuted_row_is_the_choice_of_another_episode(finished, searched, again):
    parts, state = searched
    chosen = again.found.chosen["adapted"]
    row = module.plan(finished.config, parts, state, "permuted_architecture", again.found.chosen, {})
    assert np.array_equal(row.genotypes[0], np.asarray(chosen)[derangement(6)])
    assert row.steps == finished.config.learner.inner_steps
    table = again.results["meta_test"]  # the same genotypes, elsewhere
    assert table["permuted_architecture"]["params"] == pytest.approx(table["adapted"]["params"])
    assert len(np.unique(chosen, axis=0)) > 1
    same = again.results["evidence"]["permutation"]["same_genotype"]
    assert same == np.mean([np.array_equal(chosen[i], chosen[(i + 1) % 6]) for i in range(6)])


def test_paired_differences_are_of_the_rows_of_the_table(again):
    for mode, rows in _tables(again.results).items():
        found = again.results["evidence"]["paired"][mode]
        assert ("adapted", "permuted_architecture") in {(d["row"], d["minus"]) for d in found}
        for d in found:
            expected = rows[d["row"]]["accuracy"] - rows[d["minus"]]["accuracy"]
            assert d["difference"] == pytest.approx(expected, abs=1e-6)


def test_inner_steps_are_those_of_separate_evaluations(finished, searched, again):
    parts, state = searched
    for mode, rows in _tables(again.results).items():
        curves = again.results["evidence"]["inner_steps"][mode]
        assert list(curves) == ["best", "conv4"]
        assert _score(curves["best"][0]) == _score(rows["zero_steps"])
        for name in ("best", "conv4"):
            assert [point["steps"] for point in curves[name]] == [0, 1, 3]
            assert _score(curves[name][1]) == _score(rows[name])
    assert finished.config.learner.inner_steps == 1
    learner = evaluation_learner(finished.config, parts.space, parts.image_shape, 3, inner_steps=3)
    curves, index = again.results["evidence"]["inner_steps"]["inductive"], jnp.arange(6)

    @jax.jit
    def accuracy(params, genotype):
        masks = jnp.broadcast_to(mask_of(parts.space, genotype), (6, *mask_of(parts.space, genotype).shape))
        return score_each(learner, params, masks, episodes_of(finished.config, parts, index, parts.dataset.table))[0]

    for name, params, genotype in (
        ("best", state.meta.params, state.best),
        ("conv4", state.control.params, hand_made(parts.space)),
    ):
        assert curves[name][2]["accuracy"] == pytest.approx(float(accuracy(params, genotype).mean()), abs=1e-6)


def test_generations_end_where_the_rows_are(finished, searched, again):
    parts, state = searched
    evidence = again.results["evidence"]
    for mode, rows in _tables(again.results).items():
        task, run = evidence["adaptation_generations"][mode], evidence["search_generations"][mode]
        assert [point["generation"] for point in task] == [0, 1, 2]
        assert _score(task[0]) == _score(rows["best"])
        assert _score(task[-1]) == _score(rows["adapted"])
        assert [(p["generation"], p["genotype"]) for p in run] == [
            (row["generation"], row["best_genotype"]) for row in finished.results["history"]
        ]
        genotypes = jnp.asarray([parse(parts.space, point["genotype"]) for point in run])
        for point, genotype in zip(run, genotypes):
            if np.array_equal(genotype, state.best):
                assert _score(point) == _score(rows["best"])


def test_the_front_is_of_the_population_and_as_many_random_genotypes(searched, again):
    parts, state = searched
    front = again.results["evidence"]["front"]
    assert front["normalisation"] == "inductive"
    groups = {group: [p for p in front["points"] if p["group"] == group] for group in ("population", "random")}
    population = distinct(parts.space, np.asarray(ranked_population(state)))
    assert [p["genotype"] for p in groups["population"]] == [to_text(parts.space, row) for row in population]
    assert len(groups["random"]) == len(population)
    for points in groups.values():
        rows = np.asarray([parse(parts.space, point["genotype"]) for point in points])
        assert len(np.unique(canonical(parts.space, rows), axis=0)) == len(population)
    assert groups["population"][0]["genotype"] == again.results["genotype"]
    for point in front["points"]:
        cost = parts.cost(jnp.asarray(parse(parts.space, point["genotype"])))
        assert (point["params"], point["macs"]) == tuple(map(int, cost))
        assert point["episodes"] == 3
    best = again.found.accuracies["inductive"]["best"]
    assert groups["population"][0]["accuracy"] == pytest.approx(best[1::2].mean())
    for points in groups.values():  # the cheapest one is on a front, whatever its accuracy, or ties with one that is
        cheapest = min(p["params"] for p in points)
        assert any(p["params_front"] for p in points if p["params"] == cheapest)


def test_a_front_by_hand():
    accuracy, cost = np.asarray([0.5, 0.6, 0.6, 0.4, 0.7]), np.asarray([10, 20, 30, 10, 2**30 + 1])
    assert on_front_of(accuracy, cost).tolist() == [True, True, False, False, True]
    assert on_front_of(np.asarray([0.5, 0.5]), np.asarray([2**30, 2**30 + 1])).tolist() == [True, False]


def test_slots_beyond_the_depth_of_a_chain_make_no_other_network():
    space = chain_space(ChainSpec(ops=(("conv3", "max3"),) * 2, widths=(4, 8), depths=(1, 2), strides=(2, 2)))
    texts = [f"chain:{text}" for text in ("d2/max3-8/max3-8", "d1/conv3-8/max3-8", "d2/conv3-8/max3-4")]
    rows, same = [parse(space, text) for text in texts], parse(space, "chain:d1/conv3-8/conv3-8")
    found = distinct(space, np.asarray([rows[0], rows[1], same, rows[2], rows[0]]))
    assert [to_text(space, row) for row in found] == texts


def test_results_with_evidence_are_of_the_schema(again):
    check_results(again.results)
    text = evidence_text(again.results["evidence"])
    assert max(map(len, text.splitlines())) <= 120
    for words in ("adapted - permuted_architecture", "steps", "final weights", "task's support", "random "):
        assert words in text
    for path, value, says in (
        (("paired", "inductive", 0, "row"), 1, r"evidence\.paired\.inductive\[0\]\.row is 1"),
        (("front", "points", 0, "params_front"), 1, "params_front is 1; it must be a bool"),
        (("inner_steps", "inductive", "best"), {}, "must be a list"),
        (("wrong",), 1, "unknown key 'wrong'"),
    ):
        results = copy.deepcopy(again.results)
        inner = results["evidence"]
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = value
        with pytest.raises(ValueError, match=says):
            check_results(results)


def test_evidence_of_other_episodes_or_another_search_on_them_does_not_stay(again):
    before = again.results
    now = {"config": before["config"], "meta_test": before["meta_test"], "evidence": {"paired": {}}}
    assert kept_evidence(before, now) == before["evidence"] | {"paired": {}}
    older = copy.deepcopy(before)
    del older["config"]["adapt"]["seconds"]  # a run that had no such setting yet
    assert kept_evidence(older, now) == before["evidence"] | {"paired": {}}
    for section, name in (("protocol", "seed"), ("adapt", "margin"), ("learner", "eval_inner_steps")):
        other = copy.deepcopy(now)
        other["config"][section][name] = 3
        assert kept_evidence(before, other) == {"paired": {}}
    tried = now | {"trial": {"pays": False}, "evidence": {}}  # `adapted` was chosen otherwise, all else was not
    assert set(kept_evidence(before, tried)) == {"inner_steps", "search_generations", "front"}
    assert kept_evidence(before, tried | {"meta_test": {"best": {}}}) == before["evidence"]


@pytest.mark.parametrize("asked", [Asked(inner_steps=(0, -1)), Asked(front=3), Asked(front=601)])
def test_what_cannot_be_asked_is_refused_in_one_line(asked):
    with pytest.raises(ValueError, match="it must be") as caught:
        check_asked(asked, 600)
    assert "\n" not in str(caught.value)
