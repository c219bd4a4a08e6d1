"""The class table: layout, checks, fingerprint, channel statistics."""

import numpy as np
import pytest

from atnas_jax.data.spec import EpisodeSpec, check_episode_spec
from atnas_jax.data.table import build_dataset, channel_statistics

IMAGES = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
LABELS = np.array([2, 0, 1, 0, 2, 1])
SPLIT = ("meta_train", "meta_valid", "meta_test")


def build(images=IMAGES, labels=LABELS, split=SPLIT, **named):
    return build_dataset(images, labels, split, **named)


def test_images_are_sorted_by_class_and_keep_their_order_within():
    table = build().table
    assert np.array_equal(table.images[..., 0], IMAGES[[1, 3, 2, 5, 0, 4]])
    assert table.offsets.tolist() == [0, 2, 4, 6]
    assert [ids.tolist() for ids in table[2:]] == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": LABELS + 1}, "labels range over 1..3, need 0..2"),
        ({"labels": LABELS - 1}, "labels range over -1..1"),
        ({"labels": np.where(LABELS == 1, 0, LABELS)}, "class '1' has no image"),
        ({"labels": LABELS[:5]}, r"labels are int64 \[5\], need integers \[6\]"),
        ({"labels": LABELS.astype(float)}, "need integers"),
        ({"images": IMAGES.astype(np.float32)}, "images are float32"),
        ({"images": IMAGES[0]}, "need uint8"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "not empty"),
        ({"images": np.zeros((6, 4, 4, 2), np.uint8)}, "2 channels, need 1 or 3"),
        ({"split": ("meta_train", "train", "meta_test")}, "in split 'train'"),
        ({"class_names": ("a", "b", "a")}, "class 'a' is in both meta_train and meta_test"),
        ({"class_names": ("a", "b")}, "class_names has 2 entries"),
        ({"class_groups": ("a", "b")}, "class_groups has 2 entries"),
    ],
)
def test_bad_arrays_are_one_line(change, says):
    with pytest.raises(ValueError, match=says) as caught:
        build(**change)
    assert "\n" not in str(caught.value)


def test_fingerprint_tells_any_change():
    pixel = IMAGES.copy()
    pixel[3, 2, 1] ^= 1
    variants = [
        build(),
        build(images=pixel),
        build(split=("meta_train", "meta_test", "meta_valid")),
        build(split=("meta_train", "meta_valid", "")),
        build(labels=np.array([0, 2, 1, 2, 0, 1])),
        build(images=IMAGES.reshape(6, 2, 8)),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)
    assert build().fingerprint == variants[0].fingerprint and len(build().fingerprint) == 16


def test_channel_statistics_are_those_of_meta_train_alone():
    images = np.random.default_rng(0).integers(0, 256, (30, 5, 5, 3), dtype=np.uint8)
    images[20:] = 255
    dataset = build_dataset(images, np.repeat([0, 1, 2], 10), ("meta_train", "meta_train", "meta_test"))
    mean, std = channel_statistics(dataset)
    train = images[:20].astype(np.float64) / 255
    np.testing.assert_allclose(mean, train.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, train.std((0, 1, 2)), rtol=1e-9)


def test_channel_statistics_of_a_constant_channel_and_of_no_training_class():
    constant = build_dataset(np.full((2, 3, 3), 51, np.uint8), np.array([0, 1]), ("meta_train",) * 2)
    assert channel_statistics(constant) == (pytest.approx((0.2,)), (1.0,))
    with pytest.raises(ValueError, match="no meta_train class"):
        channel_statistics(build(split=("meta_test",) * 3))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("meta_train", 7, 1, 1), "ways=7 but meta_train of arrays has 6 classes"),
        (("meta_train", 5, 2, 3), "class '0' of meta_train has only 4 images, shots \\+ queries = 5 needed: type"),
        (("meta_train", 1, 1, 1), "need ways >= 2"),
        (("meta_train", 5, 0, 1), "need ways >= 2, shots >= 1"),
        (("meta_train", 5, 1, -1), "queries >= 1"),
        (("train", 2, 1, 1), "split 'train' does not exist"),
    ],
)
def test_impossible_episodes_are_one_line(marked, arguments, says):
    with pytest.raises(ValueError, match=says) as caught:
        check_episode_spec(marked, arguments[0], EpisodeSpec(*arguments[1:]))
    assert "\n" not in str(caught.value)


def test_possible_episodes_pass(marked):
    check_episode_spec(marked, "meta_train", EpisodeSpec(6, 2, 2))
    check_episode_spec(marked, "meta_train", EpisodeSpec(24, 1, 1, rotations=True))
    oblong = build(images=IMAGES.reshape(6, 2, 8), split=("meta_train",) * 3)
    with pytest.raises(ValueError, match="rotations need square images, these are 2x8"):
        check_episode_spec(oblong, "meta_train", EpisodeSpec(2, 1, 1, rotations=True))
