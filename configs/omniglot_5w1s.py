"""Omniglot, 5-way 1-shot: the field's first table, saturated (a fixed Conv4 reaches 98-99 % transductive).

Data: all 1,623 characters at 28x28, split by character 1,028 / 172 / 423 (Vinyals); rotations are new classes in
    meta_train alone. An npz file beside the repository; another path: --config.data.source=PATH or tfds:omniglot.
Published, for orientation: MAML 98.7 +- 0.4, T-NAS++ 99.55 +- 0.32, both transductive; Reptile 95.39 inductive
    (Nichol et al. 2018). Splits and normalisations differ, so only rows of one results.json compare.
Expected here: not yet measured.
Command: python -m launch.search --config=configs/omniglot_5w1s.py --workdir=runs/omniglot_5w1s
"""

from ml_collections import ConfigDict

from atnas_jax.run.defaults import default_config


def get_config() -> ConfigDict:
    """Return the settings of Omniglot 5-way 1-shot."""
    config = default_config()
    config.data.source = "../shared/data/omniglot_28.npz"
    config.data.protocol = "omniglot"

    config.train.ways = 20  # more ways than the test: more signal per step with a prototype head
    config.train.tasks = 4
    config.train.steps = 10000
    config.space.chain.widths = (32, 64)

    config.search.generations = 20
    config.search.population = 24
    config.search.episodes = 64
    return config
