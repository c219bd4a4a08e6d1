"""A network for a whole data set out of a meta-network:

python -m launch.specialise --workdir=glyphs-gray --data=DIR --out=DIR

Compared with a search from scratch in the same space and with random architectures: accuracy against total seconds.
A seed that is done is kept in --out and not run again. Seeds may run apart, each to an --out of its own; --known joins
them.
"""

from absl import flags

from atnas_jax.export.write import export_trained
from atnas_jax.many_shot.seeds import NETWORK, specialise_seeds
from atnas_jax.many_shot.specialise import ROWS, read_task
from atnas_jax.many_shot.specialise_report import specialise_table
from atnas_jax.report.specialised import write_specialised
from launch import _main

_WORKDIR = flags.DEFINE_string("workdir", None, "Finished search, its meta_network.npz, or glyphs-gray.", required=True)
_DATA = flags.DEFINE_string("data", None, "Folder of class folders of images, or npz.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the comparison and, in network/, the network.", required=True)
_ROWS = flags.DEFINE_list("rows", ",".join(ROWS), "What is compared; adapted is needed.")
_WIDTH = flags.DEFINE_integer("width", 1, "Times the channels of the networks that train.", lower_bound=1)
_DEPTH = flags.DEFINE_integer("depth", 0, "Blocks or cells more in the networks that train.", lower_bound=0)
_STEPS = flags.DEFINE_integer("steps", None, "Of the training; default: specialise.steps.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of split, searches and trainings.", lower_bound=0)
_SEEDS = flags.DEFINE_integer(
    "seeds", 1, "Seeds to compare with, from --seed on; network/ is of the first that ran here.", lower_bound=1
)
_KNOWN = flags.DEFINE_list("known", [], "Other --out folders of this comparison, whose seeds are taken over.")


def main(_: list[str]) -> None:
    """Specialise, write the comparison and the network, and print the table."""
    changes = {} if _STEPS.value is None else {"specialise.steps": _STEPS.value}
    task = read_task(
        _WORKDIR.value, _DATA.value, rows=_ROWS.value, width=_WIDTH.value, depth=_DEPTH.value, changes=changes
    )

    def done(records, found, first):
        if first:
            export_trained(found, f"{_OUT.value}/{NETWORK}")
            print(f"wrote {_OUT.value}/{NETWORK}/")
        write_specialised(_OUT.value, records)

    seeds = range(_SEED.value, _SEED.value + _SEEDS.value)
    records = specialise_seeds(
        task, _OUT.value, seeds, done, known=_KNOWN.value, note=lambda line: print(line, flush=True)
    )
    page = write_specialised(_OUT.value, records)
    print(specialise_table(records))
    print(f"wrote {page}, specialise.txt, specialise.json and figures/")


if __name__ == "__main__":
    _main.run(main)
