"""What the folder of an adaptation holds, for its report."""

import csv
import os
from typing import NamedTuple

import numpy as np

from atnas_jax.data.npz import load_arrays
from atnas_jax.job.command import kept_command
from atnas_jax.novel.adapt_folder import CSV, PREDICTIONS, QUERIES, SUMMARY
from atnas_jax.novel.adapted_network import AdaptedNetwork, load_adapted
from atnas_jax.report.read import Record


class Adaptation(NamedTuple):
    """One novel task and its outcome: N classes, n queries, of which m are kept as pictures."""

    folder: str
    network: AdaptedNetwork  # its `about` is what adaptation.json has
    classes: tuple[str, ...]  # [N]
    names: tuple[str, ...]  # [n], file names of the queries
    probabilities: np.ndarray  # float64 [n,N]
    predicted: np.ndarray  # int [n], the likeliest class
    labels: np.ndarray | None  # int32 [n], where they are known
    rows: np.ndarray  # int32 [m], which queries the pictures are
    images: np.ndarray  # uint8 [m,H,W,C]
    command: str


def holds_adaptation(folder: str) -> bool:
    """Return whether launch.adapt wrote into the folder."""
    return os.path.exists(os.path.join(folder, SUMMARY))


def read_adaptation(folder: str) -> Adaptation:
    """Read an adaptation.

    Raises:
        FileNotFoundError: a file of it is not there.
        ValueError: one is damaged, or they are not of the same adaptation.
    """
    network = load_adapted(folder)
    cure = "run launch.adapt again"
    try:
        names, probabilities = _predictions(os.path.join(folder, PREDICTIONS))
        kept = load_arrays(os.path.join(folder, QUERIES))
        rows, images, labels = kept["rows"], kept["images"], kept.get("labels")
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{folder} holds a damaged {PREDICTIONS} or {QUERIES} ({error}); {cure}") from error
    number = network.about.get("query_images")
    if not len(names) == len(probabilities) == number or len(rows) != len(images) or max(rows) >= number:
        raise ValueError(f"{folder}: {PREDICTIONS} and {QUERIES} are not of the adaptation in weights.npz; {cure}")
    return Adaptation(
        folder=folder,
        network=network,
        classes=tuple(map(str, network.classes)),
        names=names,
        probabilities=probabilities,
        predicted=probabilities.argmax(1),
        labels=labels,
        rows=rows,
        images=images,
        command=kept_command(folder),
    )


def record_of(network: AdaptedNetwork, folder: str = "", command: str = "") -> Record:
    """Return an adapted network as the sections of a run's report take it."""
    return Record(
        workdir=folder, name=name_of(folder), config=network.config, results={}, metrics=[], generations=[], shown={},
        space=network.space, genotype=network.genotype, image_shape=network.image_shape, command=command,
    )  # fmt: skip


def drawn_of(network: AdaptedNetwork) -> Record:
    """Return the same with a head of the classes of the task, not of the protocol, for its drawing."""
    config = network.config.copy_and_resolve_references()
    config.protocol.ways = len(network.classes)
    return record_of(network._replace(config=config))


def name_of(folder: str) -> str:
    """Return the last part of the path of a folder."""
    return os.path.basename(os.path.abspath(folder)) if folder else ""


def _predictions(path: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names [n] and probabilities float64 [n,N] of predictions.csv."""
    with open(path, **CSV) as file:
        _, *rows = csv.reader(file)
    return tuple(row[0] for row in rows), np.array([row[2:] for row in rows], float)
