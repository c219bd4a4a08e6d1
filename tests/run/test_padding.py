"""Supports in arrays of few sizes: what was there is there, the rest is marked, and few sizes there are."""

import numpy as np
import pytest

from atnas_jax.novel.padding import FEW_IMAGES, SMALLEST, lay_out, padded_size


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
        size = padded_size(len(labels))
        assert not own.padded and kind.padded and kind.how == own.how and kind.ways >= own.ways == len(counts)
        assert padded.x.shape[0] == len(padded.y) == size and size & (size - 1) == 0
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
    assert ordinary == {8, 16, 32, 64, 128}
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
