"""Omniglot, 5-way 5-shot: 28x28, Vinyals split by character, no rotated classes in meta_test.

Data: an npz file, made as docs/own_data.md says, beside the repository; elsewhere: --config.data.source=npz:PATH.
Measured, 600 episodes, seed 0, on the network of configs/omniglot_20w1s.py (trained on one shot, its generations scored
    by 20 ways and one shot), by launch.meta_test --ways=5 --shots=5: best 99.70 +- 0.06 inductive, 99.75 +- 0.05
    transductive.
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
