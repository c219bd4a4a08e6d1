"""A meta-network and a few labelled images in; an architecture, weights and predictions out."""

import csv
import json
import os
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.adaptation import adapt_architecture, pseudo_episodes
from atnas_jax.data.labelled_folder import read_images, read_support
from atnas_jax.rng import stream
from atnas_jax.run.build import evaluation_learner, feasibility
from atnas_jax.run.meta_network import MetaNetwork, load_meta_network
from atnas_jax.search.genetic import genetic
from atnas_jax.space.cost import cost_model
from atnas_jax.space.slots import mask_of
from atnas_jax.space.text import to_json, to_text
from atnas_jax.types import Params

QUERY_CHUNK = 64  # images predicted together


class Adapted(NamedTuple):
    """A meta-network after one novel task."""

    genotype: str  # one line, as every command accepts it
    genotype_json: str
    probabilities: np.ndarray  # float32 [n,N], of the query images
    weights: Params  # adapted parameters of the supernet: {"body", "head": {"w", "b"}}
    params: int
    macs: int  # of one image
    architecture_s: float  # seconds to choose the architecture, compilation included
    weights_s: float  # seconds to adapt the weights and to predict, compilation included


def adapt(
    network: MetaNetwork | str,
    support_images: np.ndarray,
    support_labels: Sequence[int] | np.ndarray,
    query_images: np.ndarray,
    *,
    seed: int = 0,
    generations: int | None = None,
    population: int | None = None,
) -> Adapted:
    """Adapt architecture and weights to a support set, and predict query images.

    Nothing of the queries takes part in choosing or adapting, unless the meta-network was trained with
    `batch_transductive` normalisation, whose predictions depend on the other queries of their chunk.

    Args:
        network: from `load_meta_network`, or a workdir.
        support_images: uint8 [S,H,W] or [S,H,W,C] of the meta-network's size and channels.
        support_labels: integers [S] in 0..N-1, every class at least once; classes may have unequal counts.
        query_images: uint8 [n,H,W] or [n,H,W,C].
        seed: of the search.
        generations: rounds of the search; the config's by default.
        population: genotypes a round; the config's by default.

    Returns:
        Adapted.

    Raises:
        ValueError: one line that says what does not fit.
    """
    network = load_meta_network(network) if isinstance(network, str) else network
    labels = np.asarray(support_labels)
    images = _as_float(network, support_images, "support")
    queries = _as_float(network, query_images, "query")
    _check_labels(labels, len(images))
    order = np.argsort(labels, kind="stable")
    images, labels = jnp.asarray(images[order]), labels[order].astype(np.int32)
    ways = int(labels.max()) + 1
    _check_ways(network.config, ways)
    learner = evaluation_learner(network.config, network.space, network.image_shape, ways)

    began = time.perf_counter()
    genotype = np.asarray(_choose(network, learner, images, labels, seed, generations, population))
    chosen = time.perf_counter()
    mask = mask_of(network.space, jnp.asarray(genotype))
    weights = jax.jit(learner.adapt)(network.params, mask, images, jnp.asarray(labels))
    predict = jax.jit(lambda weights, mask, support, x: jax.nn.softmax(learner.predict(weights, mask, support, x)))
    chunks = [
        predict(weights, mask, images, queries[first : first + QUERY_CHUNK])
        for first in range(0, len(queries), QUERY_CHUNK)
    ]
    probabilities = np.concatenate([np.asarray(chunk) for chunk in chunks])
    ended = time.perf_counter()
    cost = cost_model(network.space, network.image_shape, network.config.net.readout, ways)(jnp.asarray(genotype))
    return Adapted(
        to_text(network.space, genotype), to_json(network.space, genotype), probabilities, weights,
        int(cost[0]), int(cost[1]), chosen - began, ended - chosen,
    )  # fmt: skip


def adapt_folder(
    workdir: str,
    support: str,
    query: str,
    out: str,
    *,
    seed: int = 0,
    generations: int | None = None,
    population: int | None = None,
) -> dict[str, object]:
    """Adapt to a folder of class folders, predict a folder of images, and write the outcome.

    Args:
        workdir: of a finished search, or its meta_network.npz.
        support: folder with one folder of images per class, or an npz.
        query: a flat folder of images, or class folders (then accuracy is told), or an npz.
        out: folder to write predictions.csv, genotype.txt and adaptation.json into; made where absent.
        seed, generations, population: as in `adapt`.

    Returns:
        What adaptation.json holds.

    Raises:
        ValueError, FileNotFoundError: one line, before anything is written.
    """
    network = load_meta_network(workdir)
    size, channels = network.image_shape[0], network.image_shape[-1]
    images, labels, class_names = read_support(support, size, channels)
    queries, names, query_labels = read_images(query, size, channels, class_names)
    found = adapt(network, images, labels, queries, seed=seed, generations=generations, population=population)
    predicted = found.probabilities.argmax(1)
    summary = {
        "genotype": found.genotype,
        "params": found.params,
        "macs": found.macs,
        "classes": list(class_names),
        "support_images": len(images),
        "query_images": len(queries),
        "accuracy": None if query_labels is None else float((predicted == query_labels).mean()),
        "architecture_s": round(found.architecture_s, 3),
        "weights_s": round(found.weights_s, 3),
    }
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "predictions.csv"), "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "predicted", *(f"p({name})" for name in class_names)])
        for name, label, row in zip(names, predicted, found.probabilities, strict=True):
            rows.writerow([name, class_names[label], *(f"{p:.4f}" for p in row)])
    with open(os.path.join(out, "genotype.txt"), "w", encoding="utf-8") as file:
        file.write(f"{found.genotype}\n{found.genotype_json}\n")
    with open(os.path.join(out, "adaptation.json"), "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=2)
    return summary


def _choose(network, learner, images, labels, seed, generations, population):
    settings = network.config.adapt
    size = population or settings.population
    feasible = feasibility(network.config, network.space, network.image_shape)
    strategy = genetic(network.space, population=size, elites=min(2, size - 1), feasible=feasible)
    warm = network.population[:size]

    def choose(params, key, x, y):
        first, second = jax.random.split(key)
        pseudo = pseudo_episodes(first, x, y, labels, folds=settings.folds, copies=settings.copies)
        rounds = generations or settings.generations
        return adapt_architecture(
            second, learner, network.space, strategy, params, warm, pseudo, rounds, feasible=feasible
        )[0]

    return jax.jit(choose)(network.params, stream(seed, "adapt"), images, jnp.asarray(labels))


def _as_float(network: MetaNetwork, images: np.ndarray, what: str) -> np.ndarray:
    images = np.asarray(images)
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or images.shape[1:] != network.image_shape or not len(images):
        raise ValueError(
            f"{what} images are {images.dtype} {list(images.shape)}; "
            f"this meta-network takes uint8 [n,{','.join(map(str, network.image_shape))}], n at least 1"
        )
    mean, deviation = (np.asarray(value, np.float32) for value in network.normalise)
    return (images.astype(np.float32) / 255 - mean) / deviation


def _check_ways(config: ConfigDict, ways: int) -> None:
    if config.learner.head == "matrix" and ways != config.protocol.ways:
        raise ValueError(
            f"the support has {ways} classes; a meta-network with learner.head 'matrix' serves {config.protocol.ways}"
        )


def _check_labels(labels: np.ndarray, images: int) -> None:
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"support labels are {labels.dtype} {list(labels.shape)}; need integers [{images}], one an image"
        )
    present = np.unique(labels)
    if len(present) < 2 or present[0] != 0 or present[-1] != len(present) - 1:
        raise ValueError(f"support labels are {present[:8].tolist()}; need every one of 0..N-1 at least once, N >= 2")
