"""Data sets in the layout of TensorFlow Datasets, as array_record, read and written without TensorFlow."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from atnas_jax.data.images import LabelledImages, decode, encode_png, stack

_GROUP_FEATURES = ("group", "alphabet", "coarse_label")
_PARTS_OF_OTHERS = ("small1", "small2")  # of tfds omniglot, whose images are in train already


def read_tfds(name: str, image_size: int = 0, channels: int = 0) -> LabelledImages:
    """Read a prepared data set; nothing is downloaded or prepared.

    Args:
        name: `NAME` or `NAME@DATA_DIR`; DATA_DIR is `$TFDS_DATA_DIR` or `~/tensorflow_datasets` when absent.
        image_size: resize each image to this square, 0 keeps the size.
        channels: 1 grey, 3 RGB, 0 as the images are.

    Raises:
        FileNotFoundError: not prepared; the line says which command prepares it.
        ValueError: not array_record, or without image and label.
    """
    name, _, data_dir = name.partition("@")
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets")
    folder = _prepared_folder(root / name)
    if folder is None:
        raise FileNotFoundError(
            f"tfds:{name} is not prepared in {root}: type "
            f"python -m launch.prepare_tfds --source=FOLDER_OR_NPZ --name={name.partition('/')[0]} --out={root}"
        )
    tfds = _import_tfds()
    builder = tfds.builder_from_directory(folder)
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
        raise ValueError(f"tfds:{name} has the features {', '.join(features)}: need an image and a class label")
    decoders = {"image": tfds.decode.SkipDecoding()}
    images, labels, groups = [], [], {}
    for split in sorted(set(builder.info.splits) - set(_PARTS_OF_OTHERS)):
        try:
            rows = builder.as_data_source(split=split, decoders=decoders)
        except NotImplementedError:
            raise ValueError(
                f"tfds:{name} in {folder} is not array_record: type tfds build {name} --file_format=array_record"
            ) from None
        for row in rows:
            images.append(decode(_as_bytes(row["image"]), f"tfds:{name} image {len(images)}", image_size, channels))
            labels.append(int(row["label"]))
            groups.setdefault(labels[-1], _group_name(row, features))
    names = tuple(features["label"].names)
    stored = dict(builder.info.metadata or {})
    class_groups = tuple(stored.get("class_groups") or (groups.get(k, "") for k in range(len(names))))
    splits = {key: tuple(value) for key, value in stored.get("splits", {}).items()}
    array = stack(images, [f"image {i}" for i in range(len(images))], f"tfds:{name}")
    if name.partition("/")[0] == "omniglot" and "splits" not in stored:  # which `write_tfds` has stored
        array = 255 - array  # of others, stored with paper high; everywhere else here ink is high
    return LabelledImages(array, np.array(labels, np.int32), names, class_groups, splits)


def write_tfds(data: LabelledImages, name: str, out: str) -> Path:
    """Write `data` below `out` as PNG in array_record; the folder `out/name` appears complete or not at all.

    Args:
        data: any; its class names, groups and splits are kept.
        name: lower-case letters, digits and underscores.
        out: the DATA_DIR of TensorFlow Datasets, made if absent.

    Returns:
        The folder written.

    Raises:
        ValueError: a bad name, or the folder exists.
    """
    if not (name.isidentifier() and name == name.lower()):
        raise ValueError(f"name {name!r}: type lower-case letters, digits and underscores, not a digit first")
    out = str(Path(out).expanduser())
    target = Path(out) / name
    if target.exists():
        raise ValueError(f"{target} exists: type another name, or remove it")
    tfds = _import_tfds()
    Path(out).mkdir(parents=True, exist_ok=True)
    temporary = tempfile.mkdtemp(dir=out, prefix=".tmp-")
    try:
        _builder(tfds, data, name, temporary).download_and_prepare(file_format="array_record")
        os.replace(Path(temporary) / name, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _builder(tfds: ModuleType, data: LabelledImages, name: str, data_dir: str):
    """Return a TFDS builder whose splits are those of the data, or one split `whole`."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=data.images.shape[1:], encoding_format="png")
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": image,
                        "label": tfds.features.ClassLabel(names=list(data.class_names)),
                        "group": tfds.features.Text(),
                    }
                ),
                metadata=tfds.core.MetadataDict(class_groups=data.class_groups, splits=data.splits),
            )

        def _split_generators(self, dl_manager):
            given = data.splits.get("", ("whole",) * len(data.class_names))
            return {split or "unused": self._generate_examples(split, given) for split in dict.fromkeys(given)}

        def _generate_examples(self, split: str, given: tuple[str, ...]) -> Iterator[tuple[int, dict]]:
            for i in np.flatnonzero(np.array(given)[data.labels] == split).tolist():
                label = int(data.labels[i])
                row = {"image": encode_png(data.images[i]), "label": label, "group": data.class_groups[label]}
                yield i, row

    Builder.name = name
    return Builder(data_dir=data_dir)


def _prepared_folder(root: Path) -> Path | None:
    """Return the newest folder below `root` that holds a prepared data set, or None."""
    found = [path.parent for path in root.glob("**/dataset_info.json")] if root.is_dir() else []
    return max(found, key=lambda path: [int(n) if n.isdigit() else -1 for n in path.name.split(".")], default=None)


def _import_tfds() -> ModuleType:
    """Import tensorflow_datasets, or say what to install."""
    try:
        import array_record  # noqa: F401
        import tensorflow_datasets
    except ImportError as error:
        raise ValueError(
            f"tfds needs {error.name}, which is absent: "
            "type pip install tensorflow-datasets array_record importlib_resources"
        ) from None
    return tensorflow_datasets


def _as_bytes(value) -> bytes:
    """Return the encoded image, which may come as bytes or as a 0-d object array."""
    return value if isinstance(value, bytes) else np.asarray(value).item()


def _group_name(row: dict, features) -> str:
    """Return the group of an example by the first of `_GROUP_FEATURES` that it has, or ""."""
    for key in _GROUP_FEATURES:
        if key in features:
            value = row[key]
            if hasattr(features[key], "int2str"):
                return features[key].int2str(int(value))
            return value.decode() if isinstance(value, bytes) else str(value)
    return ""
