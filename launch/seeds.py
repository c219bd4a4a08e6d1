"""Run a config with several seeds: python -m launch.seeds --config=configs/quickstart.py --seeds=3 --workdir=RUN.

Every seed is a run in RUN/seedN, as of launch.search; typed again, finished seeds are not run again. Or merge finished
runs that differ in their seed alone: python -m launch.seeds --runs=A,B,C. Prints mean and deviation over seeds of every
row, and writes them to seeds.json of the workdir.
"""

from absl import flags
from ml_collections import config_flags

from atnas_jax.report.page import write_report
from atnas_jax.study.seeds import merge, run_seeds, seeds_table, write_seeds
from launch import _main

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file with get_config(), configs/NAME.py.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of all runs, made where absent; with --runs, of seeds.json.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs: seeds config.seed, config.seed + 1 and so on.", lower_bound=2)
_RUNS = flags.DEFINE_list("runs", [], "Folders of finished runs to merge, instead of running.")
_QUIET = flags.DEFINE_bool("quiet", False, "Show no progress.")


def main(_: list[str]) -> None:
    """Run or merge, and print the table over seeds."""
    print(seeds_table(_merged() if _RUNS.value else _run()))


def _merged() -> dict:
    if _CONFIG.value is not None:
        raise ValueError("--runs merges finished runs and --config runs one; give one of the two")
    record = merge(_RUNS.value)
    return write_seeds(_WORKDIR.value, record) if _WORKDIR.value else record


def _run() -> dict:
    if _CONFIG.value is None or not _WORKDIR.value:
        raise ValueError("give --config and --workdir to run seeds, or --runs=A,B,C to merge finished runs")
    record = run_seeds(_CONFIG.value, _WORKDIR.value, _SEEDS.value, quiet=_QUIET.value)
    for workdir in record["workdirs"]:
        write_report(workdir)
    return record


if __name__ == "__main__":
    _main.run(main)
