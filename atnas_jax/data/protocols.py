"""Named protocols: the splits and episode shapes that published tables rest on, checked against the data."""

from dataclasses import dataclass

from atnas_jax.data.table import SPLITS, DataSet

_BACKGROUND_VALID = ("Burmese_(Myanmar)", "Futurama", "Hebrew", "Korean", "Tagalog")
_EVALUATION = (
    "Angelic", "Atemayar_Qelisayer", "Atlantean", "Aurek-Besh", "Avesta", "Ge_ez", "Glagolitic", "Gurmukhi", "Kannada",
    "Keble", "Malayalam", "Manipuri", "Mongolian", "Old_Church_Slavonic_(Cyrillic)", "Oriya", "Sylheti",
    "Syriac_(Serto)", "Tengwar", "Tibetan", "ULOG",
)  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """What a published few-shot benchmark fixes."""

    split: str  # as in `splits.py`
    counts: tuple[int, int, int]  # classes of meta_train, meta_valid, meta_test
    image_size: int
    channels: int
    ways: int
    shots: int
    queries: int  # per class, at test
    description: str
    citation: str


PROTOCOLS: dict[str, Protocol] = {
    "omniglot": Protocol(
        split="given",
        counts=(1028, 172, 423),
        image_size=28,
        channels=1,
        ways=5,
        shots=1,
        queries=15,
        description="Omniglot characters by the fixed lists of Vinyals et al.; alphabets are shared between splits",
        citation="Lake et al., Science 2015; Vinyals et al., NeurIPS 2016",
    ),
    "omniglot_by_alphabet": Protocol(
        split=f"group:{','.join(_EVALUATION)}=meta_test;{','.join(_BACKGROUND_VALID)}=meta_valid",
        counts=(825, 139, 659),
        image_size=28,
        channels=1,
        ways=5,
        shots=1,
        queries=15,
        description="Lake's 30 background and 20 evaluation alphabets; five background alphabets are held out as "
        "meta_valid (this project's choice), so no alphabet is shared between splits",
        citation="Lake et al., Science 2015",
    ),
    "cifar_fs": Protocol(
        split="given",
        counts=(64, 16, 20),
        image_size=32,
        channels=3,
        ways=5,
        shots=1,
        queries=15,
        description="CIFAR-100 classes split at random",
        citation="Bertinetto et al., ICLR 2019",
    ),
    "fc100": Protocol(
        split="fc100",
        counts=(60, 20, 20),
        image_size=32,
        channels=3,
        ways=5,
        shots=1,
        queries=15,
        description="CIFAR-100 split by superclass: 12/4/4",
        citation="Oreshkin et al., NeurIPS 2018",
    ),
    "mini_imagenet": Protocol(
        split="given",
        counts=(64, 16, 20),
        image_size=84,
        channels=3,
        ways=5,
        shots=1,
        queries=15,
        description="100 ImageNet classes by the lists of Ravi and Larochelle",
        citation="Vinyals et al., NeurIPS 2016; Ravi and Larochelle, ICLR 2017",
    ),
}


def find_protocol(name: str) -> Protocol:
    """Return the protocol `name`, or raise a one-line `ValueError` that lists them."""
    if name not in PROTOCOLS:
        raise ValueError(f"protocol {name!r} is unknown: type one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def check_protocol(name: str, dataset: DataSet) -> None:
    """Raise a one-line `ValueError` unless `dataset` has the shape and the class counts of protocol `name`."""
    protocol = find_protocol(name)
    counts = tuple(int(getattr(dataset.table, split).shape[0]) for split in SPLITS)
    if counts != protocol.counts:
        want, have = ("/".join(map(str, c)) for c in (protocol.counts, counts))
        raise ValueError(
            f"protocol {name} has {want} classes (train/valid/test) but {dataset.source} split by "
            f"{dataset.split_name!r} has {have}: type other data, or drop the protocol"
        )
    want_shape = (protocol.image_size, protocol.image_size, protocol.channels)
    if dataset.table.images.shape[1:] != want_shape:
        shape = list(dataset.table.images.shape[1:])
        raise ValueError(
            f"protocol {name} has images {list(want_shape)} but {dataset.source} has {shape}: "
            f"type image_size={protocol.image_size} channels={protocol.channels}"
        )
