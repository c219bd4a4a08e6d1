"""A meta-network after one novel task: what predicts, alone and as one file; nothing is pickled."""

import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.data.images import fit
from atnas_jax.data.labelled_folder import read_images
from atnas_jax.data.npz import load_arrays
from atnas_jax.job.compiled import compiled
from atnas_jax.job.config import stored_config
from atnas_jax.job.files import write_arrays
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.meta.heads import ABSENT
from atnas_jax.nets.norm import is_transductive
from atnas_jax.novel.meta_network import flatten, nest
from atnas_jax.novel.padding import FEW_IMAGES, filled, filled_size, more_images, power_of_two
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.space.text import space_from_dict, space_to_dict, to_json, to_text
from atnas_jax.types import Array, MetaLearner, Params

FILE = "weights.npz"
VERSION = 1
QUERY_CHUNK = 64  # images predicted together, a power of two
Predictor = Callable[[Params, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class AdaptedNetwork(NamedTuple):
    """A classifier of the classes of one support set."""

    weights: Params  # adapted parameters of the supernet: {"body", "head": {"w", "b"}}
    genotype: np.ndarray  # int32 [E]
    support_images: np.ndarray  # uint8 [S,H,W,C], class by class; `support` normalisation reads their statistics
    support_labels: np.ndarray  # int32 [S]
    classes: np.ndarray  # [N], labels of any kind, ascending as numpy.unique gives them
    space: SearchSpace
    image_shape: tuple[int, int, int]
    normalise: tuple[tuple[float, ...], tuple[float, ...]]
    config: ConfigDict
    about: dict[str, Any]  # how it came about, as in adaptation.json
    predictor: Predictor  # see `make_predictor`

    def __reduce__(self):
        """Pickle and copy all but the compiled programs, which are made again at need."""
        return _restored, tuple(self)[:-1]

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """Return float32 [n,N], the probability of each class.

        Args:
            images: uint8 [n,H,W] or [n,H,W,C] of any size, C 1 or 3; see `as_images`.

        Raises:
            ValueError: one line that says what does not fit.
        """
        queries = as_float(as_images(images, self.image_shape), self.normalise)
        return self.predictor(self.weights, self.genotype, as_float(self.support_images, self.normalise), queries)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return [n], the likeliest class of each image, of the kind of `classes`; arguments of `predict_proba`."""
        return self.classes[self.predict_proba(images).argmax(1)]

    def predict_folder(self, path: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Return (file names [n], classes [n], probabilities float32 [n,N]) of a folder of images, or an npz."""
        images, names, _ = read_images(path, self.image_shape[:2], self.image_shape[2])
        probabilities = self.predict_proba(images)
        return names, self.classes[probabilities.argmax(1)], probabilities

    def text(self) -> str:
        """Return the genotype as one line."""
        return to_text(self.space, self.genotype)

    def json(self) -> str:
        """Return the genotype as JSON."""
        return to_json(self.space, self.genotype)

    def save(self, path: str) -> str:
        """Write it as one npz without pickles, whole or not at all; into `FILE` where `path` is a folder.

        Raises:
            ValueError: the classes are neither text nor numbers.
        """
        if self.classes.dtype.kind not in "Ubiuf":
            raise ValueError(f"classes of dtype {self.classes.dtype} cannot be stored; take text or numbers as labels")
        path = os.path.join(path, FILE) if os.path.isdir(path) else path
        about = {"version": VERSION, "space": space_to_dict(self.space), "config": self.config.to_dict()}
        about |= {name: getattr(self, name) for name in ("image_shape", "normalise", "about")}
        arrays = {name: getattr(self, name) for name in ("genotype", "support_images", "support_labels", "classes")}
        arrays |= {f"weights/{name}": np.asarray(leaf) for name, leaf in flatten(self.weights).items()}
        write_arrays(path, {"json": np.asarray(json.dumps(about))} | arrays, compressed=True)
        return path


def load_adapted(path: str) -> AdaptedNetwork:
    """Read what `AdaptedNetwork.save` wrote, from its file or its folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is damaged or of another version.
    """
    path = os.path.join(path, FILE) if os.path.isdir(path) else path
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} does not exist; launch.adapt writes {FILE} into its folder --out")
    try:
        arrays = load_arrays(path)
        record = json.loads(str(arrays.pop("json")))
        own = [arrays.pop(name) for name in ("genotype", "support_images", "support_labels", "classes")]
    except Exception as error:
        raise ValueError(f"{path} is no adapted network or is damaged ({error}); run launch.adapt again") from error
    if record["version"] != VERSION:
        raise ValueError(f"{path} has format {record['version']}; this version of atnas_jax reads {VERSION}")
    weights = nest({name.removeprefix("weights/"): jnp.asarray(value) for name, value in arrays.items()})
    space, config = space_from_dict(record["space"]), stored_config(record["config"])
    shape, normalise = tuple(record["image_shape"]), tuple(map(tuple, record["normalise"]))
    return _restored(weights, *own, space, shape, normalise, config, record["about"])


def _restored(weights, genotype, support_x, support_y, classes, space, image_shape, normalise, config, about):
    predictor = make_predictor(config, space, predicting_learner(config, space, image_shape), {"compile_s": 0.0})
    given = (weights, genotype, support_x, support_y, classes, space, image_shape, normalise, config, about)
    return AdaptedNetwork(*given, predictor)


def predicting_learner(config: ConfigDict, space: SearchSpace, image_shape: tuple[int, int, int]) -> MetaLearner:
    """Return a learner of a meta-network that predicts, and leaves padding out where it knows how to."""
    pads = not is_transductive(config.net.normalisation)
    return evaluation_learner(config, space, image_shape, config.protocol.ways, padded=pads)  # ways predict nothing


def make_predictor(config: ConfigDict, space: SearchSpace, learner: MetaLearner, clock: dict[str, float]) -> Predictor:
    """Return predictor(weights, genotype, support_x, query_x) -> probabilities float32 [n,N], compiled late.

    Queries go in chunks; the last is padded to a power of two, and so are a small support and the classes, so that few
    sizes compile, where padding has no say.

    Args:
        config, space: of the meta-network.
        learner: from `predicting_learner`.
        clock: see `compiled`.
    """
    may_pad = not is_transductive(config.net.normalisation)

    def predict(weights: Params, genotype: Array, support_x: Array, query_x: Array, *real: Array) -> Array:
        return jax.nn.softmax(learner.predict(weights, mask_of(space, genotype), support_x, query_x, *real))

    program = compiled(predict, clock)

    def predictor(weights, genotype, support_x, query_x) -> np.ndarray:
        found, real, images, ways = [], (), len(support_x), weights["head"]["b"].shape[0]
        if learner.padded and images <= FEW_IMAGES:
            size = filled_size(images)
            real, support_x = (np.arange(size) < images,), more_images(support_x, size)
            weights = weights | {"head": _with_absent(weights["head"], size)}
        fixed = jax.tree.map(jnp.asarray, (weights, genotype, support_x))
        for first in range(0, len(query_x), QUERY_CHUNK):
            chunk = query_x[first : first + QUERY_CHUNK]
            queries = more_images(chunk, power_of_two(len(chunk))) if may_pad else chunk
            found.append(np.asarray(program(*fixed, queries, *real))[: len(chunk), :ways])
        return np.concatenate(found)

    return predictor


def _with_absent(head: Params, ways: int) -> Params:
    """Return a head with further classes, up to `ways`, that are none."""
    w, b = map(np.asarray, (head["w"], head["b"]))
    return {"w": filled(w, len(w), ways, value=0), "b": filled(b, ways, value=ABSENT)}


def as_images(images: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return uint8 [n,H,W,C] in the network's shape: resized, grey repeated or colour weighed to grey as needed.

    Args:
        images: uint8 [n,h,w] or [n,h,w,c], c 1 or 3, n at least 1.
        image_shape: (H, W, C).

    Raises:
        ValueError: another dtype or number of axes.
    """
    images = np.asarray(images)
    images = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images are {images.dtype} {list(images.shape)}; need uint8 [n,h,w] or [n,h,w,c], c 1 or 3, not empty"
        )
    if images.shape[1:] == image_shape:
        return images
    return fit(images, image_shape[:2], image_shape[2])


def as_float(images: np.ndarray, normalise: tuple[tuple[float, ...], tuple[float, ...]]) -> np.ndarray:
    """Return float32 (x/255 - mean) / deviation of uint8 images [n,H,W,C]."""
    mean, deviation = (np.asarray(value, np.float32) for value in normalise)
    return (images.astype(np.float32) / 255 - mean) / deviation
