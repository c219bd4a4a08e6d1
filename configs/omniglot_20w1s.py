"""Omniglot, 20-way 1-shot: 28x28, Vinyals split by character, no rotated classes in meta_test.

Data: an npz file beside the repository; another place: --config.data.source=npz:PATH.
Command: python -m launch.search --config=configs/omniglot_20w1s.py --workdir=runs/omniglot_20w1s
"""

from ml_collections import ConfigDict

from configs.omniglot_5w1s import get_config as five_ways


def get_config() -> ConfigDict:
    """Return the settings of the run."""
    config = five_ways()
    config.protocol.ways = 20
    return config
