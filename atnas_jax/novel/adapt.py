"""A meta-network, a few labelled images and images to classify in; architecture, weights and predictions out."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from atnas_jax.job.compiled import stopwatch
from atnas_jax.novel.adapted_network import AdaptedNetwork, as_float
from atnas_jax.novel.meta_network import MetaNetwork, load_meta_network
from atnas_jax.novel.novel import make_fit
from atnas_jax.types import Params


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
    network: AdaptedNetwork  # which predicts further images


def adapt(
    network: MetaNetwork | str,
    support_images: np.ndarray,
    support_labels: Sequence[int] | np.ndarray,
    query_images: np.ndarray,
    *,
    seed: int = 0,
    **options: Any,
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
        options: generations, population, seconds, max_params, max_macs, max_latency_ms, pad, estimate (False by
            default); see `make_fit`.

    Returns:
        Adapted.

    Raises:
        ValueError: one line that says what does not fit.
    """
    return make_adapter(network, once=True, **options)(support_images, support_labels, query_images, seed=seed)


def make_adapter(network: MetaNetwork | str, *, estimate: bool = False, **options: Any) -> Callable[..., Adapted]:
    """Return adapter(support_images, support_labels, query_images, *, seed=0) -> Adapted, for many tasks.

    Supports of up to 100 images are filled up to 8, 16, 32, 64 or 100, which changes results by rounding alone. It
    compiles once for each of these: apart for tasks with a class of one image, and there again where another has many;
    with a limit for each number of classes. With pad=False, and with `batch_transductive` normalisation, it compiles
    for each set of numbers of images and classes.

    Args: as of `adapt`.
    """
    network = load_meta_network(network) if isinstance(network, str) else network
    clock = {"compile_s": 0.0}
    fit = make_fit(network, estimate=estimate, clock=clock, **options)

    def adapter(support_images, support_labels, query_images, *, seed: int = 0) -> Adapted:
        images = _in_shape(network, support_images, "support")
        queries, before = _in_shape(network, query_images, "query"), clock["compile_s"]
        found = fit(images, support_labels, seed=seed)
        seconds = stopwatch(clock)
        support, queries = (as_float(images, network.normalise) for images in (found.support_images, queries))
        probabilities = found.predictor(found.weights, found.genotype, support, queries)
        about = found.about
        return Adapted(
            found.text(), found.json(), probabilities, found.weights, about["params"], about["macs"],
            about["architecture_s"], about["weights_s"] + seconds(), clock["compile_s"] - before, found,
        )  # fmt: skip

    return adapter


def _in_shape(network: MetaNetwork, images: np.ndarray, what: str) -> np.ndarray:
    images = np.asarray(images)
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or images.shape[1:] != network.image_shape or not len(images):
        raise ValueError(
            f"{what} images are {images.dtype} {list(images.shape)}; "
            f"this meta-network takes uint8 [n,{','.join(map(str, network.image_shape))}], n at least 1"
        )
    return images
