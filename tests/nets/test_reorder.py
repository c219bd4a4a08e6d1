"""The order of channels: networks of full width stay what they are, narrow ones keep what is read most."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.average import averaged
from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.reorder import FIXED, channel_groups, channel_orders, movable, read_norms, reordered
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.extremes import largest
from atnas_jax.space.slots import mask_of
from atnas_jax.types import Episode

pytestmark = pytest.mark.usefixtures("few_optimisations")

IMAGE = (6, 6, 2)
# Block 2 hands channels on where it pools, so blocks 1 and 2 share one order; block 3 is read by nothing.
OPS = (("conv3", "conv5"), ("sep5", "conv1"), ("max3", "conv3"), ("sep3",))
SPACE = chain_space(ChainSpec(OPS, (3, 6), (2, 4), (1, 2, 1, 1), elastic_kernel=True))
X = np.random.default_rng(0).normal(size=(5, *IMAGE)).astype(np.float32)


@functools.cache
def supernet(normalisation="support"):
    """Return a model, and its parameters away from their first value."""
    model, rng = make_supernet(SPACE, IMAGE, normalisation=normalisation, readout="mean"), np.random.default_rng(1)
    first = jax.jit(model.init)(jax.random.key(0))
    return jax.jit(model.apply), jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape), first)


@functools.cache
def order(head_has_weights=False):
    body = supernet()[1]
    return channel_orders(SPACE, body, channel_groups(SPACE, head_has_weights))


def full_width():
    """Return all 2 x 2 x 2 genotypes of both depths and full width."""
    for depth, *ops in itertools.product(range(2), *(range(len(own)) for own in OPS)):
        yield np.asarray([depth, *itertools.chain.from_iterable((op, 1) for op in ops)], np.int32)


@pytest.mark.parametrize("normalisation", ["support", "layer"])
def test_every_network_of_full_width_is_unchanged_and_narrow_ones_are_not(normalisation):
    apply, body = supernet(normalisation)
    orders = np.asarray(order())
    moved = reordered(body, order())
    for genotype in full_width():
        mask = mask_of(SPACE, genotype)
        old, new = (np.asarray(apply(p, X, mask)) for p in (body, moved))
        last = SPACE.spec.depths[genotype[0]] - 1  # whose order the embedding has
        np.testing.assert_allclose(new, old[:, orders[last]], atol=1e-5)
    narrow = largest(SPACE)
    narrow[2] = 0
    old, new = (np.asarray(apply(p, X, mask_of(SPACE, narrow))) for p in (body, moved))
    assert np.abs(new - old).max() > 1e-2
    assert (orders[:2] != np.arange(6)).any(1).all()


def test_the_norms_of_what_the_largest_network_reads_do_not_increase():
    body = supernet()[1]
    before, after = (np.asarray(read_norms(SPACE, p)) for p in (body, reordered(body, order())))
    read = body["block1"]["sep5"]["pointwise"], body["block2"]["conv3"]["kernel"]
    by_hand = [np.abs(weights).sum((0, 1, 3)) for weights in read]
    np.testing.assert_allclose(before[:2], by_hand, rtol=1e-5)
    assert (np.diff(before[:3]) > 0).any(1).all()
    assert (np.diff(after[0]) <= 1e-5).all()
    assert (np.diff(after[1] + after[2]) <= 1e-5).all()  # of the two blocks that share an order
    np.testing.assert_allclose(np.sort(after), np.sort(before), rtol=1e-6)
    # The narrow network of block 0 keeps the channels that are read most.
    assert set(np.asarray(order())[0, :3]) == set(np.argsort(-before[0])[:3])


def test_what_must_keep_its_order_keeps_it():
    assert channel_groups(SPACE, False) == (0, 1, 1, 3)
    assert movable(SPACE, channel_groups(SPACE, False)) == [0, 1, 2]
    np.testing.assert_array_equal(order()[3], np.arange(6))  # nothing reads it
    np.testing.assert_array_equal(order()[1], order()[2])
    # Depth 2 ends at block 1, depth 4 at block 3: weights of a head would read both, in their old order.
    assert channel_groups(SPACE, True) == (0, FIXED, FIXED, FIXED)
    np.testing.assert_array_equal(order(True)[1:], np.tile(np.arange(6), (3, 1)))
    np.testing.assert_array_equal(order(True)[0], order()[0])
    image = (("conv3", "identity"), ("conv3",), ("conv3",))
    assert channel_groups(chain_space(ChainSpec(image, (2, 4), (3,), (1, 1, 1))), False) == (FIXED, 1, 2)
    residual = chain_space(ChainSpec((("conv3",),) * 3, (2, 4), (3,), (1, 1, 1), residual=True))
    assert movable(residual, channel_groups(residual, False)) == []


@pytest.mark.parametrize("name", ["fomaml", "meta_sgd"])
def test_a_step_after_the_sorting_is_the_sorting_after_a_step(name):
    """Moments, average, learned rates and norms of each inner step move with the weights they belong to."""
    options = {} if name == "meta_sgd" else {"step_rates": True, "step_norms": True}
    space = chain_space(ChainSpec((("conv3",), ("sep3",)), (3, 6), (2,), (2, 1)))
    model = make_supernet(space, IMAGE, readout="mean")
    learner = make_learner(
        name, model, averaged(optax.adam(0.01, eps=1e-3), 0.9), ways=2, inner_steps=1, inner_lr=0.1, **options
    )
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, 6, *IMAGE)).astype(np.float32)
    episodes = Episode(x[:, :2], jnp.asarray([[0, 1]]), x[:, 2:], jnp.asarray([[0, 1, 0, 1]]))
    mask = mask_of(space, largest(space))[None]
    step = jax.jit(lambda state: learner.step(state, mask, episodes)[0])
    state = step(jax.jit(learner.init)(jax.random.key(0)))
    orders = channel_orders(space, state.params["body"], channel_groups(space, name == "meta_sgd"))
    assert (np.asarray(orders[0]) != np.arange(6)).any()
    one, other = reordered(step(state), orders), step(reordered(state, orders))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), one, other)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), step(state), one)
    assert changed.opt_state.mean["body"]["block0"]["conv3"]["kernel"]
    assert changed.opt_state.inner[0].mu["body"]["block1"]["sep3"]["depthwise"]
    assert not changed.params["body"]["block1"]["norm"]["scale"]
    if name == "meta_sgd":
        assert changed.params["rates"]["body"]["block0"]["norm"]["bias"]
