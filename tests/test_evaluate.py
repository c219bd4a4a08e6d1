"""Scores of genotypes on episodes: maps agree with loops, and a masked supernet scores as the plain network does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.evaluate import evaluate, score, score_each
from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.slots import mask_of, random_genotypes
from atnas_jax.types import Model

T, P, N, K, Q, IMAGE = 3, 3, 3, 2, 4, (6, 5, 1)
SPACE = chain_space(ChainSpec((("conv3", "max3"), ("sep3", "identity")), (3, 6), (1, 2), (2, 2), "pool"))


def learner_of(model):
    """MAML with one inner step on everything."""
    return make_learner("maml", model, optax.sgd(0.1), ways=N, inner_steps=1, inner_lr=0.1)


@pytest.fixture(scope="module")
def episodes(noisy_episodes):
    return noisy_episodes(T, N, K, Q, IMAGE, 1.2)


@pytest.fixture(scope="module")
def masked_linear():
    """A learner on tanh(x W) with one channel for each entry of the mask [P,1,D], and its parameters."""

    def init(key):
        return {"w": jax.random.normal(key, (np.prod(IMAGE), 4))}

    def apply(params, x, mask, reference=None):
        return jnp.tanh(x.reshape(len(x), -1) @ params["w"]) * mask[0]

    learner = learner_of(Model(init, apply, "layer", 4))
    masks = jnp.asarray([[[1.0, 0, 0, 0]], [[0, 1, 1, 0]], [[1, 1, 1, 1]]])
    return learner, learner.init(jax.random.key(0)).params, masks


def test_every_mask_meets_every_episode(masked_linear, episodes):
    learner, params, masks = masked_linear
    found = jax.jit(lambda params, masks, episodes: evaluate(learner, params, masks, episodes))(params, masks, episodes)
    one = jax.jit(lambda *args: score(learner, *args))
    expected = np.asarray(
        [[one(params, mask, jax.tree.map(lambda x, t=t: x[t], episodes)) for t in range(T)] for mask in masks]
    )
    np.testing.assert_allclose(found.accuracy, expected[..., 0], atol=1e-6)
    np.testing.assert_allclose(found.loss, expected[..., 1], rtol=1e-5)
    np.testing.assert_allclose(found.fitness, expected[..., 0].mean(1, keepdims=True), rtol=1e-6)
    assert len(np.unique(expected[..., 1])) == P * T


@pytest.mark.parametrize("batch", [2, 3])
def test_together_is_one_by_one(batch, masked_linear, episodes):
    """A batch of 2 does not divide the three masks."""
    learner, params, masks = masked_linear
    alone, together = (
        jax.jit(lambda *args, b=b: evaluate(learner, *args, batch=b))(params, masks, episodes) for b in (1, batch)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), alone, together)


@pytest.mark.parametrize("batch", [1, 2])
def test_each_mask_on_its_own_episode_is_the_diagonal(batch, masked_linear, episodes):
    learner, params, masks = masked_linear
    table = jax.jit(lambda *args: evaluate(learner, *args))(params, masks, episodes)
    right, loss = jax.jit(lambda *args: score_each(learner, *args, batch=batch))(params, masks, episodes)
    np.testing.assert_allclose(right, np.diag(table.accuracy), atol=1e-6)
    np.testing.assert_allclose(loss, np.diag(table.loss), rtol=1e-5)


def test_objectives_make_the_fitness(masked_linear, episodes):
    learner, params, masks = masked_linear

    def objectives(right, loss):
        return jnp.stack([right.min(1), -loss.mean(1)], -1)

    found = jax.jit(lambda *args: evaluate(learner, *args, objectives=objectives))(params, masks, episodes)
    assert found.fitness.shape == (P, 2)
    np.testing.assert_allclose(found.fitness[:, 0], found.accuracy.min(1))
    np.testing.assert_allclose(found.fitness[:, 1], -found.loss.mean(1), rtol=1e-6)


def test_one_program_scores_all_genotypes_as_their_plain_networks_do(episodes):
    """Adapted and predicted under a mask or as the plain network with the weights cut out: the same loss."""
    supernet = make_supernet(SPACE, IMAGE)
    learner = learner_of(supernet)
    params = jax.jit(learner.init)(jax.random.key(0)).params
    masked = jax.jit(lambda params, masks, episodes: evaluate(learner, params, masks, episodes))
    genotypes = np.asarray(random_genotypes(jax.random.key(1), SPACE, 2 * P))
    for some in (genotypes[:P], genotypes[P:]):
        found = masked(params, mask_of(SPACE, some), episodes)
        assert all(leaf.dtype == jnp.float32 for leaf in found)
    assert masked._cache_size() == 1

    subnet = make_subnet(SPACE, some[-1], IMAGE)
    own = {"body": subnet.cut(params["body"]), "head": params["head"]}
    one = jax.tree.map(lambda x: x[-1], episodes)
    plain = jax.jit(lambda params, episode: score(learner_of(subnet.model), params, None, episode))(own, one)
    np.testing.assert_allclose([found.accuracy[-1, -1], found.loss[-1, -1]], plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["maml", "anil"])  # pair by pair, and by their tree
def test_padding_scores_nothing_and_changes_no_score(name, episodes):
    model, more = make_supernet(SPACE, IMAGE), {"inner_steps": 1, "inner_lr": 0.1}
    plain = make_learner(name, model, optax.sgd(0.1), ways=N, **more)
    other = make_learner(name, model, optax.sgd(0.1), ways=N + 2, padded=True, **more)
    params = plain.init(jax.random.key(0)).params
    masks = mask_of(SPACE, random_genotypes(jax.random.key(1), SPACE, 5))

    def filled(leaf):
        value = -1 if leaf.ndim == 2 else 0
        return jnp.pad(leaf, ((0, 2), (0, 3), *((0, 0),) * (leaf.ndim - 2)), constant_values=value)

    expected = jax.jit(lambda *args: evaluate(plain, *args))(params, masks, episodes)
    found = jax.jit(lambda *args: evaluate(other, *args))(params, masks, jax.tree.map(filled, episodes))
    np.testing.assert_allclose(found.loss[:, :T], expected.loss, rtol=1e-5)
    np.testing.assert_allclose(found.accuracy[:, :T], expected.accuracy, atol=1e-6)
    np.testing.assert_allclose(found.fitness, expected.fitness, atol=1e-6)
    assert not found.loss[:, T:].any() and not found.accuracy[:, T:].any()
