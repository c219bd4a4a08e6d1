"""Omniglot, 5-way 1-shot (lab page).

Data: Omniglot, 28x28, Vinyals split by character (1,028/172/423 classes), ../shared/data/omniglot_28.npz.
"""

from ml_collections import ConfigDict

from atnas_jax.run.defaults import default_config


def get_config() -> ConfigDict:
    """Return the settings of the run."""
    config = default_config()
    config.data.source = "npz:../shared/data/omniglot_28.npz"
    config.data.protocol = "omniglot"

    # Episodes of 20 ways buy more accuracy per second than those of 5 (more classes per gradient).
    config.train.ways = 20
    config.train.shots = 1
    config.train.queries = 5
    config.train.tasks = 4
    config.train.steps = 9000
    config.train.chunk = 100
    config.train.warmup = 0.4

    config.space.chain.ops = (("conv3", "conv5"),) + (("conv3", "conv5", "sep3", "max3", "identity"),) * 3
    config.space.chain.widths = (32, 64)
    config.space.chain.depths = (3, 4)
    config.space.chain.downsample = "stride"

    config.learner.name = "anil"
    config.learner.inner_steps = 1
    config.learner.inner_lr = 0.05

    config.search.generations = 12
    config.search.population = 16
    config.search.episodes = 40
    return config
