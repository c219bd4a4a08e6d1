"""One function that loads any source of images into a `DataSet`."""

from pathlib import Path

from atnas_jax.data.folder import read_folder, read_tar
from atnas_jax.data.glyphs import read_glyphs
from atnas_jax.data.images import LabelledImages, fit, read_arrays
from atnas_jax.data.protocols import check_protocol, find_protocol
from atnas_jax.data.splits import ALIASES, assign_splits
from atnas_jax.data.table import DataSet, build_dataset
from atnas_jax.data.tfds_source import read_tfds

KINDS = "glyphs, glyphs-color, npz:PATH, folder:PATH, tar:PATH or tfds:NAME"


def load(
    spec: str,
    *,
    split: str = "",
    protocol: str = "",
    image_size: int = 0,
    channels: int = 0,
    cache_dir: str | None = None,
    **options: str | int | float,
) -> DataSet:
    """Load a data set; nothing is ever downloaded.

    Args:
        spec: `glyphs`, `glyphs-color` (made from the fonts inside matplotlib; options may follow as in
            `glyphs:difficulty=0.8,per_class=5`), `npz:PATH`, `folder:PATH`, `tar:PATH`, `tfds:NAME` or
            `tfds:NAME@DATA_DIR`, or just a path of an npz, tar or folder.
        split: how classes are split, see `splits.py`; "" as the data gives it.
        protocol: a name of `protocols.PROTOCOLS`; sets split, image size and channels, and checks the counts.
        image_size: resize to this square, 0 keeps the size.
        channels: 1 grey, 3 RGB, 0 as the data is.
        cache_dir: where made glyphs are kept; `$ATNAS_CACHE` or `~/.cache/atnas_jax` when None.
        **options: of the source, for glyphs `difficulty`, `per_class` and `seed`.

    Raises:
        ValueError: one line that says what was given, what is allowed and what to type.
        FileNotFoundError: a file or folder does not exist.
    """
    split_name = split or protocol or "given"
    if protocol:
        found = find_protocol(protocol)
        split, image_size = split or found.split, image_size or found.image_size
        channels = channels or found.channels
    raw, source = read(spec, image_size, channels, cache_dir, **options)
    assigned = assign_splits(split, raw.splits, raw.class_names, raw.class_groups, source)
    dataset = build_dataset(raw.images, raw.labels, assigned, raw.class_names, raw.class_groups, source, split_name)
    if protocol:
        check_protocol(protocol, dataset)
    return dataset


def read(
    spec: str, image_size: int = 0, channels: int = 0, cache_dir: str | None = None, **options: str | int | float
) -> tuple[LabelledImages, str]:
    """Read a source before any split is chosen, and return what to call it; arguments and errors as of `load`."""
    if channels not in (0, 1, 3) or image_size < 0:
        raise ValueError(f"channels={channels} image_size={image_size}: channels is 0, 1 or 3, image_size is 0 or more")
    kind, rest = _parse(spec)
    if options and not kind.startswith("glyphs"):
        raise ValueError(f"{kind} takes no option {', '.join(options)}: only glyphs and glyphs-color take options")
    if kind.startswith("glyphs"):
        raw = read_glyphs(kind == "glyphs-color", cache_dir, **_glyph_options(rest), **options)
    elif kind == "npz":
        raw = read_npz(rest)
    else:
        raw = {"folder": read_folder, "tar": read_tar, "tfds": read_tfds}[kind](rest, image_size, channels)
    source = f"{kind}:{Path(rest).name}" if rest else kind
    return raw._replace(images=fit(raw.images, image_size, channels)), source


def read_npz(path: str) -> LabelledImages:
    """Read `images` uint8 [n,H,W] or [n,H,W,C], `labels` [n] and optionally class_names, class_groups, class_split [c].

    Arrays named `class_split_NAME` are further splits, chosen by split=NAME.
    """
    arrays = read_arrays(path, required=("images", "labels"))
    images, labels = arrays["images"], arrays["labels"]
    described = [arrays[key] for key in arrays if key.startswith("class_")]
    if any(array.ndim != 1 for array in described):
        raise ValueError(f"npz file {path}: class_names, class_groups and class_split have one entry a class")
    classes = len(described[0]) if described else int(labels.max()) + 1
    names = tuple(map(str, arrays.get("class_names", range(classes))))
    groups = tuple(map(str, arrays.get("class_groups", [""] * classes)))
    splits = {
        key.removeprefix("class_split").removeprefix("_"): tuple(ALIASES.get(str(s), str(s)) for s in value)
        for key, value in arrays.items()
        if key == "class_split" or key.startswith("class_split_")
    }
    return LabelledImages(images, labels, names, groups, splits)


def _parse(spec: str) -> tuple[str, str]:
    """Return (kind, rest) of a source spec."""
    kind, _, rest = spec.partition(":")
    if kind in ("glyphs", "glyphs-color") or (kind in ("npz", "folder", "tar", "tfds") and rest):
        return kind, rest
    path = Path(spec)
    if spec and path.is_dir():
        return "folder", spec
    if path.suffix in (".npz", ".tar"):
        return path.suffix[1:], spec
    raise ValueError(f"source {spec!r} is no folder and no known kind: type {KINDS}, or a path")


def _glyph_options(text: str) -> dict[str, float]:
    """Parse `difficulty=0.8,per_class=5`."""
    options = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        try:
            options[name.strip()] = float(value) if "." in value else int(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"glyphs option {part!r}: need name=number, as in glyphs:difficulty=0.8,per_class=5")
    return options
