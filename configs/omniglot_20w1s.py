"""Omniglot, 20-way 1-shot: 28x28, Vinyals split by character, no rotated classes in meta_test.

Data: an npz file, made as docs/own_data.md says, beside the repository; elsewhere: --config.data.source=npz:PATH.
Published: transductive MAML 95.8 +- 0.3, MAML++ 97.65, MetaNAS about 97.9 (of its own split); inductive, gradient-based
    TaskNorm-I 90.0 (Bronskill et al. 2020).
Measured, 600 episodes, seed 0: best 94.92 +- 0.22 inductive, 95.19 +- 0.21 transductive; random architectures of the
    same supernet 81.23 +- 0.34 and 81.72 +- 0.33. 24,000 training episodes of 40 ways, 84 minutes of training on one
    core of an AMD EPYC that other jobs shared, 2 of search; conv4 was not trained. The search ends at Conv4's own
    chain. The last 6,000 steps (train.finish) train it alone; what the accuracy would be after more was not measured.
    With --config.log.random_search=False --config.meta_test.conv4=False --config.meta_test.random_architectures=2
    "--config.meta_test.rows=('best','zero_steps','random_architecture')" --cpu_devices=1.
Command: python -m launch.search --config=configs/omniglot_20w1s.py --workdir=runs/omniglot_20w1s
"""

from ml_collections import ConfigDict

from configs.omniglot_5w1s import get_config as five_ways


def get_config() -> ConfigDict:
    """Return the settings of the run."""
    config = five_ways()
    config.protocol.ways = 20
    return config
