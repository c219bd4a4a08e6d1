"""Test a finished search again: python -m launch.meta_test --workdir=RUN --episodes=600.

Rewrites results.json and report.html of the workdir, and prints the table. --ways and --shots test the network of one
protocol under another, --rotations with rotated classes, --margin what it chooses under another adapt.margin,
--inner_steps and --tolerance how far it adapts, --rows fewer rows; --source says where the data is now. --paired,
--inner_steps_curve=0,1,5,20, --generations_curve and --front=200 add what says how far to believe it, which
results.json keeps under `evidence`.
"""

from absl import flags

from atnas_jax.evidence.evidence import Asked, evidence_text
from atnas_jax.job.results import results_table
from atnas_jax.report.page import write_report
from atnas_jax.run.search import test_again
from launch import _main

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
_EPISODES = flags.DEFINE_integer("episodes", None, "Episodes a row; default: the config's.", lower_bound=2)
_WAYS = flags.DEFINE_integer("ways", None, "Classes of an episode; default: the config's.", lower_bound=2)
_SHOTS = flags.DEFINE_integer("shots", None, "Support images a class; default: the config's.", lower_bound=1)
_ROWS = flags.DEFINE_list("rows", [], "Rows to score, such as best,conv4; default: the config's.")
_QUERIES = flags.DEFINE_integer("queries", None, "Query images a class; default: the config's.", lower_bound=1)
_SEED = flags.DEFINE_integer("episode_seed", None, "Of the evaluation episodes; default: the config's.", lower_bound=0)
_ROTATIONS = flags.DEFINE_bool("rotations", None, "Rotated classes take part; default: the config's.")
_MARGIN = flags.DEFINE_float("margin", None, "Of adapt.margin, without a trial; default: the config's, after a trial.")
_INNER = flags.DEFINE_integer("inner_steps", None, "Of each episode; default: the config's.", lower_bound=0)
_TOLERANCE = flags.DEFINE_float("tolerance", None, "Of learner.tolerance; default: the config's.", lower_bound=0)
_SOURCE = flags.DEFINE_string("source", None, "Where the data of the run is now; default: the config's data.source.")
_PAIRED = flags.DEFINE_bool("paired", False, "Differences of rows on the same episodes, permutation control included.")
_STEPS = flags.DEFINE_list("inner_steps_curve", [], "Inner steps to score best and conv4 at, such as 0,1,2,3,5,10,20.")
_GENERATIONS = flags.DEFINE_bool("generations_curve", False, "Accuracy after each generation, of run and of task.")
_FRONT = flags.DEFINE_integer("front", 0, "Episodes of each point of the fronts; 0: no fronts.", lower_bound=0)
_QUIET = flags.DEFINE_bool("quiet", False, "Show no progress.")


def main(_: list[str]) -> None:
    """Score all rows again, print the final table, and write the report."""
    changes = {
        **{"protocol.ways": _WAYS.value, "protocol.shots": _SHOTS.value, "protocol.queries": _QUERIES.value},
        **{"protocol.episodes": _EPISODES.value, "protocol.seed": _SEED.value, "protocol.rotations": _ROTATIONS.value},
        **{"adapt.margin": _MARGIN.value, "data.source": _SOURCE.value},
        **{"learner.eval_inner_steps": _INNER.value, "learner.tolerance": _TOLERANCE.value},
    }
    given = {name: value for name, value in changes.items() if value is not None}
    asked = Asked(_PAIRED.value, tuple(map(_steps, _STEPS.value)), _GENERATIONS.value, _FRONT.value)
    results = test_again(_WORKDIR.value, given, rows=tuple(_ROWS.value), asked=asked, quiet=_QUIET.value)
    print("\n\n".join(filter(None, (results_table(results), evidence_text(results.get("evidence", {}))))))
    print(f"report   {write_report(_WORKDIR.value)}")


def _steps(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError(f"inner_steps_curve has {text!r}; it must be numbers from 0 on, such as 0,1,2,5,10,20")
    return int(text)


if __name__ == "__main__":
    _main.run(main)
