"""The estimator of scikit-learn: its own checks, and a task by name from images."""

import importlib.util
import pickle
from typing import NamedTuple

import numpy as np
import pytest

if importlib.util.find_spec("sklearn") is None:  # a broken one fails
    pytest.skip("scikit-learn is not installed: pip install 'atnas_jax[sklearn]'", allow_module_level=True)

from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from atnas_jax.novel.adapted_network import load_adapted
from atnas_jax.novel.estimator import FewShotClassifier, _row_shape
from atnas_jax.novel.meta_network import load_meta_network


class _Means(NamedTuple):
    """A classifier by the nearest mean image."""

    means: np.ndarray
    about: dict
    classes: np.ndarray

    def predict_proba(self, images):
        far = np.square(images.reshape(len(images), 1, -1) / 255 - self.means).sum(2)
        power = np.exp(far.min(1, keepdims=True) - far)
        return (power / power.sum(1, keepdims=True)).astype(np.float32)


class _Network(NamedTuple):
    """A stand-in that adapts in no time: what is checked is the estimator, of which it sees uint8 images and codes."""

    name: str = "means"

    def adapt(self, images, labels, **options):
        assert images.dtype == np.uint8 and images.ndim == 4 and set(labels) == set(range(labels.max() + 1))
        rows = images.reshape(len(images), -1) / 255
        means = np.stack([rows[labels == k].mean(0) for k in range(labels.max() + 1)])
        return _Means(means, {"genotype": "none", "expected": None}, np.arange(len(means)))


# Checks that images do not allow, each with the reason.
EXPECTED = {}


@parametrize_with_checks([FewShotClassifier(_Network())], expected_failed_checks=lambda estimator: EXPECTED)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("length", "shape"), [(64, (8, 8, 1)), (12, (2, 2, 3)), (10, (1, 10, 1)), (1, (1, 1, 1)), (3, (1, 1, 3))]
)
def test_rows_are_images(length, shape):
    assert _row_shape(length) == shape


@pytest.fixture(scope="module")
def task(classes):
    """Images of three unseen classes, and their names; three a class to learn from and seven to predict."""
    classes = classes[14:17]
    names = np.asarray(["cow", "ant", "bee"])
    support, queries = classes[:, :3].reshape(-1, 10, 10), classes[:, 3:].reshape(-1, 10, 10)
    return support, np.repeat(names, 3), queries, np.repeat(names, 7)


@pytest.fixture(scope="module")
def fitted(finished, task):
    """The estimator of the finished run, fitted."""
    return FewShotClassifier(finished.workdir, generations=1, estimate=True).fit(*task[:2])


def test_a_task_by_name(fitted, task):
    _, _, queries, truth = task
    assert fitted.classes_.tolist() == ["ant", "bee", "cow"]
    assert fitted.score(queries, truth) > 0.6 and 0.5 < fitted.expected_accuracy_ <= 1
    probabilities = fitted.predict_proba(queries)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    assert np.array_equal(fitted.predict(queries), fitted.classes_[probabilities.argmax(1)])
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(queries), probabilities)


def test_what_it_saves_knows_the_labels(fitted, task, tmp_path):
    for estimator in (fitted, clone(fitted).fit(task[0], task[1].astype(object))):
        loaded = load_adapted(estimator.adapted_.save(str(tmp_path)))
        assert loaded.classes.tolist() == ["ant", "bee", "cow"]
        assert np.array_equal(loaded.predict(task[2]), estimator.predict(task[2]))


def test_numbers_of_another_range_than_in_fit_are_refused(fitted, task):
    with pytest.raises(ValueError, match=r"X goes from 0.* to 0\.9.*, but black and white are 0 and 255; give"):
        fitted.predict(task[2] / 256)
    of_shares = FewShotClassifier(_Network()).fit(task[0] / 255, task[1])
    with pytest.raises(ValueError, match=r"but black and white are 0.* and 0\.9"):
        of_shares.predict(task[2])
    with pytest.raises(ValueError, match="but black and white are 0 and 255;"):
        FewShotClassifier(_Network(), value_range=(0, 255)).fit(task[0] / 255, task[1])
    fitted.predict(np.zeros_like(task[2]))  # black images are images


def test_a_clone_knows_the_settings_and_nothing_else(fitted, finished):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() and not hasattr(copy, "adapted_")
    of_network = clone(FewShotClassifier(load_meta_network(finished.workdir), seed=3))
    assert of_network.seed == 3 and of_network.network.config == finished.config


def test_every_option_reaches_the_adaptation(task):
    told = {}

    class Watched(_Network):
        def adapt(self, images, labels, **options):
            told.update(options)
            return super().adapt(images, labels, **options)

    asked = {"seed": 4, "generations": 3, "population": 7, "seconds": 1.5, "max_params": 9, "max_macs": 8,
             "max_latency_ms": 2.5, "estimate": True}  # fmt: skip
    FewShotClassifier(Watched(), **asked).fit(*task[:2])
    assert told == asked
    with pytest.raises(ValueError, match="y has 1 class in 3 samples; FewShotClassifier needs 2 classes or more"):
        FewShotClassifier(Watched()).fit(task[0][:3], task[1][:3])


def test_numbers_in_place_of_bytes_are_stretched_to_the_range(task):
    support, names, _, _ = task
    seen = []

    class Watched(_Network):
        def adapt(self, images, labels, **options):
            seen.append(images)
            return super().adapt(images, labels, **options)

    for images, value_range in ((support, None), (support / 255.0, (0, 1)), (support * 2.0 - 9, (-9, 501))):
        FewShotClassifier(Watched(), value_range=value_range).fit(images, names)
        assert np.array_equal(seen[-1][..., 0], support)
    bounded = FewShotClassifier(Watched(), value_range=(0, 1)).fit(support / 255.0, names)
    beyond = bounded._images(np.stack([np.full((10, 10), 1.5), np.full((10, 10), -0.5)]))
    assert (beyond[0] == 255).all() and (beyond[1] == 0).all()
    assert (bounded._images(np.full((1, 10, 10), 9.7 / 255)) == 10).all()
    assert not FewShotClassifier(Watched()).fit(np.full((6, 10, 10), 3.0), names[:6])._images(support).any()
    FewShotClassifier(Watched(), image_shape=(10, 10)).fit(support.reshape(-1, 100), names)
    assert np.array_equal(seen[-1][..., 0], support)
    FewShotClassifier(Watched()).fit(support * 3.0, names)
    assert (seen[-1].min(), seen[-1].max()) == (0, 255)
