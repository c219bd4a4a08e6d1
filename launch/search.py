"""Search across tasks: python -m launch.search --config=configs/quickstart.py --workdir=runs/NAME [--config.KEY=VALUE].

Writes metrics, checkpoints, results.json and report.html into the workdir; run again, it goes on from the last
checkpoint.
"""

from absl import flags
from ml_collections import config_flags

from atnas_jax.job.config import check_config
from atnas_jax.job.processes import is_first
from atnas_jax.job.results import results_table
from atnas_jax.report.page import write_report
from atnas_jax.run.search import across_task_search
from launch import _main, _processes

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file with get_config(), configs/NAME.py.")
flags.mark_flag_as_required("config")  # a default would be read before the flags, and its errors not be caught
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, made where absent.", required=True)
_ACCEPT = flags.DEFINE_bool("accept_changes", False, "Go on though settings differ that change no training.")
_QUIET = flags.DEFINE_bool("quiet", False, "Show no progress.")
_MESH = flags.DEFINE_string("mesh", "", "Of all devices, as tasks:4,population:2; default: one episode a device.")
flags.adopt_module_key_flags(_processes)


def main(_: list[str]) -> None:
    """Check the config, search, print the final table, and write the report."""
    check_config(_CONFIG.value)
    _processes.join()
    results = across_task_search(
        _CONFIG.value, _WORKDIR.value, quiet=_QUIET.value, accept_changes=_ACCEPT.value, mesh=_MESH.value
    )
    if is_first():
        print(results_table(results))
        print(f"report   {write_report(_WORKDIR.value)}")


if __name__ == "__main__":
    _main.run(main)
