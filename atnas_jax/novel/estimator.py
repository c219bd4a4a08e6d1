"""A meta-network in the manner of scikit-learn: fit adapts it to a few labelled images.

scikit-learn keeps what fit found in attributes of the object, so this class alone changes after it is made.
"""

import math
from typing import Any

import numpy as np

from atnas_jax.novel.meta_network import MetaNetwork, load_meta_network

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("FewShotClassifier needs scikit-learn 1.6 or later: pip install 'atnas_jax[sklearn]'") from error


FEW = 1 / 200  # images that use less of the range than this are of another one, as 0..1 is of 0..255


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Classifier of images that adapts a searched meta-network to each training set, see `novel.adapt_to`.

    X is [n,H,W] or [n,H,W,C] of any size, C 1 or 3, or rows [n,d] of `image_shape`: without one, a row is a square
    grey image where d is a square number, a square of 3 channels where d/3 is, else a strip of one pixel's height.
    Images are resized to the network's size. y is text or numbers, two classes or more.

    Args:
        network: a workdir of launch.search, its meta_network.npz, or a `MetaNetwork`.
        image_shape: (H, W) or (H, W, C) of a row.
        value_range: the two numbers that are black and white; None is 0 and 255 for uint8, else the least and the
            largest number of the training set.
        seed: of the search.
        generations, population, seconds, max_params, max_macs, max_latency_ms, estimate: see `make_fit`.

    Attributes:
        classes_: [N], what y held, ascending.
        adapted_: the `AdaptedNetwork` of `classes_`; it saves itself, and `adapted_.about` says how it came about.
        genotype_: the chosen architecture as one line.
        expected_accuracy_: with `estimate`, the accuracy to expect of new images, 0..1, from the training set alone;
            None where a class has a single image.
        value_range_: (black, white).
    """

    def __init__(
        self,
        network: str | MetaNetwork,
        *,
        image_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        seed: int = 0,
        generations: int | None = None,
        population: int | None = None,
        seconds: float | None = None,
        max_params: int | None = None,
        max_macs: int | None = None,
        max_latency_ms: float | None = None,
        estimate: bool = False,
    ):
        self.network = network
        self.image_shape = image_shape
        self.value_range = value_range
        self.seed = seed
        self.generations = generations
        self.population = population
        self.seconds = seconds
        self.max_params = max_params
        self.max_macs = max_macs
        self.max_latency_ms = max_latency_ms
        self.estimate = estimate

    def fit(self, X: Any, y: Any) -> "FewShotClassifier":
        """Adapt architecture and weights to labelled images.

        Raises:
            ValueError: one line that says what does not fit.
        """
        X, y = validate_data(self, X, y, allow_nd=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has 1 class in {len(y)} samples; FewShotClassifier needs 2 classes or more")
        own = (0.0, 255.0) if X.dtype == np.uint8 else (float(X.min()), float(X.max()))
        self.value_range_ = own if self.value_range is None else tuple(map(float, self.value_range))
        network = load_meta_network(self.network) if isinstance(self.network, str) else self.network
        names = ("seed", "generations", "population", "seconds", "max_params", "max_macs", "max_latency_ms", "estimate")
        adapted = network.adapt(self._images(X), codes, **{name: getattr(self, name) for name in names})
        # A file holds no objects: labels that are some are text there.
        text = self.classes_.dtype.kind == "O"
        self.adapted_ = adapted._replace(classes=self.classes_.astype(str) if text else self.classes_)
        self.genotype_ = self.adapted_.about["genotype"]
        self.expected_accuracy_ = (self.adapted_.about["expected"] or {"accuracy": None})["accuracy"]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return float64 [n,N], the probability of each of `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, allow_nd=True, reset=False)
        found = self.adapted_.predict_proba(self._images(X)).astype(np.float64)
        return found / found.sum(1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return [n], the likeliest of `classes_`."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.classifier_tags.poor_score = True  # of rows that are no images
        return tags

    def _images(self, X: np.ndarray) -> np.ndarray:
        """Return uint8 [n,H,W,C]."""
        shape = X.shape[1:]
        if X.ndim == 2:
            shape = _row_shape(X.shape[1]) if self.image_shape is None else tuple(self.image_shape)
            if math.prod(shape) != X.shape[1]:
                raise ValueError(f"rows of {X.shape[1]} numbers are no images of image_shape {shape}")
        shape = (*shape, 1) if len(shape) == 2 else shape
        low, high = self.value_range_
        least, most = X.min(), X.max()
        none = X.dtype.kind == "f" and least < most and low <= least and most - low <= min(1, FEW * (high - low))
        if none or FEW * (float(most) - float(least)) > high - low > 0:
            raise ValueError(
                f"X goes from {least:g} to {most:g}, but black and white are {low:g} and {high:g}; give numbers of the "
                "same range as in fit, or set value_range"
            )
        scale = 255 / (high - low) if high > low else 0.0
        return np.rint(np.clip((X.astype(np.float64) - low) * scale, 0, 255)).astype(np.uint8).reshape(-1, *shape)


def _row_shape(length: int) -> tuple[int, ...]:
    """Return the shape of the image that a row of numbers is taken for."""
    for channels in (1, 3):
        side = math.isqrt(length // channels)
        if channels * side**2 == length:
            return (side, side, channels)
    return (1, length, 1)
