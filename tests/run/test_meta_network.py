"""The meta-network file: what was found comes back, and nothing else is believed."""

import os
import pickle
import shutil

import jax
import numpy as np
import pytest

from atnas_jax.job.build import build
from atnas_jax.job.checkpoint import open_checkpoints, restore_latest
from atnas_jax.job.state import init_state
from atnas_jax.novel.meta_network import FILE, load_meta_network, save_meta_network
from atnas_jax.space.text import to_text


def test_it_holds_what_the_search_ended_with(finished):
    network = load_meta_network(finished.workdir)
    parts = build(finished.config)
    manager = open_checkpoints(finished.workdir)
    state, _ = restore_latest(manager, init_state(finished.config, parts))
    manager.close()
    assert jax.tree.structure(network.params) == jax.tree.structure(state.meta.params)
    assert all(map(np.array_equal, jax.tree.leaves(network.params), jax.tree.leaves(state.meta.params)))
    assert to_text(network.space, np.asarray(network.population[0])) == finished.results["genotype"]
    assert network.population.shape == (5, parts.space.num_slots)
    assert (network.space, network.image_shape, network.normalise) == (parts.space, (10, 10, 1), parts.normalise)
    assert network.config == finished.config


@pytest.mark.parametrize("head", ["prototypes", "zeros", "vector"])
def test_round_trip_with_every_head(finished, tmp_path, head):
    network = load_meta_network(finished.workdir)
    heads = {"prototypes": network.params["head"], "zeros": {}, "vector": {"v": np.arange(3.0, dtype=np.float32)}}
    network = network._replace(params=network.params | {"head": heads[head]})
    path = save_meta_network(str(tmp_path), network)
    assert os.listdir(tmp_path) == [FILE]
    for given in (path, str(tmp_path)):
        back = load_meta_network(given)
        assert jax.tree.structure(back.params) == jax.tree.structure(network.params)
        assert all(map(np.array_equal, jax.tree.leaves(back.params), jax.tree.leaves(network.params)))


class _Trap:
    """An object whose unpickling makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def _damage(path, how, trap):
    if how == "cut short":
        with open(path, "r+b") as file:
            file.truncate(os.path.getsize(path) // 2)
    elif how == "a byte turned":
        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 255]))
    elif how == "empty":
        open(path, "w").close()
    elif how == "a pickle":
        with open(path, "wb") as file:
            pickle.dump(_Trap(trap), file)
    elif how == "a pickle inside":
        with np.load(path) as file:
            arrays = dict(file)
        np.savez(path, **arrays | {"about": np.array([_Trap(trap)], object)})
    elif how == "another npz":
        np.savez(path, images=np.zeros(3))


@pytest.mark.parametrize("how", ["cut short", "a byte turned", "empty", "a pickle", "a pickle inside", "another npz"])
def test_a_damaged_file_is_refused_in_one_line_and_runs_nothing(finished, tmp_path, how):
    path, trap = str(tmp_path / FILE), str(tmp_path / "trap")
    shutil.copy(os.path.join(finished.workdir, FILE), path)
    _damage(path, how, trap)
    with pytest.raises(ValueError, match="is no meta-network or is damaged") as caught:
        load_meta_network(path)
    assert "\n" not in str(caught.value)
    assert not os.path.exists(trap)


def test_another_version_and_no_file_are_refused(finished, tmp_path):
    with np.load(os.path.join(finished.workdir, FILE)) as file:
        arrays = dict(file)
    about = str(arrays["about"]).replace('"version": 1', '"version": 99')
    np.savez(tmp_path / FILE, **arrays | {"about": np.asarray(about)})
    with pytest.raises(ValueError, match="has format 99"):
        load_meta_network(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_meta_network(str(tmp_path / "nothing"))
