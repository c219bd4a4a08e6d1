"""The accuracy to expect: what is predicted was not learned from, and the interval is Wilson's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.novel.expected import COPIES, describe, held_out, make_estimate, sentence, wilson
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.types import MetaLearner

SPACE = chain_space(ChainSpec((("conv3", "sep3"),), (4,), (1,), (2,)))
GENOTYPE = jnp.zeros(SPACE.num_slots, jnp.int32)


def _nearest_mean(params, mask, x, y, query_x):
    ways = 3
    means = jnp.stack([(x * (y == k)[:, None, None, None]).sum(0) / (y == k).sum() for k in range(ways)])
    return -jnp.square(query_x[:, None] - means[None]).sum((2, 3, 4))


def _memory(params, mask, x, y, query_x):
    """Predicts the label of the same image among those learned from, and class 3, which does not exist, without it."""
    same = (query_x[:, None] == x[None]).all((2, 3, 4))
    return jnp.concatenate([same @ jax.nn.one_hot(y, 3), jnp.full((len(query_x), 1), 0.5)], 1)


def _estimate(solve, counts, planted=()):
    labels = np.repeat(np.arange(len(counts)), counts)
    images = (
        jnp.asarray(labels, jnp.float32)[:, None, None, None] + jnp.linspace(0, 0.2, len(labels))[:, None, None, None]
    )
    for row, value in planted:
        images = images.at[row].set(value)
    images = jnp.broadcast_to(images, (len(labels), 6, 6, 1))
    how, rows = held_out(labels, 5, 4, False)
    estimate = make_estimate(SPACE, MetaLearner(None, None, None, solve, None), how == COPIES, None)
    return how, np.asarray(estimate({}, GENOTYPE, images, jnp.asarray(labels), rows, jax.random.key(0))).reshape(-1)


@pytest.mark.parametrize("counts", [(3, 2, 4), (30, 30, 30)])
def test_each_image_is_predicted_once_from_others(counts):
    how, right = _estimate(_memory, counts)
    assert how == ("leave-one-out" if sum(counts) <= 64 else "folds") and len(right) == sum(counts)
    assert not right.any()
    how, right = _estimate(_nearest_mean, counts, planted=[(0, 1.1)])  # of class 0, looks like class 1
    assert right.sum() == len(right) - 1


def test_a_class_of_one_image_gives_no_more_than_a_bound():
    how, right = _estimate(_nearest_mean, (3, 1, 2))
    expected = describe(how, right)
    assert (expected["accuracy"], expected["ci95"], expected["upper"]) == (None, None, 1.0)
    assert "new images will not" in sentence(expected)


def test_one_image_has_no_statistics_of_its_own():
    labels = np.repeat(np.arange(3), (3, 2, 4))
    assert held_out(labels, 5, 4, True)[0] == "folds"
    assert held_out(labels, 5, 4, False)[0] == "leave-one-out"


def test_the_interval_is_that_of_the_literature():
    np.testing.assert_allclose(wilson(0.8, 10), [0.4902, 0.9433], atol=1e-4)  # 8 of 10
    np.testing.assert_allclose(wilson(1.0, 15), [0.7961, 1.0], atol=1e-4)
    low, high = describe("folds", np.repeat([True, False], (12, 3)))["ci95"]
    assert low < 0.8 < high
    assert sentence(describe("folds", np.repeat([True, False], (12, 3)))).startswith("expected accuracy 80 % (95 %")
