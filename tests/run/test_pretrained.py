"""The meta-networks that come with the package: small, whole, of their configs, and good at unseen alphabets."""

import importlib
import json
import os

import numpy as np
import pytest

import atnas_jax
from atnas_jax.data.glyphs import TABLE, make_images
from atnas_jax.novel import meta_network
from atnas_jax.novel.meta_network import SHIPPED, load_meta_network

FOLDER = os.path.join(os.path.dirname(atnas_jax.__file__), "pretrained")


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_small_and_of_its_config(name):
    assert os.path.getsize(os.path.join(FOLDER, SHIPPED[name])) < 1_000_000
    network = load_meta_network(name)
    config = importlib.import_module(f"configs.{SHIPPED[name].removesuffix('.npz')}").get_config()
    for section in ("space", "net", "learner"):
        assert network.config[section] == config[section]
    assert network.config.data.source == config.data.source == name.removesuffix("-gray")
    assert network.image_shape == {"glyphs-gray": (28, 28, 1), "glyphs-color": (32, 32, 3)}[name]


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = load_meta_network("glyphs-gray")._replace(normalise=((0.25,), (0.5,)))
    meta_network.save_meta_network(str(tmp_path), other)
    os.rename(meta_network.FILE, "glyphs-gray")
    assert load_meta_network("glyphs-gray").normalise == ((0.25,), (0.5,))


def _judged(adapt, images, labels, classes, tasks, queries):
    """Return true and stated accuracy [tasks] of tasks of 5 of the classes, 3 images each."""
    rng, shots, true, stated = np.random.default_rng(0), 3, [], []
    for _ in range(tasks):
        rows = [rng.permutation(np.flatnonzero(labels == c)) for c in rng.choice(classes, 5, False)]
        support, query = (
            np.concatenate([row[part] for row in rows]) for part in (slice(shots), slice(shots, shots + queries))
        )
        found = adapt(images[support], np.repeat(np.arange(5), shots), images[query])
        true.append((found.probabilities.argmax(1) == np.repeat(np.arange(5), queries)).mean())
        stated.append(found.network.about["expected"]["accuracy"])
    return np.asarray(true), np.asarray(stated)


def test_handwriting_of_unseen_alphabets(shared_data):
    """20 tasks of 5 classes and 3 images each of Omniglot's test classes; the accuracy stated is near the true one."""
    with np.load(shared_data / "omniglot_28.npz") as file:
        images, labels, split = file["images"], file["labels"], file["class_split"]
    adapt = atnas_jax.make_adapter(load_meta_network("glyphs-gray"), estimate=True)
    true, stated = _judged(adapt, images[..., None], labels, np.flatnonzero(split == "meta_test"), tasks=20, queries=17)
    assert true.mean() >= 0.85
    assert np.abs(true - stated).mean() <= 0.07


def test_coloured_symbols_of_unseen_scripts(few_optimisations):
    """4 tasks of 5 classes and 3 images each, of scripts and with images that training never saw."""
    table = json.loads(TABLE.read_text(encoding="ascii"))
    unseen = [row for row in table["classes"] if table["groups"][row[1]][1] == "meta_test"][::8]
    images = make_images({"classes": unseen}, True, 1.0, 15, 1)
    labels = np.repeat(np.arange(len(unseen)), 15)
    options = {"estimate": True, "generations": 1, "population": 2}  # as small as can be: it is the weights that matter
    adapt = atnas_jax.make_adapter(load_meta_network("glyphs-color"), **options)
    true, stated = _judged(adapt, images, labels, np.arange(len(unseen)), tasks=4, queries=12)
    assert true.mean() >= 0.93
    assert np.abs(true - stated).mean() <= 0.07
