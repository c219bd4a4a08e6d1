"""Zero-cost proxies: the code kernel by hand, what masked branches must not change, and conservation of flow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.learners import make_learner
from atnas_jax.meta.losses import cross_entropy
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import make_activations, make_supernet
from atnas_jax.proxies import code_kernel, grad_norm, log_determinant, naswot, score_by_proxy, synflow
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.slots import mask_of, random_genotypes
from atnas_jax.types import Episode

pytestmark = pytest.mark.usefixtures("few_optimisations")

IMAGE, S, N = (6, 6, 1), 5, 3
CHAIN = chain_space(ChainSpec((("conv3", "sep3"), ("max3", "conv5")), (3, 5), (1, 2), (2, 1), "stride", True))
CELL = cell_space(CellSpec(("conv3", "max3"), 2, 1, (0,), 3))
X = jax.random.normal(jax.random.key(0), (S, *IMAGE))
LABELS = jnp.asarray([0, 1, 2, 0, 1])


@functools.cache
def supernet(space):
    """Return the parameters of a supernet, away from their first value, and its activations, compiled."""
    rng = np.random.default_rng(1)
    body = jax.jit(make_supernet(space, IMAGE).init)(jax.random.key(1))
    body = jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), body)
    return {"body": body, "head": {}}, jax.jit(make_activations(space))


def kernel(space, genotype, x=X):
    params, activations = supernet(space)
    return np.asarray(code_kernel(activations(params["body"], x, mask_of(space, genotype))))


def test_two_images_by_hand():
    """Three layers' codes 101|1|0 and 100|0|0 with the last layer absent: N_A 4, Hamming 2, det 16 - 4."""
    layers = (
        (jnp.asarray([[2.0, 0.0, 1.0], [3.0, 0.0, 0.0]])[:, None, None], jnp.ones(3)),
        (jnp.asarray([[[[0.5]]], [[[0.0]]]]), jnp.ones(1)),
        (jnp.asarray([[[[0.0, 7.0]]], [[[0.0, 0.0]]]]), jnp.zeros(2)),
    )
    found = code_kernel(layers)
    np.testing.assert_array_equal(found, [[4, 2], [2, 4]])
    assert float(log_determinant(found)) == pytest.approx(np.log(12), rel=1e-6)
    score = naswot(lambda body, images, mask: layers)({"body": {}}, None, None, None)
    assert float(score) == pytest.approx(np.log(12), rel=1e-6)


@pytest.mark.parametrize("space", [CHAIN, CELL])
def test_the_kernel_counts_the_relus_of_the_subnet(space):
    """The diagonal is N_A, the off-diagonal N_A less the Hamming distance of the codes written out."""
    sizes = set()
    for genotype in np.asarray(random_genotypes(jax.random.key(3), space, 6)):
        found = kernel(space, genotype)
        codes = codes_by_hand(space, genotype)
        sizes.add(codes.shape[1])
        np.testing.assert_array_equal(found, codes.shape[1] - (codes[:, None] != codes).sum(-1))
        np.testing.assert_array_equal(found, found.T)
        assert 0.1 < codes.mean() < 0.9
    assert len(sizes) > 1 or space is CELL


def codes_by_hand(space, genotype):
    """Return the codes bool [S,N_A] of the subnet from what the supernet computes, masked channels taken away."""
    params, activations = supernet(space)
    layers = activations(params["body"], X, mask_of(space, genotype))
    if space is CELL:  # stem 3 channels of 6x6, one reduction cell of two nodes of 3 channels of 3x3
        assert [values.shape for values, _ in layers] == [(S, 6, 6, 3), (S, 3, 3, 6)]
        return np.concatenate([np.asarray(values > 0).reshape(S, -1) for values, _ in layers], 1)
    depth = CHAIN.spec.depths[genotype[0]]
    widths = [CHAIN.spec.widths[genotype[2 + 2 * block]] for block in range(depth)]
    assert [values.shape for values, _ in layers] == [(S, 3, 3, 5)] * 2
    return np.concatenate(
        [np.asarray(layers[block][0][..., :width] > 0).reshape(S, -1) for block, width in enumerate(widths)], 1
    )


def test_the_last_relu_is_the_subnets_own():
    """Without a residual the codes of the last active block are the signs of the plain net's embedding."""
    space = chain_space(ChainSpec((("conv3", "sep3"), ("max3", "conv5")), (3, 5), (1, 2), (2, 1)))
    params, activations = supernet(space)
    for genotype in np.asarray([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1]]):
        subnet, depth = make_subnet(space, genotype, IMAGE), genotype[0] + 1
        features = subnet.model.apply(subnet.cut(params["body"]), X)
        values, _ = activations(params["body"], X, mask_of(space, genotype))[depth - 1]
        width = space.spec.widths[genotype[2 * depth]]
        np.testing.assert_array_equal(features.reshape((*values.shape[:3], width)) > 0, values[..., :width] > 0)


def test_masked_branches_do_not_count():
    """Neither an op, nor a width, nor a block that the subnet does not have changes the score, even if it is nan."""
    params, activations = supernet(CHAIN)
    score = jax.jit(naswot(activations))
    genotype = np.asarray([0, 0, 0, 1, 1])
    body = params["body"] | {"block1": jax.tree.map(lambda leaf: leaf * jnp.nan, params["body"]["block1"])}
    body["block0"] = params["body"]["block0"] | {"sep3": jax.tree.map(jnp.ones_like, params["body"]["block0"]["sep3"])}
    mask = mask_of(CHAIN, genotype)
    clean = float(score(params, mask, X, LABELS))
    assert np.isfinite(clean) and clean == float(score(params | {"body": body}, mask, X, LABELS))
    for slot, choice in ((3, 0), (4, 0)):
        assert (
            float(score(params, mask_of(CHAIN, np.where(np.arange(5) == slot, choice, genotype)), X, LABELS)) == clean
        )
    assert float(score(params, mask_of(CHAIN, np.asarray([0, 0, 1, 1, 1])), X, LABELS)) != clean


def test_the_order_of_the_images_does_not_matter_and_equal_ones_are_minus_infinity():
    params, activations = supernet(CHAIN)
    score, mask = jax.jit(naswot(activations)), mask_of(CHAIN, np.asarray([1, 0, 1, 1, 1]))
    value = float(score(params, mask, X, LABELS))
    assert float(score(params, mask, X[jnp.asarray([3, 0, 4, 1, 2])], LABELS)) == pytest.approx(value, rel=1e-5)
    assert float(score(params, mask, X.at[4].set(X[1]), LABELS)) == -np.inf
    gram = kernel(CHAIN, np.asarray([1, 0, 1, 1, 1]))
    assert value == pytest.approx(np.linalg.slogdet(gram.astype(np.float64))[1], rel=1e-5)


def test_grad_norm_is_the_gradient_of_the_plain_net():
    space = chain_space(ChainSpec((("conv3", "sep3"),), (3, 5), (1,), (2,)))
    model = make_supernet(space, IMAGE)
    learner = make_learner("maml", model, optax.sgd(1.0), ways=N, head="matrix", inner_steps=0)
    params = jax.jit(learner.init)(jax.random.key(2)).params
    genotype = np.asarray([0, 0, 0])
    subnet = make_subnet(space, genotype, IMAGE)
    head = {"w": params["head"]["w"][subnet.kept], "b": params["head"]["b"]}

    def loss(own):
        return cross_entropy(subnet.model.apply(own["body"], X) @ own["head"]["w"] + own["head"]["b"], LABELS)

    expected = optax.global_norm(jax.jit(jax.grad(loss))({"body": subnet.cut(params["body"]), "head": head}))
    found = jax.jit(grad_norm(learner))(params, mask_of(space, genotype), X, LABELS)
    # Columns of the head beyond the width see zeros, so the two gradients have the same norm.
    assert float(found) == pytest.approx(float(expected), rel=1e-4) and float(expected) > 1e-3


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e13])
def test_synflow_by_hand_and_conserved(size):
    """1x1 convolutions on one pixel: R = 1^T |W2| |s2| |W1| |s1| 1, and each layer has the share R, up to 1e52."""
    space = chain_space(ChainSpec((("conv1", "conv3"),) * 2, (3,), (1, 2), (1, 1)))
    model = make_supernet(space, (1, 1, 2), normalisation="none")
    rng = np.random.default_rng(4)
    body = jax.tree.map(
        lambda leaf: (size * rng.normal(size=leaf.shape)).astype(np.float32), jax.jit(model.init)(jax.random.key(0))
    )
    first, second = (body[f"block{b}"] for b in range(2))
    w1, w2 = (np.abs(block["conv1"]["kernel"][0, 0], dtype=float) for block in (first, second))
    s1, s2 = (np.abs(block["norm"]["scale"], dtype=float) for block in (first, second))
    score, images = jax.jit(synflow(model)), jnp.zeros((4, 1, 1, 2))
    deep = ((np.ones(2) @ w1 * s1) @ w2 * s2).sum()
    found = score({"body": body}, mask_of(space, np.asarray([1, 0, 0, 0, 0])), images, LABELS)
    assert float(found) == pytest.approx(np.log(4 * deep), rel=1e-5)
    shallow = (np.ones(2) @ w1 * s1).sum()
    found = score({"body": body}, mask_of(space, np.asarray([0, 0, 0, 1, 0])), images, LABELS)
    assert float(found) == pytest.approx(np.log(2 * shallow), rel=1e-5)
    nothing = jax.tree.map(jnp.zeros_like, body)
    assert score({"body": nothing}, mask_of(space, np.asarray([0, 0, 0, 1, 0])), images, LABELS) == -np.inf


def test_many_genotypes_are_scored_as_one_by_one():
    params, activations = supernet(CHAIN)
    episodes = Episode(jnp.stack([X, X[::-1] * 0.5 + 0.1]), jnp.stack([LABELS] * 2), None, None)
    masks = mask_of(CHAIN, random_genotypes(jax.random.key(5), CHAIN, 3))
    proxy = jax.jit(naswot(activations))
    found = jax.jit(lambda params: score_by_proxy(proxy, params, masks, episodes))(params)
    alone = [[proxy(params, mask, x, LABELS) for x in episodes.support_x] for mask in masks]
    np.testing.assert_allclose(found, np.asarray(alone).mean(1), rtol=1e-5)


@pytest.mark.parametrize("space", [CHAIN, CELL])
def test_padding_leaves_the_score_as_it_is(space):
    params, activations = supernet(space)
    mask = mask_of(space, random_genotypes(jax.random.key(3), space, 1)[0])
    more, labels = jnp.concatenate([X, 5 * X[:2]]), jnp.asarray([*[0] * S, -1, -1])
    expected = naswot(activations)(params, mask, X, labels[:S])
    found = jax.jit(naswot(activations, padded=True))(params, mask, more, labels)
    assert np.isfinite(expected) and float(found) == pytest.approx(float(expected), rel=1e-5)
