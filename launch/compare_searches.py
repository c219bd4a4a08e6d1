"""Compare strategies in whole searches across tasks, at an equal budget of evaluations.

python -m launch.compare_searches --config=configs/quickstart.py --strategies=all --out=DIR

Each search is a run in DIR/STRATEGY-SEED, whose page launch.report --workdir=DIR/STRATEGY-SEED writes; the same command
goes on where it was stopped. Writes comparison.txt and comparison.json into DIR, and prints the first.
"""

from absl import flags
from ml_collections import config_flags

from atnas_jax.study.compare_searches import compare_searches, searches_table
from launch import _main

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file with get_config(), configs/NAME.py.")
flags.mark_flag_as_required("config")
_STRATEGIES = flags.DEFINE_string("strategies", "all", "Names with commas between.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Searches of each strategy.", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "Folder to write to, made where absent.", required=True)
_QUIET = flags.DEFINE_bool("quiet", False, "Show no progress.")


def main(_: list[str]) -> None:
    """Search with each, print the table."""
    record = compare_searches(_CONFIG.value, _STRATEGIES.value, _SEEDS.value, _OUT.value, quiet=_QUIET.value)
    print(searches_table(record))


if __name__ == "__main__":
    _main.run(main)
