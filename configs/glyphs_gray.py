"""The meta-network `glyphs-gray` that comes with the library: grey 28x28 glyphs, strongly warped, many ways.

Data: glyphs (letters and symbols of many scripts), classes split by script. No published number exists for it.
Task: trained on 20-way 1-shot, to be adapted to folders of images; README says what it reaches on Omniglot.
Command: python -m launch.search --config=configs/glyphs_gray.py --workdir=runs/glyphs_gray
Hardware: 2 CPU cores, no accelerator.
"""

from ml_collections import ConfigDict

from configs.quickstart import get_config as quickstart


def get_config() -> ConfigDict:
    """Return the settings of the run."""
    config = quickstart()
    config.train.ways = 20
    config.train.steps = 6000
    config.train.chunk = 100
    config.train.warp = 0.7
    config.train.ema = 0.998
    config.space.chain.widths = (32, 64)
    config.space.chain.depths = (3, 4)
    config.learner.inner_steps = 1
    config.search.anchor = "always"
    config.search.population = 12
    config.protocol.shots = 3
    config.protocol.queries = 10
    config.protocol.episodes = 600
    config.meta_test.conv4 = False
    config.meta_test.rows = ("adapted", "best", "random_architecture", "no_adaptation")
    return config
