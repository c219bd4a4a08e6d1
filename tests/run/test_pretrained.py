"""The meta-networks that come with the package: small, whole, of their configs, and good at unseen alphabets."""

import importlib
import os

import numpy as np
import pytest

import atnas_jax
from atnas_jax.run import meta_network
from atnas_jax.run.meta_network import SHIPPED, load_meta_network

FOLDER = os.path.join(os.path.dirname(atnas_jax.__file__), "pretrained")


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_small_and_of_its_config(name):
    assert os.path.getsize(os.path.join(FOLDER, SHIPPED[name])) < 1_000_000
    network = load_meta_network(name)
    config = importlib.import_module(f"configs.{SHIPPED[name].removesuffix('.npz')}").get_config()
    for section in ("space", "net", "learner"):
        assert network.config[section] == config[section]
    assert network.config.data.source == config.data.source == name.removesuffix("-gray")
    assert network.image_shape == (28, 28, 1)


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = load_meta_network("glyphs-gray")._replace(normalise=((0.25,), (0.5,)))
    meta_network.save_meta_network(str(tmp_path), other)
    os.rename(meta_network.FILE, "glyphs-gray")
    assert load_meta_network("glyphs-gray").normalise == ((0.25,), (0.5,))


def test_handwriting_of_unseen_alphabets(shared_data):
    """20 tasks of 5 classes and 3 images each of Omniglot's test classes; the accuracy stated is near the true one."""
    with np.load(shared_data / "omniglot_28.npz") as file:
        images, labels, split = file["images"], file["labels"], file["class_split"]
    rng, shots = np.random.default_rng(0), 3
    network, true, stated = load_meta_network("glyphs-gray"), [], []
    adapt = atnas_jax.make_adapter(network, estimate=True)
    for _ in range(20):
        rows = [
            rng.permutation(np.flatnonzero(labels == c))
            for c in rng.choice(np.flatnonzero(split == "meta_test"), 5, False)
        ]
        support, query = (np.concatenate([row[part] for row in rows]) for part in (slice(shots), slice(shots, None)))
        found = adapt(images[support, ..., None], np.repeat(np.arange(5), shots), images[query, ..., None])
        true.append((found.probabilities.argmax(1) == np.repeat(np.arange(5), 20 - shots)).mean())
        stated.append(found.network.about["expected"]["accuracy"])
    assert np.mean(true) >= 0.85
    assert np.abs(np.subtract(true, stated)).mean() <= 0.07
