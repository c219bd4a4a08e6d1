"""A meta-network and a few labelled images in; an architecture, weights and predictions out."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.adaptation import adapt_architecture, pseudo_episodes
from atnas_jax.devices import AXIS, make_mesh
from atnas_jax.nets.norm import is_transductive
from atnas_jax.rng import stream
from atnas_jax.run.build import evaluation_learner
from atnas_jax.run.compiled import compiled, stopwatch
from atnas_jax.run.costs import feasibility, make_cost
from atnas_jax.run.meta_network import MetaNetwork, load_meta_network
from atnas_jax.run.proxy import support_score
from atnas_jax.search.genetic import genetic
from atnas_jax.space.slots import mask_of
from atnas_jax.space.text import to_json, to_text
from atnas_jax.types import Params

QUERY_CHUNK = 64  # images predicted together, a power of two


class Adapted(NamedTuple):
    """A meta-network after one novel task."""

    genotype: str  # one line, as every command accepts it
    genotype_json: str
    probabilities: np.ndarray  # float32 [n,N], of the query images
    weights: Params  # adapted parameters of the supernet: {"body", "head": {"w", "b"}}
    params: int
    macs: int  # of one image
    architecture_s: float  # seconds to choose the architecture
    weights_s: float  # seconds to adapt the weights and to predict
    compile_s: float  # seconds of compiling, in neither of the two; 0 where an adapter has seen such a task before


class Programs(NamedTuple):
    """What an adapter compiles for tasks of the same numbers of images a class.

    choose(params, key, support_x, support_y) -> genotype int32 [E]
    learn(params, genotype, support_x, support_y) -> adapted weights
    predict(weights, genotype, support_x, query_x) -> probabilities float32 [n,N]
    cost(genotype) -> int32 [2], parameters and multiply-adds
    """

    choose: Callable
    learn: Callable
    predict: Callable
    cost: Callable


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
    """Adapt architecture and weights to a support set, and predict query images; for many tasks see `make_adapter`.

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
    adapter = make_adapter(network, generations=generations, population=population)
    return adapter(support_images, support_labels, query_images, seed=seed)


def make_adapter(
    network: MetaNetwork | str, *, generations: int | None = None, population: int | None = None
) -> Callable[..., Adapted]:
    """Return adapter(support_images, support_labels, query_images, *, seed=0) -> Adapted, for many tasks.

    It compiles for the first task of each set of counts of images a class, and never again for such tasks.

    Args: as in `adapt`.
    """
    network = load_meta_network(network) if isinstance(network, str) else network
    clock, known = {"compile_s": 0.0}, {}

    def adapter(support_images, support_labels, query_images, *, seed: int = 0) -> Adapted:
        labels = np.asarray(support_labels)
        images = _as_float(network, support_images, "support")
        queries = _as_float(network, query_images, "query")
        _check_labels(labels, len(images))
        _check_ways(network.config, int(labels.max()) + 1)
        order = np.argsort(labels, kind="stable")
        images, labels = jnp.asarray(images[order]), labels[order].astype(np.int32)
        counts = tuple(np.bincount(labels).tolist())
        if counts not in known:
            known[counts] = make_programs(network, labels, clock, generations, population)
        before = clock["compile_s"]
        seconds = stopwatch(clock)
        genotype = known[counts].choose(network.params, stream(seed, "adapt"), images, jnp.asarray(labels))
        genotype = jax.block_until_ready(genotype)
        chosen = seconds()
        weights = known[counts].learn(network.params, genotype, images, jnp.asarray(labels))
        probabilities = _in_chunks(
            lambda x: known[counts].predict(weights, genotype, images, x),
            queries,
            not is_transductive(network.config.net.normalisation),
        )
        ended = seconds()
        cost, genotype = known[counts].cost(genotype), np.asarray(genotype)
        return Adapted(
            to_text(network.space, genotype), to_json(network.space, genotype), probabilities, weights,
            int(cost[0]), int(cost[1]), chosen, ended - chosen, clock["compile_s"] - before,
        )  # fmt: skip

    return adapter


def make_programs(
    network: MetaNetwork,
    labels: np.ndarray,
    clock: dict[str, float],
    generations: int | None,
    population: int | None,
) -> Programs:
    """Return the programs for tasks whose support labels, sorted, are `labels`; compiled late, see `compiled`."""
    config, space, settings = network.config, network.space, network.config.adapt
    ways = int(labels.max()) + 1
    learner = evaluation_learner(config, space, network.image_shape, ways)
    size, rounds = population or settings.population, generations or settings.generations
    feasible = feasibility(config, space, network.image_shape, network.latency)
    strategy = genetic(space, population=size, elites=min(2, size - 1), feasible=feasible)
    warm = network.population[:size]
    scored = support_score(config, space, network.image_shape, ways, AXIS)

    def choose(params, key, x, y):
        first, second = jax.random.split(key)
        pseudo = pseudo_episodes(first, x, y, labels, folds=settings.folds, copies=settings.copies)
        found = adapt_architecture(
            second, learner, space, strategy, params, warm, pseudo, rounds,
            feasible=feasible, axis=AXIS, score=scored(params, x, y),
        )  # fmt: skip
        return found[0]

    def learn(params, genotype, x, y):
        return learner.adapt(params, mask_of(space, genotype), x, y)

    def predict(weights, genotype, support_x, x):
        return jax.nn.softmax(learner.predict(weights, mask_of(space, genotype), support_x, x))

    cost = make_cost(config, space, network.image_shape, ways)
    everywhere = make_mesh(jax.device_count())
    return Programs(
        compiled(choose, clock, mesh=everywhere), *(compiled(function, clock) for function in (learn, predict, cost))
    )


def _in_chunks(predict: Callable, queries: np.ndarray, may_pad: bool) -> np.ndarray:
    """Predict in chunks; the last is padded to a power of two, so that few sizes compile, where padding has no say."""
    found = []
    for first in range(0, len(queries), QUERY_CHUNK):
        chunk = queries[first : first + QUERY_CHUNK]
        size = 1 << (len(chunk) - 1).bit_length() if may_pad else len(chunk)
        padded = np.concatenate([chunk, np.repeat(chunk[:1], size - len(chunk), 0)])
        found.append(np.asarray(predict(padded))[: len(chunk)])
    return np.concatenate(found)


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
