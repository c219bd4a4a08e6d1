"""Test a finished search again: python -m launch.meta_test --workdir=RUN --episodes=600.

Rewrites results.json and report.html of the workdir, and prints the table.
"""

from absl import flags

from atnas_jax.report.page import write_report
from atnas_jax.run.results import results_table
from atnas_jax.run.search import test_again
from launch import _main

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
_EPISODES = flags.DEFINE_integer("episodes", None, "Episodes a row; default: the config's.", lower_bound=2)
_QUERIES = flags.DEFINE_integer("queries", None, "Query images a class; default: the config's.", lower_bound=1)
_SEED = flags.DEFINE_integer("episode_seed", None, "Of the evaluation episodes; default: the config's.", lower_bound=0)
_QUIET = flags.DEFINE_bool("quiet", False, "Show no progress.")


def main(_: list[str]) -> None:
    """Score all rows again print the final table, and write the report."""
    changes = {"episodes": _EPISODES.value, "queries": _QUERIES.value, "seed": _SEED.value}
    given = {name: value for name, value in changes.items() if value is not None}
    print(results_table(test_again(_WORKDIR.value, given, quiet=_QUIET.value)))
    print(f"report   {write_report(_WORKDIR.value)}")


if __name__ == "__main__":
    _main.run(main)
