"""Write a network as files that others run: python -m launch.export --workdir=RUN --support=DIR --out=DIR.

With --support the network that is adapted to it (logits), without the shared best at the meta-weights (embedding).
"""

from absl import flags

from atnas_jax.export.write import export_network
from launch import _main

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of a finished search, or its meta_network.npz.", required=True)
_SUPPORT = flags.DEFINE_string("support", "", "Folder of class folders of labelled images, or npz; none: embedding.")
_OUT = flags.DEFINE_string("out", None, "Folder for the files, README.md among them.", required=True)
_FORMATS = flags.DEFINE_list("formats", "stablehlo,npz", "Some of stablehlo, npz, onnx (needs atnas_jax[onnx]).")
_INPUT = flags.DEFINE_string("input", "uint8", "What stablehlo and onnx take: uint8, or float32 in 0..1.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the search on the support.", lower_bound=0)
_GENERATIONS = flags.DEFINE_integer("generations", None, "Rounds of the search; default: the config's.", lower_bound=1)
_POPULATION = flags.DEFINE_integer("population", None, "Genotypes a round; default: the config's.", lower_bound=2)


def main(_: list[str]) -> None:
    """Export, and say what was written and how far it is from the supernet."""
    found = export_network(
        _WORKDIR.value, _OUT.value, support=_SUPPORT.value, formats=_FORMATS.value, dtype=_INPUT.value,
        seed=_SEED.value, generations=_GENERATIONS.value, population=_POPULATION.value,
    )  # fmt: skip
    print(f"architecture {found['genotype']} ({found['params']:,} numbers), output: {found['output']}")
    for name, difference in found["differences"].items():
        if difference is None:
            print(f"{name}: NOT CHECKED, its runtime is not installed; type pip install 'atnas_jax[onnx]'")
        else:
            print(f"{name}: read in a fresh process, differs from the supernet by at most {difference:.1e}")
    print(f"wrote {_OUT.value}; README.md there says how to load each file")


if __name__ == "__main__":
    _main.run(main)
