"""Say what a source of images holds, and draw a few of its episodes.

python -m launch.check_data --source=glyphs --ways=5 --shots=1 --queries=5 --out=episodes.png
"""

from absl import flags

from atnas_jax.data.picture import draw_episodes
from atnas_jax.data.protocols import find_protocol
from atnas_jax.data.sources import load
from atnas_jax.data.spec import EpisodeSpec, check_episode_spec
from atnas_jax.data.summary import summarise
from atnas_jax.data.table import SPLITS
from launch import _main

_SOURCE = flags.DEFINE_string(
    "source", "glyphs", "glyphs, glyphs-color, npz:PATH, folder:PATH, tar:PATH, tfds:NAME[@DATA_DIR], or a path."
)
_SPLIT = flags.DEFINE_string(
    "split", "", "Split by class: empty as given, random:64/16/20@0, group:10/2/3@0, file:PATH, or a name."
)
_PROTOCOL = flags.DEFINE_string(
    "protocol", "", "A named protocol, such as omniglot; sets split and shape and checks the counts."
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 0, "Resize images to this square; 0 keeps their size.")
_CHANNELS = flags.DEFINE_integer("channels", 0, "1 grey, 3 RGB, 0 as the data is.")
_WAYS = flags.DEFINE_integer("ways", 0, "Classes of an episode (default: the protocol's, or 5).")
_SHOTS = flags.DEFINE_integer("shots", 0, "Support images a class (default: the protocol's, or 1).")
_QUERIES = flags.DEFINE_integer("queries", 0, "Query images a class (default: the protocol's, or 5).")
_ROTATIONS = flags.DEFINE_bool("rotations", False, "Let 90-degree rotations count as classes.")
_MIRRORS = flags.DEFINE_bool("mirrors", False, "Let mirror images count as classes, in the check alone.")
_ALIKE = flags.DEFINE_bool("alike", False, "Turn all classes of an episode alike, in the check alone.")
_PART = flags.DEFINE_enum("part", "meta_train", list(SPLITS), "Which split to draw episodes from.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the episodes drawn.")
_OUT = flags.DEFINE_string("out", "", "Write a picture of three episodes to this PNG; empty draws none.")


def main(_: list[str]) -> None:
    """Load, print the summary, check that the episodes fit, and draw them."""
    found = find_protocol(_PROTOCOL.value) if _PROTOCOL.value else None
    spec = EpisodeSpec(
        _WAYS.value or (found.ways if found else 5),
        _SHOTS.value or (found.shots if found else 1),
        _QUERIES.value or (found.queries if found else 5),
        rotations=_ROTATIONS.value,
        mirrors=_MIRRORS.value,
        alike=_ALIKE.value,
    )
    dataset = load(
        _SOURCE.value,
        split=_SPLIT.value,
        protocol=_PROTOCOL.value,
        image_size=_IMAGE_SIZE.value,
        channels=_CHANNELS.value,
    )
    print(summarise(dataset))
    if not any((_OUT.value, _WAYS.value, _SHOTS.value, _QUERIES.value)):
        return
    check_episode_spec(dataset, _PART.value, spec)
    print(f"episodes   {spec.ways}-way {spec.shots}-shot, {spec.queries} queries a class, fit into {_PART.value}")
    if _OUT.value:
        draw_episodes(dataset, _PART.value, spec, _SEED.value, _OUT.value)
        print(f"picture    {_OUT.value}")


if __name__ == "__main__":
    _main.run(main)
