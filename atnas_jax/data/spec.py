"""The static shape of an episode, and whether data can give such episodes."""

from dataclasses import dataclass

import numpy as np

from atnas_jax.data.table import DataSet, class_sizes, split_classes


@dataclass(frozen=True)
class EpisodeSpec:
    """The static shape of an episode."""

    ways: int
    shots: int
    queries: int  # per class, so Q = ways * queries
    rotations: bool = False  # the 90-degree rotations of a class count as three more classes; square images only
    flip: bool = False  # each image is mirrored left to right with probability 1/2
    warp: float = 0.0  # strength of a random warp of each image, see `augment.py`
    mirrors: bool = False  # the mirror image of a class, of each of its rotations, counts as one more class
    alike: bool = False  # an episode turns and mirrors all its classes alike, so that these are no further classes

    @property
    def views(self) -> int:
        """How many rotations and mirror images of a class there are."""
        return (4 if self.rotations else 1) * (2 if self.mirrors else 1)

    @property
    def classes_of_one(self) -> int:
        """How many classes of an episode one class of the data can be."""
        return 1 if self.alike else self.views


def check_episode_spec(dataset: DataSet, split: str, spec: EpisodeSpec) -> None:
    """Raise a one-line `ValueError` unless episodes of this spec fit into `split`.

    Args:
        dataset: the data.
        split: one of `SPLITS`.
        spec: N of at least 2, K and the queries per class of at least 1; rotations need square images.
    """
    ways, shots, queries = spec.ways, spec.shots, spec.queries
    if ways < 2 or shots < 1 or queries < 1:
        raise ValueError(f"ways={ways} shots={shots} queries={queries}: need ways >= 2, shots >= 1 and queries >= 1")
    if spec.rotations and dataset.table.images.shape[1] != dataset.table.images.shape[2]:
        height, width = dataset.table.images.shape[1:3]
        raise ValueError(f"rotations need square images, these are {height}x{width}: turn rotations off")
    ids, sizes = np.asarray(split_classes(dataset.table, split)), class_sizes(dataset, split)
    available = len(ids) * spec.classes_of_one
    if ways > available:
        raise ValueError(f"ways={ways} but {split} of {dataset.source} has {available} classes: type a smaller ways")
    smallest = int(np.argmin(sizes))
    if sizes[smallest] < shots + queries:
        raise ValueError(
            f"class {dataset.class_names[ids[smallest]]!r} of {split} has only {sizes[smallest]} images, "
            f"shots + queries = {shots + queries} needed: type smaller shots or queries"
        )
