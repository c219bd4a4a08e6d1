"""A race scores whom it should on what it should, and says of the dropped what can be known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.devices import AXIS, make_mesh, on_mesh
from atnas_jax.evaluate import evaluate
from atnas_jax.race import fitness_of, halving, race
from atnas_jax.types import Episode, MetaLearner

P, T = 10, 30
pytestmark = pytest.mark.usefixtures("few_optimisations")


def planted(accuracy):
    """A learner that gets accuracy[p, t] of 20 queries right; masks hold p, support images t."""
    right = jnp.asarray(np.rint(20 * accuracy), jnp.int32)

    def solve(params, mask, support_x, support_y, query_x):
        good = jnp.arange(20) < right[mask[0, 0].astype(jnp.int32), support_x[0, 0, 0, 0].astype(jnp.int32)]
        return jnp.stack([good, ~good], 1).astype(jnp.float32)

    masks = jnp.arange(len(accuracy), dtype=jnp.float32)[:, None, None]
    tasks = jnp.arange(accuracy.shape[1], dtype=jnp.float32)
    episodes = Episode(
        tasks[:, None, None, None, None], jnp.zeros((len(tasks), 1), jnp.int32),
        jnp.zeros((len(tasks), 20, 1, 1, 1)), jnp.zeros((len(tasks), 20), jnp.int32),
    )  # fmt: skip
    return MetaLearner(None, None, None, solve, None), masks, episodes


def raced(accuracy, order, rungs, batch=1, devices=1):
    learner, masks, episodes = planted(accuracy)

    def run(masks, episodes, order, rungs):
        return race(learner, {}, masks, episodes, order, rungs, batch, AXIS)

    found = jax.jit(on_mesh(run, make_mesh(devices)))(masks, episodes, jnp.asarray(order), jnp.asarray(rungs))
    return [np.asarray(x) for x in found]


@pytest.fixture(scope="module")
def accuracies():
    """Episodes of which the first are easy, genotypes that differ by 3 % in a row that is not sorted."""
    rng = np.random.default_rng(0)
    quality = 0.3 + 0.03 * rng.permutation(P)
    easy = np.where(np.arange(T) < 6, 0.3, 0.0)
    return np.clip(np.rint(20 * (quality[:, None] + easy + 0.1 * rng.normal(size=(P, T)))) / 20, 0, 1)


def by_hand(accuracy, order, rungs):
    """The race as one would play it, genotype by genotype."""
    order, seen, first = list(order), np.zeros(accuracy.shape, bool), 0
    for field, last in rungs:
        for p in order[:field]:
            seen[p, first:last] = True
        means = {p: np.mean(accuracy[p][seen[p]]) for p in order[:field]}
        order = sorted(order[:field], key=lambda p: -means[p]) + order[field:]
        first = last
    return seen, order


def test_the_rungs_double_and_halve():
    assert halving(10, 30).tolist() == [[10, 4], [5, 8], [3, 15], [2, 30]]
    assert halving(2, 7).tolist() == [[2, 7]]


@pytest.mark.parametrize("share", [0.15, 0.2, 0.3])
@pytest.mark.parametrize(("population", "episodes"), [(10, 30), (10, 120), (16, 32), (5, 100)])
def test_a_share_of_the_evaluations_is_what_a_race_takes(population, episodes, share):
    rungs = halving(population, episodes, share)
    taken = (rungs[:, 0] * np.diff(rungs[:, 1], prepend=0)).sum()
    assert abs(taken / (population * episodes) - share) < 0.05
    assert (rungs[:, 0] == halving(population, episodes)[:, 0]).all()
    assert (np.diff(rungs[:, 1]) >= 0).all() and 1 <= rungs[0, 1] <= rungs[-1, 1] <= episodes


def test_the_least_share_sees_one_episode_and_the_largest_no_more_than_there_are():
    assert halving(10, 30, 0.2).tolist() == [[10, 2], [5, 4], [3, 10], [2, 17]]
    assert halving(10, 30, 1e-6).tolist() == [[10, 1], [5, 1], [3, 1], [2, 1]]
    assert halving(10, 30, 1.0)[-1].tolist() == [2, 30]


@pytest.mark.parametrize(("batch", "devices"), [(1, 1), (3, 1), (1, 2), (2, 4)])
def test_a_race_is_the_race_by_hand_on_any_number_of_devices(accuracies, batch, devices):
    order, rungs = np.random.default_rng(1).permutation(P), halving(P, T)
    accuracy, seen, after = raced(accuracies, order, rungs, batch, devices)
    expected_seen, expected_order = by_hand(np.float32(accuracies), order, rungs)
    np.testing.assert_array_equal(seen, expected_seen)
    assert seen.sum() == 10 * 4 + 5 * 4 + 3 * 7 + 2 * 15
    np.testing.assert_allclose(accuracy, np.where(seen, accuracies, 0), atol=1e-6)
    assert after.tolist() == expected_order


@pytest.mark.parametrize(("field", "devices", "batch"), [(10, 2, 1), (2, 2, 1), (2, 4, 1), (6, 4, 1), (8, 2, 4)])
def test_devices_share_every_genotype_and_not_the_field(accuracies, field, devices, batch, monkeypatch):
    """Or one would wait for the other, where genotypes take unequally long: none is that of a device alone."""
    monkeypatch.setattr("atnas_jax.race.score", lambda *_: (jax.lax.axis_index(AXIS) / 10.0, 0.0))  # tells who scores
    by, seen, _ = raced(accuracies, np.arange(P), [[field, 24]], batch, devices)
    assert seen[:field, :24].all() and not seen[field:].any()
    for device in range(devices):
        share = np.isclose(by[:field, :24], device / 10).sum(1)
        assert share.sum() == field * 24 // devices and np.ptp(share) <= 1, (device, share)


def test_a_race_of_all_against_all_is_the_evaluation(accuracies):
    learner, masks, episodes = planted(accuracies)
    accuracy, seen, order = raced(accuracies, np.arange(P), [[P, T], [P, T]])
    whole = jax.jit(lambda *args: evaluate(learner, {}, *args))(masks, episodes)
    assert seen.all()
    np.testing.assert_array_equal(accuracy, whole.accuracy)
    np.testing.assert_allclose(fitness_of(accuracy, seen, order), whole.fitness[:, 0], atol=1e-6)
    assert order.tolist() == np.argsort(-np.asarray(whole.fitness[:, 0]), stable=True).tolist()


def test_the_fitness_of_the_dropped_is_the_winners_less_what_they_were_behind(accuracies):
    accuracy, seen, order = raced(accuracies, np.arange(P), halving(P, T))
    fitness = np.asarray(fitness_of(accuracy, seen, order))
    winner = order[0]
    assert np.argmax(fitness) == winner and seen[winner].all()
    np.testing.assert_allclose(fitness[winner], accuracies[winner].mean(), atol=1e-6)
    for p in range(P):
        behind = (accuracies[winner] - accuracies[p])[seen[p]].mean()
        np.testing.assert_allclose(fitness[p], accuracies[winner].mean() - behind, atol=1e-6)
    dropped = seen.sum(1) == 4
    assert accuracies[dropped, :4].mean() - fitness[dropped].mean() > 0.1  # the first episodes are the easy ones


def test_who_does_not_enter_is_not_scored(accuracies):
    accuracy, seen, order = raced(accuracies, np.arange(P)[::-1], [[3, 4], [2, 30]])
    assert not seen[:7].any() and not accuracy[:7].any() and set(order[:3]) == {7, 8, 9}
    assert np.isneginf(fitness_of(accuracy, seen, order)[:7]).all()


def test_fewer_genotypes_than_the_field_are_each_scored_once(accuracies):
    """As a strategy may ask for fewer than the population that the rungs are made for."""
    rungs = [[P, 4], [P // 2, 8]]
    accuracy, seen, _ = raced(accuracies[:3], np.arange(3), rungs)
    assert seen[:, :8].all() and not seen[:, 8:].any()
    np.testing.assert_allclose(accuracy[:, :8], accuracies[:3, :8], atol=1e-6)
