"""Does the supernet rank as training alone does? python -m launch.rank_check --workdir=RUN --steps=2000 --out=DIR.

Writes rank_check.txt, rank_check.json and rank_check.png into --out, and prints the first; run again, it goes on. A run
with train.finish_valid is refused, as meta_valid scores here.
"""

from absl import flags

from atnas_jax.study.rank_check import rank_check
from atnas_jax.study.rank_measure import Check
from atnas_jax.study.rank_report import rank_table, write_rank_check
from launch import _main

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder to write to, made where absent; it keeps what is done.", required=True)
_GENOTYPES = flags.DEFINE_integer("genotypes", 32, "Genotypes, all of them different networks.", lower_bound=2)
_STEPS = flags.DEFINE_integer("steps", 0, "Outer steps of each one alone; 0 is those of the run.", lower_bound=0)
_SEEDS = flags.DEFINE_integer("seeds", 2, "Trainings of a genotype; 2 or more give the ceiling.", lower_bound=1)
_REPEATED = flags.DEFINE_integer("repeated", 0, "Genotypes that get all the seeds, others one; 0: all.", lower_bound=0)
_POPULATION = flags.DEFINE_integer("population", 0, "How many are of the run's population, not random.", lower_bound=0)
_EPISODES = flags.DEFINE_integer("episodes", 300, "Episodes of meta_valid that score.", lower_bound=2)
_TUNE = flags.DEFINE_integer("tune", 0, "Also rank after so many outer steps from the shared weights.", lower_bound=0)
_PROXIES = flags.DEFINE_bool("proxies", True, "Also rank by zero-cost proxies.")
_SOURCE = flags.DEFINE_string("source", "", "Where the data of the run is now; default: its data.source.")
_QUIET = flags.DEFINE_bool("quiet", False, "Show no progress.")


def main(_: list[str]) -> None:
    """Train genotypes alone, compare, print the table, and write it."""
    asked = (_GENOTYPES, _STEPS, _SEEDS, _REPEATED, _POPULATION, _EPISODES, _TUNE, _PROXIES)
    check = Check(*(flag.value for flag in asked))
    record = rank_check(_WORKDIR.value, _OUT.value, check, source=_SOURCE.value, quiet=_QUIET.value)
    write_rank_check(_OUT.value, record)
    print(rank_table(record))


if __name__ == "__main__":
    _main.run(main)
