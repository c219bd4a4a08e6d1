"""Elastic kernels, widths and depths: a mask is the net whose weights are really sliced, and sizes nest."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.nets import subnet as plain
from atnas_jax.nets.elastic import small_kernel
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import EXECUTIONS, make_supernet
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.cost import cost_model
from atnas_jax.space.slots import mask_of, uniform_mask
from atnas_jax.space.text import space_from_dict, space_to_dict

pytestmark = pytest.mark.usefixtures("few_optimisations")

IMAGE, WAYS = (6, 6, 2), 3
OPS = (("conv5", "conv3", "conv1"), ("sep3", "max3", "sep5"))
SPACE = chain_space(ChainSpec(OPS, (2, 4), (1, 2), (2, 1), elastic_kernel=True))
X = np.random.default_rng(0).normal(size=(5, *IMAGE)).astype(np.float32)


@functools.cache
def supernet(execution="switch"):
    model = make_supernet(SPACE, IMAGE, execution=execution)
    return model, jax.jit(model.apply)


def shaken(params):
    """Params away from their first value, matrices too."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: np.asarray(leaf + 0.3 * rng.normal(size=leaf.shape), np.float32), params)


@functools.cache
def initial():
    return jax.tree.map(np.asarray, jax.jit(supernet()[0].init)(jax.random.key(0)))


@functools.cache
def params():
    return shaken(initial())


@pytest.fixture
def compiled_pieces(monkeypatch):
    """Compile plain networks piece by piece: the pieces are shared between genotypes, whole networks are not."""
    for name, static in {"apply_op": (0, 3, 4, 5), "finish": (0, 1, 6, 7), "down": (1, 2)}.items():
        monkeypatch.setattr(plain, name, jax.jit(getattr(plain, name), static_argnums=static))


def sliced(genotype):
    """Return the block weights in numpy, by hand: the kernel, then the first channels."""
    found, inputs = [], IMAGE[2]
    for block in range(SPACE.spec.depths[genotype[0]]):
        op, width = OPS[block][genotype[1 + 2 * block]], SPACE.spec.widths[genotype[2 + 2 * block]]
        own = params()[f"block{block}"]
        weights = {name: leaf[..., :inputs, :width] for name, leaf in own.get(op, {}).items()}
        if op == "conv3":
            middle = own["conv5"]["kernel"][1:4, 1:4]
            moved = np.einsum("ij,ico->jco", own["conv3"]["matrix"], middle.reshape(9, *middle.shape[2:]))
            weights = {"kernel": moved.reshape(middle.shape)[..., :inputs, :width]}
        if op == "sep5":
            weights["depthwise"] = own["sep5"]["depthwise"][..., :inputs]
        if op == "sep3":
            middle = own["sep5"]["depthwise"][1:4, 1:4]
            moved = np.einsum("ij,ic->jc", own["sep3"]["matrix"], middle.reshape(9, -1)).reshape(middle.shape)
            weights = {"depthwise": moved[..., :inputs], "pointwise": own["sep5"]["pointwise"][..., :inputs, :width]}
        norm = {name: leaf[:width] for name, leaf in own["norm"].items()}
        found.append(({op: weights} if weights else {}) | {"norm": norm})
        inputs = width
    return {f"block{block}": own for block, own in enumerate(found)}


@pytest.mark.usefixtures("compiled_pieces")
def test_every_size_is_the_net_with_sliced_weights():
    """All 3 kernels x 3 ops x 2 x 2 widths x 2 depths; `cut` gives those weights, as many as the cost model counts."""
    apply = supernet()[1]
    cost = jax.jit(cost_model(SPACE, IMAGE, "flatten", WAYS))
    for genotype in itertools.product(*map(range, SPACE.cards)):
        genotype = np.asarray(genotype, np.int32)
        subnet = make_subnet(SPACE, genotype, IMAGE)
        by_hand, cut = sliced(genotype), subnet.cut(params())
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), by_hand, cut)
        size = sum(leaf.size for leaf in jax.tree.leaves(cut)) + WAYS * (len(subnet.kept) + 1)
        assert size == cost(genotype)[0]
        wide = np.asarray(apply(params(), X, mask_of(SPACE, genotype)))
        np.testing.assert_allclose(wide[:, subnet.kept], subnet.model.apply(by_hand, X), atol=1e-5, rtol=1e-5)
        assert not np.delete(wide, subnet.kept, axis=1).any()


def test_at_first_the_small_kernel_is_the_middle_of_the_large_one():
    body = initial()
    cut = make_subnet(SPACE, np.asarray([1, 1, 1, 0, 1], np.int32), IMAGE).cut(body)
    np.testing.assert_array_equal(cut["block0"]["conv3"]["kernel"], body["block0"]["conv5"]["kernel"][1:4, 1:4])
    np.testing.assert_array_equal(cut["block1"]["sep3"]["depthwise"], body["block1"]["sep5"]["depthwise"][1:4, 1:4])
    assert "kernel" not in body["block0"]["conv3"] and body["block0"]["conv1"]["kernel"].shape == (1, 1, 2, 4)


def test_a_matrix_by_hand():
    """A matrix that swaps the first and the last tap turns the corners of the middle round."""
    kernel = jnp.arange(25.0).reshape(5, 5, 1, 1)
    swap = jnp.eye(9)[jnp.asarray([8, 1, 2, 3, 4, 5, 6, 7, 0])]
    np.testing.assert_array_equal(small_kernel(kernel, swap)[..., 0, 0], [[18, 7, 8], [11, 12, 13], [16, 17, 6]])
    assert small_kernel(kernel, jnp.ones((9, 9)))[0, 0, 0, 0] == 9 * 12


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_what_a_size_does_not_have_gets_no_gradient_and_has_no_say(execution):
    """The ring of the large kernel under the small one, the matrix under the large one, even when they are nan."""
    model = supernet(execution)[0]
    weight = np.random.default_rng(2).normal(size=model.features).astype(np.float32)
    gradient = jax.jit(jax.value_and_grad(lambda p, mask: (model.apply(p, X, mask) @ weight).sum()))
    ring = np.pad(np.zeros((3, 3), bool), 1, constant_values=True)
    for genotype in ([1, 0, 1, 2, 1], [1, 1, 1, 0, 1], [1, 2, 1, 1, 1]):
        out = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), params())
        conv, sep = (OPS[block][genotype[1 + 2 * block]] for block in range(2))
        out["block0"]["conv5"]["kernel"][:] = {"conv5": False, "conv3": ring[..., None, None], "conv1": True}[conv]
        out["block0"]["conv3"]["matrix"][:] = conv != "conv3"
        out["block1"]["sep5"]["depthwise"][:] = {"sep5": False, "sep3": ring[..., None], "max3": True}[sep]
        out["block1"]["sep3"]["matrix"][:] = sep != "sep3"
        mask = mask_of(SPACE, np.asarray(genotype))
        value, clean = gradient(params(), mask)
        poisoned = jax.tree.map(lambda leaf, o: np.where(o, np.float32(np.nan), leaf), params(), out)
        same, again = gradient(poisoned, mask)
        assert float(value) == float(same) and np.isfinite(float(value))
        jax.tree.map(np.testing.assert_array_equal, again, clean)
        jax.tree.map(lambda g, o: np.testing.assert_array_equal(np.asarray(g)[o], 0.0), clean, out)
        lent = clean["block0"]["conv5"]["kernel"][1:4, 1:4]
        assert bool(np.asarray(lent).any()) == (conv != "conv1")  # the small kernel trains the middle of the large one
        assert bool(np.asarray(clean["block0"]["conv3"]["matrix"]).any()) == (conv == "conv3")


def test_a_mixture_of_nested_kernels_is_the_mixture_of_plain_ones():
    model, apply = supernet("folded")
    spec = ChainSpec(OPS, (2, 4), (1, 2), (2, 1))
    separate = make_supernet(chain_space(spec), IMAGE, execution="folded")
    own = {block: leaves | {"norm": params()[block]["norm"]} for block, leaves in ((f"block{b}", {}) for b in range(2))}
    for block, pair in (("block0", ("conv5", "conv3")), ("block1", ("sep5", "sep3"))):
        genotype = np.asarray([1, 1, 1, 0, 1], np.int32)
        cut = make_subnet(SPACE, genotype, IMAGE).cut(params())[block]
        own[block] |= {pair[0]: params()[block][pair[0]], pair[1]: cut[pair[1]]}
    own["block0"]["conv1"] = params()["block0"]["conv1"]
    mask = uniform_mask(SPACE)
    np.testing.assert_allclose(apply(params(), X, mask), jax.jit(separate.apply)(own, X, mask), atol=1e-5)
    assert model.features == separate.features


def test_the_option_is_stored_and_needs_a_pair():
    assert space_from_dict(space_to_dict(SPACE)) == SPACE
    with pytest.raises(ValueError, match="elastic_kernel needs a block with both conv5 and conv3"):
        chain_space(ChainSpec((("conv5", "sep3"),), (2,), (1,), (1,), elastic_kernel=True))
