"""The quickstart: a whole across-task search on the glyphs that come with the library, in minutes on two cores.

Data: glyphs (letters and symbols of many scripts, randomly warped), classes split by script. Not Omniglot; no published
    number exists for it.
Task: 5-way 1-shot, inductive.
Command: launch/quickstart.sh, or python -m launch.search --config=configs/quickstart.py --workdir=runs/first
Hardware: 2 CPU cores, no accelerator.
"""

from ml_collections import ConfigDict

from atnas_jax.job.defaults import default_config


def get_config() -> ConfigDict:
    """Return the settings of the quickstart."""
    config = default_config()
    config.data.source = "glyphs"

    config.train.ways = 10
    config.train.queries = 4
    config.train.tasks = 2
    config.train.steps = 2000
    config.train.chunk = 50
    config.train.warmup = 0.3
    config.train.outer_lr = 2e-3

    config.space.chain.ops = (("conv3", "conv5"),) + (("conv3", "sep3", "max3", "identity"),) * 3
    config.space.chain.widths = (16, 32)
    config.space.chain.depths = (2, 3, 4)
    config.space.chain.downsample = "stride"

    config.learner.name = "anil"
    config.learner.inner_steps = 2
    config.learner.inner_lr = 0.02

    config.search.generations = 8
    config.search.population = 10
    config.search.episodes = 30
    config.search.population_share = 0.9

    config.protocol.episodes = 400
    return config
