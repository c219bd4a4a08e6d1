"""Turn a folder or npz of images into a TensorFlow Datasets data set (array_record), without TensorFlow.

python -m launch.prepare_tfds --source=folder:photos --name=photos --out=~/tensorflow_datasets
"""

from absl import flags

from atnas_jax.data.sources import read
from atnas_jax.data.tfds_source import write_tfds
from launch import _main

_SOURCE = flags.DEFINE_string("source", None, "folder:PATH, npz:PATH, tar:PATH, glyphs, or a path.", required=True)
_NAME = flags.DEFINE_string(
    "name", None, "Name of the data set: lower-case letters, digits, underscores.", required=True
)
_OUT = flags.DEFINE_string(
    "out", None, "The DATA_DIR to write below, as tfds and TFDS_DATA_DIR call it.", required=True
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 0, "Resize images to this square; 0 keeps their size.")
_CHANNELS = flags.DEFINE_integer("channels", 0, "1 grey, 3 RGB, 0 as the data is.")


def main(_: list[str]) -> None:
    """Read the source and write it below the data folder."""
    data, source = read(_SOURCE.value, _IMAGE_SIZE.value, _CHANNELS.value)
    folder = write_tfds(data, _NAME.value, _OUT.value)
    print(f"{len(data.images)} images of {len(data.class_names)} classes from {source} -> {folder}")
    print(f"read it with --source=tfds:{_NAME.value}@{_OUT.value}")


if __name__ == "__main__":
    _main.run(main)
