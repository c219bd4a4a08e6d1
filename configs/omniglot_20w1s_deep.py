"""Omniglot, 20-way 1-shot, in a space of deeper chains: does a searched network beat Conv4 at no more parameters?

Data: an npz file, made as docs/own_data.md says, beside the repository; elsewhere: --config.data.source=npz:PATH.
Published: see configs/omniglot_20w1s.py, whose recipe this is, with a third of its steps.
Command: python -m launch.search --config=configs/omniglot_20w1s_deep.py --workdir=runs/omniglot_20w1s_deep
"""

from ml_collections import ConfigDict

from configs.omniglot_20w1s import get_config as shallow


def get_config() -> ConfigDict:
    """Return the settings of the run."""
    config = shallow()
    config.train.steps = 8000

    # Up to three blocks on 7x7 places, where depth is cheap; the control is Conv4 in a space of its own.
    config.space.chain.ops = ("conv3",)
    config.space.chain.widths = (32, 48, 64)
    config.space.chain.depths = (4, 5, 6)
    config.space.chain.strides = (2, 2, 1, 1, 2, 1)
    config.space.chain.last_pool = True
    config.search.max_params = 112980  # of Conv4
    config.search.anchor = "never"

    config.search.episodes = 60
    config.meta_test.rows = ("best", "conv4", "random_architecture")
    config.meta_test.random_architectures = 2
    config.log.random_search = False
    return config
