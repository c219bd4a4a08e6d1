"""Omniglot, 20-way 1-shot: 28x28, Vinyals split by character, no rotated classes in meta_test.

Data: an npz file, made as docs/own_data.md says, beside the repository; elsewhere: --config.data.source=npz:PATH.
Published: transductive MAML 95.8 +- 0.3, MAML++ 97.65, MetaNAS about 97.9 (of its own split); inductive, gradient-based
    TaskNorm-I 90.0 (Bronskill et al. 2020).
Measured, 600 episodes, seed 0: best 95.37 +- 0.21 inductive, 95.64 +- 0.20 transductive; random architectures of the
    same supernet 76.78 +- 0.35 and 77.30 +- 0.35. 72,000 training episodes of 40 ways, 89 minutes of training on an AMD
    EPYC with AVX512_BF16: the first 13,550 steps on one core beside other jobs, the others on two. conv4 was not
    trained. The search ends at Conv4's own chain; the last 27,000 steps (train.finish) train it alone. A third of the
    steps, half of them alone, in float32: 94.92 +- 0.22 and 95.19 +- 0.21. Training episodes end at 97.7 % of 40 ways,
    test episodes at 95.4 of 20, so more steps alone will not do.
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
