"""The meta-network `glyphs-color` that comes with the library: colour 32x32 glyphs, strongly warped, many ways.

Data: glyphs-color (letters and symbols of many scripts in random colours), classes split by script. No published number
    exists for it.
Task: trained on 20-way 1-shot, to be adapted to folders of images; README says what it reaches on photographs.
Command: python -m launch.search --config=configs/glyphs_color.py --workdir=runs/glyphs_color
Hardware: 1 CPU core, no accelerator.
"""

from ml_collections import ConfigDict

from configs.glyphs_gray import get_config as glyphs_gray


def get_config() -> ConfigDict:
    """Return the settings of the run."""
    config = glyphs_gray()
    config.data.source = "glyphs-color"
    config.train.steps = 3000
    config.train.chunk = 50
    config.space.chain.widths = (24, 48)
    config.space.chain.downsample = "pool"
    config.search.generations = 4
    config.protocol.episodes = 200
    config.meta_test.other_normalisation = False
    return config
