"""Omniglot, 5-way 5-shot: 28x28, Vinyals split by character, no rotated classes in meta_test.

Data: an npz file beside the repository; another place: --config.data.source=npz:PATH.
Command: python -m launch.search --config=configs/omniglot_5w5s.py --workdir=runs/omniglot_5w5s
"""

from ml_collections import ConfigDict

from configs.omniglot_5w1s import get_config as one_shot


def get_config() -> ConfigDict:
    """Return the settings of the run: those of one shot, which train on single images, under another protocol."""
    config = one_shot()
    config.protocol.ways = 5
    config.protocol.shots = 5
    return config
