"""Episodes: what is drawn, how often, and that it is the same for ever."""

import functools
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.data.episodes import DRAWN, drawn_until, fixed_episodes, sample_episode, sample_episodes
from atnas_jax.data.spec import EpisodeSpec

SPEC = EpisodeSpec(ways=3, shots=2, queries=2)
AUGMENTED = EpisodeSpec(ways=3, shots=2, queries=2, rotations=True, flip=True)
SIZES = np.array((4, 9, 5, 7, 6, 12, 4, 8, 5, 6))


def marks(x):
    """Return (class, item) of images [..., 8,8,1] of the marked data set."""
    x = np.rint(np.asarray(x) * 255).astype(int)
    return x[..., 0, 0, 0], x[..., 0, 1, 0]


@pytest.fixture(scope="module")
def many(marked):
    draw = jax.jit(lambda key, table: sample_episodes(key, table, table.meta_train, SPEC, 3000))
    return jax.device_get(draw(jax.random.key(0), marked.table))


def test_shapes_and_types(many):
    assert many.support_x.shape == (3000, 6, 8, 8, 1) and many.support_x.dtype == np.float32
    assert many.query_x.shape == (3000, 6, 8, 8, 1)
    assert many.support_y.dtype == np.int32 and many.query_y.dtype == np.int32
    assert (many.support_y == np.repeat(np.arange(3), 2)).all() and (many.query_y == np.repeat(np.arange(3), 2)).all()


def test_support_and_query_share_no_image_even_where_a_class_is_just_large_enough(many):
    (support_class, support_item), (query_class, query_item) = marks(many.support_x), marks(many.query_x)
    names = np.concatenate([support_class * 100 + support_item, query_class * 100 + query_item], axis=1)
    assert (np.diff(np.sort(names, axis=1), axis=1) > 0).all()
    items, classes = np.concatenate([support_item, query_item], 1), np.concatenate([support_class, query_class], 1)
    assert (items < SIZES[classes]).all()


def test_classes_are_distinct_of_the_split_and_one_per_label(many):
    classes = marks(many.support_x)[0].reshape(3000, 3, 2)
    assert (classes[..., 0] == classes[..., 1]).all()
    assert (classes[..., 0] == marks(many.query_x)[0].reshape(3000, 3, 2)[..., 1]).all()
    assert (np.diff(np.sort(classes[..., 0], axis=1), axis=1) > 0).all()
    assert set(classes.ravel()) == set(range(6))


def test_which_class_gets_which_label_is_uniform(many):
    first = marks(many.support_x)[0].reshape(3000, 3, 2)[..., 0]
    counts = np.stack([np.bincount(first[:, label], minlength=6) for label in range(3)])
    # 500 expected, standard deviation 20.4: five of them
    assert (np.abs(counts - 500) < 102).all(), counts


def test_which_image_stands_where_is_uniform(many):
    support_class, item = marks(many.support_x)
    place = np.broadcast_to(np.arange(6) % 2, item.shape)
    for k in range(6):
        for p in range(2):
            counts = np.bincount(item[(support_class == k) & (place == p)], minlength=SIZES[k])
            expected = counts.sum() / SIZES[k]
            assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all(), (k, p, counts)


def test_all_items_of_a_class_can_be_taken(marked):
    episode = sample_episode(jax.random.key(1), marked.table, marked.table.meta_valid, EpisodeSpec(2, 2, 2))
    classes, items = (np.concatenate(pair) for pair in zip(marks(episode.support_x), marks(episode.query_x)))
    assert sorted(items[classes == 6]) == [0, 1, 2, 3]


@pytest.mark.parametrize("rotations", [False, True])
def test_rotations_are_classes_of_their_own_only_when_asked(marked, rotations):
    spec = EpisodeSpec(ways=6, shots=1, queries=1, rotations=rotations)
    episodes = sample_episodes(jax.random.key(3), marked.table, marked.table.meta_train, spec, 300)
    x = np.rint(np.asarray(episodes.support_x)[..., 0] * 255).astype(int)
    turned = np.stack([np.rot90(x, -quarter, axes=(2, 3)) for quarter in range(4)])
    upright = (turned[..., 1, :] == 255).all(-1)  # the row of 255 lies second in an unturned image
    assert (upright.sum(0) == 1).all()
    quarter = upright.argmax(0)
    classes = np.take_along_axis(turned[..., 0, 0], quarter[None], 0)[0]
    if rotations:
        assert np.bincount(quarter.ravel()).min() > 300
        assert any(len(set(row)) < 6 for row in classes)  # one character under two turns is two classes
        names = classes * 4 + quarter
        assert (np.diff(np.sort(names, axis=1), axis=1) > 0).all()
        query = np.rint(np.asarray(episodes.query_x)[..., 0] * 255).astype(int)
        same = np.take_along_axis(
            np.stack([np.rot90(query, -q, axes=(2, 3)) for q in range(4)])[..., 0, 0], quarter[None], 0
        )
        assert (same[0] == classes).all()  # support and queries of a class are turned alike
    else:
        assert (quarter == 0).all()


def views(x):
    """Return (class, view) of images float [...,8,8,1] of classes 1..5: quarter turns, and 4 more if then mirrored."""
    x = np.rint(np.asarray(x)[..., 0] * 255).astype(int)
    found = np.stack([np.rot90(y, -quarter, axes=(-2, -1)) for y in (x, x[..., ::-1]) for quarter in range(4)])
    own = (found[..., 1, :] == 255).all(-1) & (found[..., 0, 0] > 0)  # upright, and the class stands at the left
    assert (own.sum(0) == 1).all()
    return (found[..., 0, 0] * own).sum(0), own.argmax(0)


@pytest.mark.parametrize("alike", [False, True])
def test_mirror_images_are_classes_of_their_own_or_the_view_of_an_episode(marked, alike):
    spec = EpisodeSpec(ways=5, shots=1, queries=1, rotations=True, mirrors=True, alike=alike)
    episodes = sample_episodes(jax.random.key(3), marked.table, marked.table.meta_train[1:], spec, 400)
    (classes, view), query = views(episodes.support_x), views(episodes.query_x)
    np.testing.assert_array_equal((classes, view), query)
    assert np.bincount(view.ravel(), minlength=8).min() > 150  # of 2000, 250 expected; alike: 80 episodes of 400 x 5
    assert (np.diff(np.sort(classes * 8 + view, axis=1), axis=1) > 0).all()
    assert (view == view[:, :1]).all() == alike
    assert any(len(set(row)) < 5 for row in classes) != alike


def test_mirrors_alone_and_what_does_not_fit(marked):
    spec = EpisodeSpec(ways=10, shots=1, queries=1, mirrors=True)
    classes, view = views(sample_episode(jax.random.key(0), marked.table, marked.table.meta_train[1:], spec).query_x)
    assert sorted(classes * 8 + view) == sorted([k * 8 + v for k in range(1, 6) for v in (0, 4)])
    with pytest.raises(ValueError, match="ways=10 but only 5 classes"):
        sample_episode(jax.random.key(0), marked.table, marked.table.meta_train[1:], replace(spec, alike=True))


def test_only_the_first_so_many_classes_are_drawn_among(marked):
    spec = EpisodeSpec(ways=3, shots=1, queries=1)
    given = (jax.random.key(3), marked.table, jnp.arange(8), spec, 100)
    draw = jax.jit(lambda among: sample_episodes(*given, among=among))
    for among in (3, 5):
        assert set(marks(draw(jnp.int32(among)).support_x)[0].ravel()) == set(range(among))
    assert jax.tree.all(jax.tree.map(np.array_equal, draw(jnp.int32(8)), sample_episodes(*given)))
    turned = replace(spec, rotations=True, mirrors=True)
    few = sample_episodes(jax.random.key(3), marked.table, jnp.arange(1, 6), turned, 100, among=jnp.int32(2))
    assert set(views(few.support_x)[0].ravel()) == {1, 2}


def test_flip_mirrors_each_image_on_its_own(marked):
    spec = EpisodeSpec(ways=3, shots=2, queries=2, flip=True)
    episodes = sample_episodes(jax.random.key(3), marked.table, marked.table.meta_train[1:], spec, 500)
    x = np.rint(np.asarray(episodes.support_x)[..., 0] * 255).astype(int)
    mirrored = x[..., 0, 7] > 0  # class ids 1..5 stand at the left in an image that is not mirrored
    assert 0.45 < mirrored.mean() < 0.55
    assert (mirrored[:, 0] != mirrored[:, 1]).mean() > 0.4


def test_normalise(marked):
    raw = sample_episode(jax.random.key(5), marked.table, marked.table.meta_train, SPEC)
    scaled = sample_episode(jax.random.key(5), marked.table, marked.table.meta_train, SPEC, ((0.25,), (0.5,)))
    np.testing.assert_allclose(scaled.query_x, (np.asarray(raw.query_x) - 0.25) / 0.5, rtol=1e-6)


def fixed(marked, index, seed=0, spec=SPEC):
    draw = jax.jit(lambda table, i: fixed_episodes(marked.fingerprint, "meta_train", seed, i, table, spec))
    return draw(marked.table, jnp.asarray(index))


def test_fixed_episodes_know_nothing_of_training(marked):
    trained = replace(SPEC, flip=True, warp=1.0, mirrors=True, alike=True, rotations=True)
    assert jax.tree.all(jax.tree.map(np.array_equal, fixed(marked, [0, 1], spec=trained), fixed(marked, [0, 1])))


def test_fixed_episodes_do_not_depend_on_chunks(marked):
    whole = fixed(marked, [0, 1, 2, 7])
    parts = [fixed(marked, index) for index in ([0, 1], [2, 7])]
    for field, *pieces in zip(whole, *parts):
        assert np.array_equal(field, np.concatenate(pieces))
    eager = fixed_episodes(marked.fingerprint, "meta_train", 0, np.array([7, 2]), marked.table, EpisodeSpec(3, 2, 2))
    assert np.array_equal(eager.query_x[0], whole.query_x[3])


@pytest.mark.parametrize("number", [DRAWN - 1, DRAWN, 2 * DRAWN, 2 * DRAWN + 3])
def test_episodes_are_drawn_as_far_as_they_are_asked_for(marked, number):
    def draw(index):
        return fixed_episodes(marked.fingerprint, "meta_train", 0, 7 + index, marked.table, EpisodeSpec(3, 1, 2))

    whole, until = jax.jit(lambda: draw(jnp.arange(number)))(), jax.jit(lambda last: drawn_until(draw, number, last))
    for last in (0, 1, DRAWN, number):
        found = until(last)
        jax.tree.map(lambda a, b, last=last: np.testing.assert_array_equal(a[:last], b[:last]), found, whole)
        assert number <= DRAWN or not found.support_x[last + DRAWN :].any()


def test_fixed_episodes_depend_on_seed_and_index_and_ignore_training_augmentation(marked):
    base = fixed(marked, [0, 1]).support_x
    assert not np.array_equal(base[0], base[1])
    assert not np.array_equal(base, fixed(marked, [0, 1], seed=1).support_x)
    assert np.array_equal(base, fixed(marked, [0, 1], spec=AUGMENTED).support_x)


def test_fixed_episodes_are_the_same_for_ever(marked):
    """A golden value: if it changes, every published number of this library changes its meaning."""
    classes, items = marks(fixed(marked, [2, 7]).support_x)
    assert (classes.tolist(), items.tolist()) == (
        [[1, 1, 3, 3, 4, 4], [1, 1, 2, 2, 3, 3]],
        [[1, 2, 1, 5, 5, 1], [1, 0, 4, 1, 1, 0]],
    )


_OTHER_PROCESS = """
import numpy as np
from atnas_jax.data.episodes import fixed_episodes
from atnas_jax.data.spec import EpisodeSpec
from atnas_jax.data.sources import load
data = load("glyphs:per_class=3,difficulty=1", cache_dir={cache!r})
episodes = fixed_episodes(data.fingerprint, "meta_test", 4, np.arange(3), data.table, EpisodeSpec(5, 1, 2))
x = episodes.support_x
print(data.fingerprint, float(episodes.query_x.sum()), float((x[:, 1:] * x[:, :-1]).sum()))
"""


def test_fixed_episodes_and_glyphs_are_the_same_in_every_process(tmp_path, repo):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _OTHER_PROCESS.format(cache=str(tmp_path / name))],
            stdout=subprocess.PIPE,
            text=True,
            cwd=repo,
        )
        for name in ("a", "b")
    ]
    said = [process.communicate()[0] for process in started]
    assert said[0] == said[1] and len(said[0].split()) == 3


def test_too_few_classes_is_one_line(marked):
    with pytest.raises(ValueError, match="ways=3 but only 2 classes") as caught:
        sample_episode(jax.random.key(0), marked.table, marked.table.meta_test, SPEC)
    assert "\n" not in str(caught.value)


def test_a_warp_changes_images_of_training_episodes_alone(marked):
    """The same classes, images and labels; the fixed episodes of an evaluation stay as they are, to the bit."""
    table, warped = marked.table, replace(SPEC, warp=1.0)

    @functools.partial(jax.jit, static_argnums=0)
    def drawn(spec):
        fixed = fixed_episodes(marked.fingerprint, "meta_train", 0, jnp.arange(1), table, spec)
        return sample_episodes(jax.random.key(0), table, table.meta_train, spec, 2), fixed

    (plain, fixed), (moved, still) = drawn(SPEC), drawn(warped)
    jax.tree.map(np.testing.assert_array_equal, fixed, still)
    for field in ("support_y", "query_y"):
        np.testing.assert_array_equal(getattr(plain, field), getattr(moved, field))
    for field in ("support_x", "query_x"):
        changed = np.abs(getattr(plain, field) - getattr(moved, field)).max((2, 3, 4))
        assert (changed > 0.01).all()
