"""The meta-network `glyphs-color` that comes with the library: colour 32x32 glyphs, strongly warped, many ways.

Data: glyphs-color (letters and symbols of many scripts in random colours), split by script; no published number.
Task: trained on 20-way 1-shot; the figures of its meta-test, 5-way 3-shot, are in README.
Command: python -m launch.search --config=configs/glyphs_color.py --workdir=runs/glyphs_color
Hardware: 2 CPU cores, no accelerator.
"""

from ml_collections import ConfigDict

from configs.glyphs_gray import get_config as glyphs_gray


def get_config() -> ConfigDict:
    """Return the settings of the run."""
    config = glyphs_gray()
    config.data.source = "glyphs-color"
    return config
