"""The embedded glyphs: table, determinism, cache, and the faults that were cured."""

import json
import sys

import numpy as np
import pytest

from atnas_jax.data.glyph_masks import FACES
from atnas_jax.data.glyphs import TABLE, read_glyphs
from atnas_jax.data.sources import load


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def glyphs(cache):
    return read_glyphs(cache_dir=cache, per_class=4)


def test_table_is_small_and_sound():
    table = json.loads(TABLE.read_text())
    assert TABLE.stat().st_size <= 60_000
    assert table["faces"] == list(FACES)
    codes, groups, faces = zip(*table["classes"])
    assert len(set(codes)) == len(codes) > 1200 and min(np.bincount(groups)) >= 14
    assert all(0 < face < 2 ** len(FACES) for face in faces)
    assert {split for _, split in table["groups"]} == {"meta_train", "meta_valid", "meta_test"}


def test_splits_hold_out_whole_scripts(glyphs):
    of_group = {}
    for group, split in zip(glyphs.class_groups, glyphs.splits[""]):
        assert of_group.setdefault(group, split) == split
    assert of_group["Georgian Mkhedruli"] == "meta_test" and of_group["Lao"] == "meta_valid"


def test_ink_is_whole_and_fitted(glyphs):
    images = glyphs.images[..., 0]
    assert images.shape == (4 * len(glyphs.class_names), 28, 28)
    assert (np.concatenate([images[:, [0, -1]], images[:, :, [0, -1]].transpose(0, 2, 1)], 1) < 128).all()
    ink = images > 64
    sides = np.maximum(ink.any(1).sum(1), ink.any(2).sum(1))
    assert np.percentile(sides, 1) >= 18 and sides.max() <= 26
    assert (ink.mean((1, 2)) > 0.015).all() and (ink.mean((1, 2)) < 0.7).all()


def test_images_of_a_class_differ_but_belong_together(glyphs):
    x = glyphs.images.reshape(-1, 4, 784).astype(np.float32)
    assert (np.abs(x[:, 0] - x[:, 1]).max(-1) > 50).all()
    within = ((x[:, 0] - x[:, 1]) ** 2).mean()
    between = ((x[:, 0] - np.roll(x[:, 1], 1, axis=0)) ** 2).mean()
    assert within < 0.9 * between


def test_difficulty_and_seed_change_the_images(cache, glyphs):
    def spread(**options):
        x = read_glyphs(cache_dir=cache, per_class=2, **options).images.reshape(-1, 2, 784).astype(np.float32)
        return ((x[:, 0] - x[:, 1]) ** 2).mean()

    assert spread(difficulty=0) < 0.7 * spread(difficulty=0.5) < 0.9 * spread(difficulty=1.5)


def test_made_anew_they_are_the_same_and_a_damaged_cache_heals(tmp_path, glyphs):
    again = read_glyphs(cache_dir=str(tmp_path), per_class=4)
    assert np.array_equal(again.images, glyphs.images)
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".npz"
    file.write_bytes(file.read_bytes()[:1000])
    assert np.array_equal(read_glyphs(cache_dir=str(tmp_path), per_class=4).images, glyphs.images)
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_a_cache_that_cannot_be_written_is_one_warning(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    data = read_glyphs(cache_dir=str(tmp_path / "file" / "below"), per_class=2, difficulty=0)
    assert len(data.images) and capsys.readouterr().err.count("\n") == 1


def test_no_matplotlib_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="type pip install matplotlib"):
        read_glyphs(cache_dir=str(tmp_path))


def test_colour_tells_nothing_of_the_class(cache):
    dataset = load("glyphs-color:per_class=2,difficulty=0.5", cache_dir=cache)
    images = np.asarray(dataset.table.images)
    assert images.shape[1:] == (32, 32, 3)
    corner = images[:, 0, 0].reshape(-1, 2, 3).astype(float)
    assert abs(np.corrcoef(corner[:, 0].ravel(), corner[:, 1].ravel())[0, 1]) < 0.1
    assert (images.reshape(len(images), -1).std(1) > 8).all()  # something is to be seen in each


@pytest.mark.parametrize(
    "spec", ["glyphs:difficulty=3", "glyphs:per_class=1", "glyphs:sharpness=1", "glyphs:per_class", "glyphs:seed=-1"]
)
def test_bad_options_are_one_line(spec, cache):
    with pytest.raises(ValueError, match="glyphs") as caught:
        load(spec, cache_dir=cache)
    assert "\n" not in str(caught.value)
