"""Every file of configs/ says what it is, passes the check, and takes two outer steps and a generation."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from atnas_jax.data.protocols import PROTOCOLS
from atnas_jax.data.sources import KINDS
from atnas_jax.job.build import build
from atnas_jax.job.config import check_config
from atnas_jax.job.progress import make_progress
from atnas_jax.run.units import run_units
from atnas_jax.space.text import parse

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.py"))
SMALL = {  # the space, the learner and the network stay as they are
    "data.protocol": "",
    "protocol.ways": 2,
    "protocol.queries": 1,
    "train.ways": 2,
    "train.queries": 1,
    "train.tasks": 2,
    "train.steps": 2,
    "train.chunk": 1,
    "train.warmup": 0.0,
    "search.generations": 1,
    "search.population": 3,
    "search.episodes": 2,
    "meta_test.conv4": False,
}


pytestmark = pytest.mark.usefixtures("few_optimisations")


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_a_lab_page(path):
    module = _load(path)
    check_config(module.get_config())
    for entry in ("Data:", "Command: ", f"configs/{path.name}"):
        assert entry in module.__doc__, f"{path.name} does not say {entry!r}"
    source = module.get_config().data.source
    assert source.split(":")[0] in KINDS or Path(source).suffix in (".npz", ".tar")


def _data(config, path):
    """Write random images of the size that the config's protocol names, 28x28 grey where it names none."""
    size, channels = 28, 1
    if config.data.protocol:
        protocol = PROTOCOLS[config.data.protocol]
        size, channels = protocol.image_size, protocol.channels
    split = ("meta_train",) * 3 + ("meta_valid",) * 3 + ("meta_test",) * 3
    labels = np.repeat(np.arange(9), 4 + max(config.train.shots, config.protocol.shots))
    images = np.random.default_rng(0).integers(0, 256, (len(labels), size, size, channels), dtype=np.uint8)
    np.savez(path, images=images, labels=labels, class_split=split)
    return str(path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_takes_two_steps_and_a_generation(path, tmp_path):
    config = _load(path).get_config()
    config.update_from_flattened_dict(SMALL | {"data.source": _data(config, tmp_path / "random.npz")})
    check_config(config)
    parts = build(config)
    state, notes = run_units(config, parts, str(tmp_path), make_progress({}, quiet=True))
    assert int(state.meta.step) == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.meta.params))
    (generation,) = notes["history"]
    parse(parts.space, generation["best_genotype"])
