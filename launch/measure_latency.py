"""Measure this device for a config: python -m launch.measure_latency --config=configs/NAME.py --out=latency.json.

The table says what every network of the config's space takes here; --config.search.latency=latency.json reads it.
"""

from absl import flags
from ml_collections import config_flags

from atnas_jax.bench import latency, report
from atnas_jax.bench.peak import default_device
from atnas_jax.job.build import load_data
from atnas_jax.job.config import check_config
from atnas_jax.job.files import check_out
from atnas_jax.job.results import versions
from atnas_jax.job.spaces import make_space
from atnas_jax.space.expected import tables_to_dict
from atnas_jax.space.text import space_to_dict
from launch import _main

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file with get_config(), configs/NAME.py.")
flags.mark_flag_as_required("config")
_OUT = flags.DEFINE_string("out", None, "Write the table to this JSON file.", required=True)
_IMAGES = flags.DEFINE_integer("images", 1, "Images that a network takes at a time.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "How often each part is timed.", lower_bound=1)


def main(_: list[str]) -> None:
    """Check the config, time the parts of its space, and write them."""
    config = _CONFIG.value
    check_config(config)
    space, shape = make_space(config), load_data(config).table.images.shape[1:]
    check_out(_OUT.value)
    net = {name: config.net[name] for name in ("readout", "normalisation", "conv", "dtype")}
    tables = latency.measure(
        space, latency.Setting(shape, ways=config.protocol.ways, **net), _IMAGES.value, _ROUNDS.value
    )
    record = {"device": default_device(), "versions": versions(), "unit": "ms", "images": _IMAGES.value}
    record |= {"space": space_to_dict(space), "image_shape": list(shape), **tables_to_dict(tables)}
    report.write(_OUT.value, record)
    print(f"wrote {_OUT.value}: milliseconds of {_IMAGES.value} images {list(shape)}")


if __name__ == "__main__":
    _main.run(main)
