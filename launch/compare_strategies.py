"""Compare strategies on a table of architectures, random search always among them.

python -m launch.compare_strategies --table=planted --strategies=all --seeds=11 --evaluations=300 --out=DIR

Writes comparison.txt, comparison.json and regret.png into DIR, and prints the first.
"""

from absl import flags

from atnas_jax.study.compare import OVER_LIMIT, compare
from atnas_jax.study.compare_report import comparison_table, write_comparison
from launch import _main

_TABLE = flags.DEFINE_string("table", "planted", "planted[:interaction][:NOISE], nb201:PATH[:COLUMN], nbmacro:PATH.")
_STRATEGIES = flags.DEFINE_string(
    "strategies", "all", "Names with commas between, options as NAME:OPTION=VALUE, such as mdenas:mean=True."
)
_SEEDS = flags.DEFINE_integer("seeds", 11, "Runs of each strategy.", lower_bound=1)
_EVALUATIONS = flags.DEFINE_integer("evaluations", 300, "Evaluations of a run.", lower_bound=1)
_LIMIT = flags.DEFINE_string("limit", "", "COST:VALUE, or COST:30% for what 30 % of the genotypes keep.")
_OVER = flags.DEFINE_enum("over_limit", "repair", OVER_LIMIT, "What becomes of a genotype beyond the limit.")
_SEED = flags.DEFINE_integer("seed", 0, "Of all random numbers.", lower_bound=0)
_OUT = flags.DEFINE_string("out", "", "Folder to write to, made where absent; empty writes nothing.")


def main(_: list[str]) -> None:
    """Compare, print the table, and write it."""
    record = compare(
        _TABLE.value,
        _STRATEGIES.value,
        seeds=_SEEDS.value,
        evaluations=_EVALUATIONS.value,
        limit=_LIMIT.value,
        over_limit=_OVER.value,
        seed=_SEED.value,
    )
    print(comparison_table(record))
    if _OUT.value:
        write_comparison(_OUT.value, record)


if __name__ == "__main__":
    _main.run(main)
