"""The quickstart: a whole across-task search on the glyphs that come with the library, in minutes on two cores.

Data: glyphs (letters and symbols of many scripts, randomly warped), classes split by script. Not Omniglot; no published
    number exists for it.
Task: 5-way 1-shot, inductive.
Command: launch/quickstart.sh, or python -m launch.search --config=configs/quickstart.py --workdir=runs/quickstart
Hardware: 2 CPU cores, no accelerator.
"""

from ml_collections import ConfigDict

from atnas_jax.run.defaults import default_config


def get_config() -> ConfigDict:
    """Return the settings of the quickstart."""
    config = default_config()
    config.data.source = "glyphs"

    config.train.steps = 300
    config.train.chunk = 20
    config.train.queries = 5
    config.space.chain.widths = (16, 32)

    config.search.generations = 4
    config.search.population = 8
    config.search.episodes = 16

    config.protocol.episodes = 100
    config.meta_test.random_architectures = 4
    config.log.checkpoint_minutes = 0.5
    return config
