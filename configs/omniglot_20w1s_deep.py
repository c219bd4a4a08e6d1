"""Omniglot, 20-way 1-shot, in a space of deeper chains: does a searched network beat Conv4 at no more parameters?

Data: an npz file, made as docs/own_data.md says, beside the repository; elsewhere: --config.data.source=npz:PATH.
Published: see configs/omniglot_20w1s.py, whose recipe this is, with a third of its steps.
Measured, 600 episodes, seed 0: best 96.13 +- 0.19 inductive, 96.30 +- 0.18 transductive, of 106,372 parameters and 8.1
    million multiply-adds (chain:d5/conv3-48/conv3-48/conv3-48/conv3-64/conv3-48/conv3-32/none); conv4, trained alone on
    as many episodes, 95.61 +- 0.19 and 95.86 +- 0.19, 112,980 and 9.8 million, paired 0.52 +- 0.12 and 0.44 +- 0.13
    behind (launch.meta_test --rows=best,conv4 --paired); random architectures of the same supernet 89.80 +- 0.27 and
    90.05 +- 0.27. 16,000 training episodes each, 82 minutes in all on one core (--cpu_devices=1) of an AMD EPYC with
    AVX512_BF16. The space was chosen on meta_valid, by single networks alone for 2,000 steps, inductive: Conv4 92.75 +-
    0.28; five blocks (32, 48, 48, 64, 64), two of them on 7x7, 93.29 +- 0.27; six (32, 48, 48, 48, 48, 64), three on
    7x7, 93.66 +- 0.27; two on 3x3 instead, after 2,500 steps, 93.17 +- 0.27. A residual chain learnt more slowly, and
    was stopped.
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
