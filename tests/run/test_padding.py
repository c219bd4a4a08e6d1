"""Supports in arrays of few sizes: what was there is there, the rest is marked, and no answer is another one."""

import jax
import numpy as np
import pytest

from atnas_jax.novel import adapted_network, programs
from atnas_jax.novel.adapt import make_adapter
from atnas_jax.novel.padding import FEW_IMAGES, SMALLEST, filled_size, lay_out


def _counts():
    """Numbers of images a class: at the edges of the sizes, equal and unequal, with and without a class of one."""
    rng = np.random.default_rng(0)
    for images in (2, 4, 8, 9, 16, 17, 64, 65, 100):
        for ways in {2, images // 2, images // 3 or 2, images}:
            if 2 <= ways <= images:
                yield np.full(ways, images // ways)
                counts = np.bincount(rng.integers(0, ways, images - ways), minlength=ways) + 1
                yield counts
                if images >= 2 * ways:
                    yield np.bincount(rng.integers(0, ways, images - 2 * ways), minlength=ways) + 2
    yield from (np.asarray(counts) for counts in ((1, 90), (1, *(3,) * 20), (1,) * 100))


@pytest.mark.parametrize(("folds", "copies"), [(5, 4), (2, 1), (10, 7)])
def test_every_support_fits_and_is_found_in_its_sheet(tiny, folds, copies):
    config, shapes, ordinary = tiny({"adapt.folds": folds, "adapt.copies": copies}), {}, set()
    for counts in _counts():
        labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
        x = np.arange(1.0, len(labels) + 1, dtype=np.float32).reshape(-1, 1, 1, 1)
        own, plain = lay_out(config, x, labels, pad=False)
        kind, padded = lay_out(config, x, labels, pad=True)
        size = filled_size(len(labels))
        assert not own.padded and kind.padded and kind.how == own.how and kind.ways >= own.ways == len(counts)
        assert padded.x.shape[0] == len(padded.y) == size
        np.testing.assert_array_equal(padded.x[: len(x)], x)
        np.testing.assert_array_equal(padded.y, [*labels, *[-1] * (size - len(labels))])
        for rows, filled in ((plain.search, padded.search), (plain.estimate, padded.estimate)):
            for real, more in zip(rows, filled, strict=True):
                np.testing.assert_array_equal(more[: real.shape[0], : real.shape[1]], real)
                assert (more >= 0).sum() == real.size
                assert (more == -1).sum() == more.size - real.size
        sizes = tuple(np.shape(leaf) for leaf in (*padded.search, *padded.estimate))
        if counts.max() <= copies or counts.min() > 1:
            shapes.setdefault((size, kind.how), set()).add((kind, sizes))
            ordinary.add(size)
    assert ordinary == {8, 16, 32, 64, FEW_IMAGES}
    assert [found for found in shapes.values() if len(found) > 1] == []


def test_what_is_not_filled_up_is_left_as_it_is(tiny):
    many = np.repeat(np.arange(2), FEW_IMAGES).astype(np.int32)
    few = np.repeat(np.arange(2), 3).astype(np.int32)
    transductive = tiny({"net.normalisation": "batch_transductive"})
    for config, labels in ((tiny(), many), (transductive, few)):
        kind, found = lay_out(config, np.zeros((len(labels), 1, 1, 1), np.float32), labels, pad=True)
        assert kind == (2, kind.how, False) and len(found.x) == len(labels)
    assert lay_out(tiny(), np.zeros((6, 1, 1, 1), np.float32), few, pad=True)[1].x.shape[0] == SMALLEST


def test_a_head_of_fixed_ways_stays_as_it_is(tiny):
    labels = np.repeat(np.arange(3), 2).astype(np.int32)
    kind, _ = lay_out(tiny({"learner.head": "matrix"}), np.zeros((6, 1, 1, 1), np.float32), labels, pad=True)
    assert kind.ways == 3


def task_of(classes, counts):
    """Support and labels of so many images of the last classes, and queries."""
    own = classes[-len(counts) :]
    support = np.concatenate([rows[:count] for rows, count in zip(own, counts, strict=True)])
    return support, np.repeat(np.arange(len(counts)), counts), np.concatenate([rows[7:] for rows in own])


def changed(network, settings):
    config = network.config.copy_and_resolve_references()
    config.update_from_flattened_dict(settings)
    return network._replace(config=config)


def same_answers(adapters, task):
    """The search tells the best from the next by 0.001 nats and more, where rounding is 1e-6."""
    plain, padded = (adapter(*task) for adapter in adapters)
    assert plain.genotype == padded.genotype
    np.testing.assert_allclose(padded.probabilities, plain.probabilities, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), plain.weights, padded.weights)
    one, other = plain.network.about, padded.network.about
    for name in ("expected", "found", "params", "macs", "support_images"):
        assert one[name] == other[name]
    assert (one["found_is_better_by"] is None) == (other["found_is_better_by"] is None)
    for name in one["found_is_better_by"] or ():
        assert one["found_is_better_by"][name] == pytest.approx(other["found_is_better_by"][name], abs=1e-5)


@pytest.mark.parametrize(
    ("counts", "settings"),
    [
        ((3, 2, 5), {}),
        ((2, 2), {"adapt.score": "mix"}),
        ((1, 5, 1), {}),
        ((1, 1, 1, 1, 7), {"adapt.score": "naswot"}),
        ((3, 2, 5), {"adapt.score": "grad_norm", "adapt.folds": 2}),
        ((4, 2, 3), {"learner.name": "maml"}),  # pair by pair, where anil scores by a tree
        ((4,) * 17, {}),  # 68 images, more than are left out one by one
    ],
)
def test_padding_changes_no_answer(network, classes, counts, settings):
    network = changed(network, settings)
    same_answers([make_adapter(network, estimate=True, pad=pad) for pad in (False, True)], task_of(classes, counts))


def test_padding_changes_no_answer_of_a_head_that_was_learned(network, classes):
    like = make_adapter(network)(*task_of(classes, (3, 2, 5))).weights["head"]
    head = {"w": 0.1 * jax.random.normal(jax.random.key(0), like["w"].shape), "b": np.zeros(3, np.float32)}
    own = changed(network, {"learner.head": "matrix"})._replace(params=network.params | {"head": head})
    same_answers([make_adapter(own, estimate=True, pad=pad) for pad in (False, True)], task_of(classes, (3, 2, 5)))


def test_limits_are_those_of_each_task(network, classes):
    """One adapter for tasks of three and of two classes, whose heads cost otherwise."""
    costs = [make_adapter(network)(*task_of(classes, counts)).params for counts in ((3, 2, 5), (2, 2))]
    adapters = [make_adapter(network, estimate=True, pad=pad, max_params=min(costs)) for pad in (False, True)]
    for counts in ((3, 2, 5), (2, 2)):
        same_answers(adapters, task_of(classes, counts))


def test_a_learner_that_knows_no_padding_is_not_given_any(network, classes, monkeypatch):
    known = programs.evaluation_learner

    def unpadded(*args, padded, **options):
        learner = known(*args, **options)

        def adapt(params, mask, x, y):
            assert x.shape[0] == 4
            return learner.adapt(params, mask, x, y)

        def predict(adapted, mask, support_x, query_x):
            assert support_x.shape[0] == 4
            return learner.predict(adapted, mask, support_x, query_x)

        return learner._replace(adapt=adapt, predict=predict)

    task = task_of(classes, (2, 2))
    expected = make_adapter(network)(*task)
    for module in (programs, adapted_network):
        monkeypatch.setattr(module, "evaluation_learner", unpadded)
    np.testing.assert_allclose(make_adapter(network)(*task).probabilities, expected.probabilities, atol=1e-5)
