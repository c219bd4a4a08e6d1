"""Adapt a meta-network to your images:

python -m launch.adapt --meta_network=glyphs-gray --support=DIR --query=DIR --out=DIR

SUPPORT has one folder of a few images per class; QUERY holds images to classify, flat or in class folders.
"""

from absl import flags

from atnas_jax.job.trial import trial_text
from atnas_jax.novel.adapt_folder import adapt_folder
from atnas_jax.novel.expected import sentence
from atnas_jax.report.adaptation import write_adaptation_report
from launch import _main

_NETWORK = flags.DEFINE_string("meta_network", "", "glyphs-gray or glyphs-color, which come with the package.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Instead: workdir of a finished search, or its meta_network.npz.")
_SUPPORT = flags.DEFINE_string("support", None, "Folder of class folders of labelled images, or npz.", required=True)
_QUERY = flags.DEFINE_string("query", None, "Folder of images to classify, or npz.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder to write predictions, weights and predict.py into.", required=True)
_SEED = flags.DEFINE_integer("seed", 0, "Of the search on the support.", lower_bound=0)
_OPTIONS = (
    flags.DEFINE_integer("generations", None, "Rounds of the search; default: the config's.", lower_bound=1),
    flags.DEFINE_integer("population", None, "Genotypes a round; default: the config's.", lower_bound=2),
    flags.DEFINE_float("seconds", None, "Of searching, instead of --generations.", lower_bound=0),
    flags.DEFINE_integer("max_params", None, "Limit of the chosen architecture.", lower_bound=1),
    flags.DEFINE_integer("max_macs", None, "The same, multiply-accumulates of one image.", lower_bound=1),
    flags.DEFINE_float("max_latency_ms", None, "The same, by the latency table of the search.", lower_bound=1e-9),
)


def main(_: list[str]) -> None:
    """Adapt, write the outcome, and say it in a few lines."""
    if bool(_NETWORK.value) == bool(_WORKDIR.value):
        raise ValueError("type one of --meta_network=glyphs-gray (or glyphs-color) and --workdir=RUN")
    options, network = {flag.name: flag.value for flag in _OPTIONS}, _NETWORK.value or _WORKDIR.value
    found = adapt_folder(network, _SUPPORT.value, _QUERY.value, _OUT.value, seed=_SEED.value, **options)
    print(
        f"{len(found['classes'])} classes, {found['support_images']} support and {found['query_images']} query images"
    )
    print(f"architecture {found['genotype']} ({found['params']:,} parameters, {found['macs']:,} MACs)")
    if tried := found["kept_by_trial"]:
        print(f"it is the shared best: {trial_text(tried)}; --generations=2 searches all the same")
    else:
        print(f"chosen in {found['architecture_s']} s ({found['evaluations']} evaluations)")
    print(f"weights and predictions in {found['weights_s']} s; compiled in {found['compile_s']} s")
    print(sentence(found["expected"]))
    if found["accuracy"] is not None:
        print(f"accuracy on the query images {100 * found['accuracy']:.2f} %")
    print(f"wrote {_OUT.value}/predictions.csv, genotype.txt, adaptation.json, weights.npz, predict.py")
    print(f"report   {write_adaptation_report(_OUT.value)}")


if __name__ == "__main__":
    _main.run(main)
