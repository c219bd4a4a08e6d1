"""Pseudo-episodes of a support: folds that share nothing, copies near their image, padding that says nothing."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.pseudo import PseudoRows, moved_rows, needs_copies, pseudo_episodes, pseudo_rows, support_folds


@pytest.mark.parametrize(
    ("counts", "folds", "number", "held"),
    [
        ((5, 5, 5), 5, 5, 3),  # leave one out of each class
        ((5, 5, 5), 2, 2, 6),  # 2 of 5 of each class, the fifth is never held out
        ((2, 7, 3), 5, 2, 1 + 3 + 1),  # as many folds as the smallest class has images
        ((4, 4), 3, 3, 2),
    ],
)
def test_folds(counts, folds, number, held):
    labels = np.repeat(np.arange(len(counts)), counts)
    learn, out = support_folds(labels, folds)
    assert learn.shape == (number, len(labels) - held) and out.shape == (number, held)
    for rows, query in zip(learn, out, strict=True):
        assert sorted([*rows, *query]) == list(range(len(labels)))  # disjoint, and together the whole support
        assert set(labels[rows]) == set(labels[query]) == set(range(len(counts)))
        assert Counter(labels[query]) == {label: count // number for label, count in enumerate(counts)}
    assert len(set(out.reshape(-1).tolist())) == out.size  # no image is held out twice


def test_folds_of_one_image_are_refused():
    with pytest.raises(ValueError, match="the smallest class has 1"):
        support_folds(np.array([0, 0, 1]), 5)


def _support(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    images = jax.random.uniform(jax.random.key(1), (len(labels), 6, 6, 1))
    return images, jnp.asarray(labels), labels


def test_folds_become_episodes():
    x, y, labels = _support((3, 2))
    rows = pseudo_rows(labels, 5, 4)
    assert not needs_copies(labels)
    episodes = pseudo_episodes(jax.random.key(0), x, y, rows, False)
    learn, out = support_folds(labels, 5)
    assert jax.tree.map(jnp.shape, episodes) == ((2, 3, 6, 6, 1), (2, 3), (2, 2, 6, 6, 1), (2, 2))
    for fold in range(2):
        np.testing.assert_array_equal(episodes.support_x[fold], x[learn[fold]])
        np.testing.assert_array_equal(episodes.query_x[fold], x[out[fold]])
        np.testing.assert_array_equal(episodes.support_y[fold], labels[learn[fold]])
        np.testing.assert_array_equal(episodes.query_y[fold], labels[out[fold]])


@pytest.mark.parametrize("counts", [(1, 1, 1), (3, 1, 2)])
def test_moved_copies_stand_in_where_a_class_has_one_image(counts):
    x, y, labels = _support(counts)
    x = x + jnp.arange(len(labels))[:, None, None, None]  # an image and its copies lie in i..i+1
    rows = pseudo_rows(labels, 5, 4)
    assert needs_copies(labels)
    episodes = jax.jit(lambda x: pseudo_episodes(jax.random.key(0), x, y, rows, True))(x)
    number = len(labels)
    assert jax.tree.map(jnp.shape, episodes) == ((1, number, 6, 6, 1), (1, number), (1, 12, 6, 6, 1), (1, 12))
    np.testing.assert_array_equal(episodes.support_x[0], x)
    np.testing.assert_array_equal(episodes.query_y[0], np.repeat(np.arange(3), 4))  # as many of every class
    assert not any(np.array_equal(query, image) for query in episodes.query_x[0] for image in x)
    np.testing.assert_array_equal(np.floor(episodes.query_x[0].mean((1, 2, 3))), rows.held[0])
    np.testing.assert_array_equal(labels[rows.held[0]], episodes.query_y[0])


def test_the_images_of_a_class_take_turns():
    labels = np.repeat(np.arange(3), (3, 1, 2))
    np.testing.assert_array_equal(moved_rows(labels, 4), [0, 0, 1, 2, 3, 3, 3, 3, 4, 4, 5, 5])
    np.testing.assert_array_equal(moved_rows(np.repeat(np.arange(2), (1, 5)), 2), [0] * 5 + [1, 2, 3, 4, 5])


@pytest.mark.parametrize("counts", [(1, 2, 1), (3, 2, 2)])
def test_padding_has_no_label_and_leaves_the_rest_as_it_was(counts):
    x, y, labels = _support(counts)
    moved, rows = needs_copies(labels), pseudo_rows(labels, 5, 3)
    more = PseudoRows(*(np.pad(at, ((0, 2), (0, 3)), constant_values=-1) for at in rows))
    if moved:  # of which there is one episode
        more = PseudoRows(*(at[:1] for at in more))
    plain = pseudo_episodes(jax.random.key(0), x, y, rows, moved)
    padded = pseudo_episodes(jax.random.key(0), x, y, more, moved)
    for name, own, filled in zip(plain._fields, plain, padded, strict=True):
        inside = filled[: own.shape[0], : own.shape[1]]
        np.testing.assert_array_equal(inside, own, err_msg=name)
        if name.endswith("_y"):
            assert (filled == -1).sum() == filled.size - own.size
