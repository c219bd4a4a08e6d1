"""Leap: Reptile where it looks at the way alone, zero at an optimum, the published sum elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.adapt import Task
from atnas_jax.meta.learners import make_learner
from atnas_jax.meta.reptile import PathLength, path_gradient
from atnas_jax.types import Episode, Model

pytestmark = pytest.mark.usefixtures("few_optimisations")

T, N, S, D, RATE, STEPS = 2, 3, 6, 5, 0.3, 4
A, TARGET = np.array([[2.0, 0.5], [0.5, 1.5]]), np.array([1.0, -2.0])
LENGTHS = [PathLength(loss, norm) for loss in (True, False) for norm in (True, False)]


@pytest.fixture(autouse=True, scope="module")
def _float64():
    with jax.enable_x64(True):
        yield


def learner_of(name, head, steps=STEPS, **options):
    def init(key):
        return {"w": jax.random.normal(key, (4, D))}

    model = Model(init, lambda p, x, mask, r=None: jnp.tanh(x.reshape(len(x), -1) @ p["w"]), "layer", D)
    return make_learner(name, model, optax.sgd(1.0), ways=N, head=head, inner_steps=steps, inner_lr=RATE, **options)


@pytest.fixture(scope="module")
def episodes():
    rng = np.random.default_rng(0)
    x, q, y = rng.normal(size=(T, S, 2, 2, 1)), rng.normal(size=(T, S, 2, 2, 1)), np.tile(np.arange(S) % N, (T, 1))
    return Episode(*map(jnp.asarray, (x, y, q, y)))


@pytest.mark.parametrize("head", ["prototypes", "matrix"])
def test_without_loss_and_norm_the_sum_telescopes_to_reptile(head, episodes):
    found = []
    for name, options in (("reptile", {}), ("leap", {"length": PathLength(False, False)})):
        learner = learner_of(name, head, **options)
        state = learner.init(jax.random.key(0))
        new, metrics = learner.step(state, jnp.ones((T, 1, 1)), episodes)
        found.append((new.params, metrics))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13), *found)
    assert (found[0][0]["body"]["w"] != state.params["body"]["w"]).all()


def quadratic(rate, start):
    """A task whose support loss is (p - TARGET)' A (p - TARGET) / 2."""

    def loss(fast, step):
        return 0.5 * (fast["body"] - TARGET) @ A @ (fast["body"] - TARGET)

    return Task({"body": jnp.asarray(start)}, loss, optax.sgd(rate), lambda fast, step: fast)


def by_hand(rate, start, length):
    """The sum of SYSTEMS section 16, one term a step."""
    p, total = np.array(start), np.zeros(2)
    for _ in range(STEPS):
        gradient = A @ (p - TARGET)
        new = p - rate * gradient
        losses = [0.5 * (q - TARGET) @ A @ (q - TARGET) for q in (p, new)]
        drop = -abs(losses[1] - losses[0]) * length.loss
        term = (p - new) - drop * gradient
        total += term / (np.sqrt(((new - p) ** 2).sum() + drop**2) if length.norm else 1.0)
        p = new
    return p, total


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_the_gradient_is_the_published_sum(rate, length):
    """At a rate of 1 the steps overshoot and raise the loss."""
    fast, found = path_gradient(quadratic(rate, [0.3, 0.1]), STEPS, ["body"], length)
    end, expected = by_hand(rate, [0.3, 0.1], length)
    np.testing.assert_allclose(fast["body"], end, rtol=1e-12)
    np.testing.assert_allclose(found["body"], expected, rtol=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_task_at_its_optimum_pulls_nowhere(length):
    _, found = path_gradient(quadratic(0.3, TARGET), STEPS, ["body"], length)
    np.testing.assert_array_equal(found["body"], [0.0, 0.0])


def test_its_memory_does_not_grow_with_the_steps(episodes):
    def memory(steps):
        learner = learner_of("leap", "prototypes", steps)
        state = jax.eval_shape(learner.init, jax.random.key(0))
        compiled = jax.jit(learner.step).lower(state, jnp.ones((T, 1, 1)), episodes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(40) <= memory(4) * 1.01
