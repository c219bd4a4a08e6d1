"""The meta-test: every row on the same episodes, nothing learned from a query, no class seen before."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax import evaluate
from atnas_jax.adaptation import adapt_architecture
from atnas_jax.compiler import compile_on
from atnas_jax.devices import on_mesh, replicated
from atnas_jax.evidence import choose
from atnas_jax.evidence import meta_test as module
from atnas_jax.evidence import rows as rows_of
from atnas_jax.evidence.choose import META_TEST, chooser, warm_population
from atnas_jax.evidence.meta_test import make_scorer, meta_test
from atnas_jax.evidence.rows import plan
from atnas_jax.job.budget import rungs_of
from atnas_jax.job.build import build
from atnas_jax.job.checkpoint import open_checkpoints, restore_latest
from atnas_jax.job.defaults import ROWS
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.progress import make_progress
from atnas_jax.job.spaces import hand_made
from atnas_jax.job.state import init_state
from atnas_jax.pseudo import needs_copies, pseudo_episodes, pseudo_rows
from atnas_jax.rng import stream
from atnas_jax.run.steps import make_programs
from atnas_jax.search.genetic import genetic
from atnas_jax.search.random_search import random_search
from atnas_jax.space.slots import mask_of

meta_test.__test__ = False  # pytest takes it for a test
QUIET = make_progress({}, quiet=True)


def changed(config, changes):
    """Return a copy of a config with some settings changed."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def searched(finished):
    """The parts and the last state of the finished run."""
    parts = build(finished.config)
    manager = open_checkpoints(finished.workdir)
    state, _ = restore_latest(manager, init_state(finished.config, parts))
    manager.close()
    return parts, state


def test_the_same_architecture_and_weights_score_the_same_in_every_row(finished, searched, monkeypatch):
    parts, state = searched
    monkeypatch.setattr(choose, "CHUNK", 4)
    monkeypatch.setattr(module, "choose", lambda *_: (jnp.broadcast_to(state.best, (6, parts.space.num_slots)), 0.0))
    monkeypatch.setattr(rows_of, "random_rows", lambda *_: np.stack([state.best] * 2))
    monkeypatch.setattr(rows_of, "hand_made", lambda _: state.best)
    control = jax.tree.map(jnp.copy, state.meta)  # as good as `best`, and not known to be
    found = meta_test(finished.config, parts, state._replace(control=control), QUIET)
    assert tuple(found.rows) == tuple(found.other["rows"]) == ROWS
    for rows, expected in (
        (found.rows, finished.results["meta_test"]["best"]),
        (found.other["rows"], finished.results["meta_test_other"]["rows"]["best"]),
    ):
        same = ("adapted", "best", "permuted_architecture", "random_architecture", "random_search", "conv4")
        assert rows["random_architecture"].pop("architecture_sd") == 0
        assert [rows[name] for name in same] == [expected] * len(same)
        assert expected["ci95"] > 0


def test_the_spread_is_over_the_means_of_genotypes():
    assert module.spread([np.asarray([0.2, 0.4]), np.asarray([0.6, 0.8])]) == {
        "architecture_sd": pytest.approx(0.4 / 2**0.5)
    }
    assert module.spread([np.asarray([0.2, 0.4])]) == {}


def test_the_chunks_change_nothing(finished, searched):
    config = changed(finished.config, {"meta_test.rows": ("best",), "meta_test.other_normalisation": False})
    assert len(choose.chunks_of(6)) == 1
    with pytest.MonkeyPatch.context() as patch:  # as of the finished run
        patch.setattr(choose, "CHUNK", 4)
        assert [chunk.tolist() for chunk in choose.chunks_of(6)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert meta_test(config, *searched, QUIET).rows == {"best": finished.results["meta_test"]["best"]}


def test_what_has_seen_no_support_is_at_chance(finished):
    for rows in (finished.results["meta_test"], finished.results["meta_test_other"]["rows"]):
        assert rows["no_adaptation"]["accuracy"] == pytest.approx(1 / 3, abs=1e-6)
        assert rows["no_adaptation"]["ci95"] == pytest.approx(0, abs=1e-6)
        assert rows["best"]["accuracy"] > 0.5  # the patterns of the classes can be told from their noise


def test_a_row_that_needs_no_training_of_its_own_can_be_left_out(finished, searched):
    names = ("conv4", "zero_steps")
    config = changed(finished.config, {"meta_test.conv4": False, "meta_test.rows": names})
    config.meta_test.other_normalisation = False
    found = meta_test(config, *searched, QUIET)
    assert tuple(found.rows) == ("zero_steps",) and found.other is None


def test_a_row_is_what_the_table_says_of_it(finished, searched):
    config, (parts, state) = finished.config, searched
    plans = {
        name: plan(config, parts, state, name, {}, {}) for name in ("best", "zero_steps", "no_adaptation", "conv4")
    }
    assert {name: row.steps for name, row in plans.items()} == {
        "best": config.learner.inner_steps, "zero_steps": 0, "no_adaptation": 0, "conv4": config.learner.inner_steps
    }  # fmt: skip
    assert config.learner.inner_steps > 0
    for name, weights, genotype in (
        ("best", state.meta.params, state.best),
        ("zero_steps", state.meta.params, state.best),
        ("conv4", state.control.params, hand_made(parts.space)),
    ):
        assert plans[name].params is weights
        assert np.array_equal(plans[name].genotypes, np.tile(genotype, (1, 6, 1)))
    assert plans["no_adaptation"].params["body"] is state.meta.params["body"]


def _chosen(config, parts, state, change, monkeypatch):
    """Return chosen(at_random) -> genotypes [6,E] by the meta-test's own program, on episodes changed by `change`."""
    truth = choose.episodes_of
    warm = warm_population(config, state)
    args = (state.meta.params, warm, jnp.asarray(False), jnp.arange(6), parts.dataset.table)
    with monkeypatch.context() as patch:
        patch.setattr(choose, "episodes_of", lambda *given: change(truth(*given)))
        # As a run does, or ties may differ.
        program = compile_on(parts.mesh, chooser(config, parts), args, by_core=parts.by_core)

    def chosen(at_random=False):
        given = (*args[:2], jnp.asarray(at_random), *args[3:])
        return np.asarray(program(*jax.device_put(given, replicated(parts.mesh))))

    return chosen


def _other_queries(episode):
    return episode._replace(query_x=jnp.full_like(episode.query_x, jnp.nan), query_y=episode.query_y[:, ::-1])


def test_queries_choose_no_architecture_by_folds_and_the_mix_either(finished, searched, monkeypatch):
    config = changed(finished.config, {"protocol.shots": 2, "adapt.score": "mix", "adapt.margin": 0.0})
    parts, state = searched
    parts = parts._replace(test_spec=dataclasses.replace(parts.test_spec, shots=2))
    expected, other = (
        _chosen(config, parts, state, change, monkeypatch)() for change in (lambda episode: episode, _other_queries)
    )
    assert np.array_equal(expected, other)
    assert len(np.unique(expected, axis=0)) > 1


def test_no_margin_is_wide_enough_and_the_shared_best_stays(finished, searched, monkeypatch):
    config, (parts, state) = changed(finished.config, {"adapt.margin": 1e9}), searched
    chosen = _chosen(config, parts, state, lambda episode: episode, monkeypatch)
    assert (chosen() == np.asarray(state.best)).all()
    assert not (chosen(at_random=True) == np.asarray(state.best)).all()  # which holds nothing against the shared best


def test_queries_choose_no_architecture(finished, searched, monkeypatch):
    parts, state = searched
    truths, others = (
        _chosen(finished.config, parts, state, change, monkeypatch)
        for change in (lambda episode: episode, _other_queries)
    )
    for name, at_random in (("adapted", False), ("random_search", True)):
        expected = truths(at_random)
        assert np.array_equal(expected, others(at_random))
        assert len(np.unique(expected, axis=0)) > 1  # the support does choose
        cost = np.asarray(parts.cost(expected), float).mean(0)
        row = finished.results["meta_test"][name]  # chosen in chunks of 4
        assert (row["params"], row["macs"]) == tuple(cost)


def test_one_program_chooses_as_each_strategy_alone_would(finished, searched):
    config, (parts, state) = changed(finished.config, {"adapt.margin": -1.0}), searched
    warm, size, labels = warm_population(config, state), config.adapt.population, np.arange(3)
    learner = evaluation_learner(config, parts.space, parts.image_shape, 3)
    rows = pseudo_rows(labels, config.adapt.folds, config.adapt.copies)
    both = jax.jit(on_mesh(chooser(config, parts), parts.mesh))
    found = {}
    for at_random, strategy, start in (
        (False, genetic(parts.space, population=size, elites=2), warm),
        (True, random_search(parts.space, population=size), None),
    ):

        def alone(number, x, y, strategy=strategy, start=start):
            first, second = jax.random.split(stream(config.seed, "adapt", number))
            pseudo = pseudo_episodes(first, x, y, rows, needs_copies(labels))
            rounds = config.adapt.generations
            return adapt_architecture(second, learner, parts.space, strategy, state.meta.params, start, pseudo, rounds)[
                0
            ]

        index = jnp.arange(6)
        episodes = choose.episodes_of(config, parts, index, parts.dataset.table)
        expected = jax.jit(lambda *given, alone=alone: jax.lax.map(lambda one: alone(*one), given))(
            index, episodes.support_x, episodes.support_y
        )
        found[at_random] = both(state.meta.params, warm, jnp.asarray(at_random), index, parts.dataset.table)
        np.testing.assert_array_equal(found[at_random], expected)
    assert not np.array_equal(found[True], found[False])


@pytest.mark.parametrize("normalisation", ["support", "batch_transductive"])
def test_a_prediction_looks_at_other_queries_only_where_it_says_so(finished, searched, normalisation):
    parts, state = searched
    learner = evaluation_learner(finished.config, parts.space, parts.image_shape, 3, normalisation=normalisation)
    mask = mask_of(parts.space, state.best)
    support, queries = jax.random.normal(jax.random.key(0), (2, 6, 10, 10, 1))
    adapted = learner.adapt(state.meta.params, mask, support, jnp.repeat(jnp.arange(3), 2))
    predict = jax.jit(lambda x: learner.predict(adapted, mask, support, x)[0])
    one, other = predict(queries), predict(queries.at[1:].add(5.0))
    assert np.allclose(one, other, atol=1e-5) == (normalisation == "support")


@pytest.mark.parametrize("normalisation", ["support", "batch_transductive"])
def test_the_program_of_an_inductive_row_scores_each_query_alone(finished, searched, monkeypatch, normalisation):
    parts, state = searched
    truth = module.episodes_of

    def moved(config, parts, index, given, valid):
        table, change = given
        episodes = truth(config, parts, index, table, valid)
        return episodes._replace(query_x=episodes.query_x.at[:, 1:].add(change))

    monkeypatch.setattr(module, "episodes_of", moved)
    # What the program makes accuracies of.
    monkeypatch.setattr(evaluate, "scores_of", lambda logits, *_: (logits, jnp.float32(0.0)))
    score = make_scorer(finished.config, parts, parts.space, normalisation)
    genotypes = jnp.broadcast_to(state.best, (6, len(state.best)))

    def logits(change):
        given = (parts.dataset.table, jnp.float32(change))
        return score_of(state.meta.params, genotypes, jnp.arange(6), jnp.int32(1), given)

    score_of = jax.jit(on_mesh(score, parts.mesh))
    one, other = logits(0.0), logits(3.0)
    assert one.shape == (6, 6, 3)
    assert (np.abs(one[:, 1:] - other[:, 1:]).max((1, 2)) > 1e-2).all()
    first = np.abs(one[:, 0] - other[:, 0]).max(-1)
    assert (first == 0).all() if normalisation == "support" else (first > 1e-4).all()


def test_splits_share_no_class(searched):
    table = searched[0].dataset.table
    splits = [set(np.asarray(ids).tolist()) for ids in (table.meta_train, table.meta_valid, table.meta_test)]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 20


def test_each_program_reads_the_images_of_its_own_split_alone(finished, searched):
    parts, state = searched
    table = parts.dataset.table
    learner = evaluation_learner(finished.config, parts.space, parts.image_shape, 3)
    programs = make_programs(finished.config, parts, learner, {"compile_s": 0.0})

    def blanked(*splits):
        owner = np.repeat(np.arange(20), np.diff(np.asarray(table.offsets)))
        gone = np.isin(owner, np.concatenate([np.asarray(getattr(table, split)) for split in splits]))
        return table._replace(images=jnp.where(gone[:, None, None, None], 0, table.images))

    def trained(table):
        state = init_state(finished.config, parts)
        genotypes = programs.draw(state.search, jnp.int32(0), jnp.float32(0), jnp.asarray(True))
        return programs.train(state.meta, genotypes, table)[0].params

    def fitness(table):
        state = init_state(finished.config, parts)
        population, rungs = state.search.population, rungs_of(finished.config, 4)
        order = jnp.arange(len(population))
        return programs.fitness(state.meta.params, population, order, rungs, jnp.int32(0), table)

    score = jax.jit(on_mesh(make_scorer(finished.config, parts, parts.space, "support"), parts.mesh))
    choice = jax.jit(on_mesh(chooser(finished.config, parts), parts.mesh))

    def tested(table):
        genotypes = jnp.broadcast_to(state.best, (6, len(state.best)))
        return score(state.meta.params, genotypes, jnp.arange(6), jnp.int32(1), table, META_TEST)

    def chosen(table):
        warm = warm_population(finished.config, state)
        return choice(state.meta.params, warm, jnp.asarray(False), jnp.arange(6), table, META_TEST)

    def same(a, b):
        return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))

    assert same(trained(table), trained(blanked("meta_valid", "meta_test")))
    assert not same(trained(table), trained(blanked("meta_train")))
    assert same(fitness(table), fitness(blanked("meta_train", "meta_test")))
    assert not same(fitness(table), fitness(blanked("meta_valid")))
    for program in (tested, chosen):
        assert same(program(table), program(blanked("meta_train", "meta_valid")))
        assert not same(program(table), program(blanked("meta_test")))
