"""The plain network of a genotype computes what the masked supernet does, and is as large as the cost model says."""

import itertools

import jax
import numpy as np
import pytest

from atnas_jax.nets import cell as cell_family
from atnas_jax.nets import subnet as plain
from atnas_jax.nets.norm import LEARNED
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space, hand_made
from atnas_jax.space.cost import cost_model
from atnas_jax.space.slots import mask_of, random_genotypes
from atnas_jax.space.text import to_text

pytestmark = pytest.mark.usefixtures("few_optimisations")

SUPPORT, QUERIES, WAYS, IMAGE = 3, 2, 3, (6, 5, 2)


def chain(downsample, residual, last_pool=False):
    """Two blocks of two widths; 24 or 48 genotypes, twice as many with a last pool."""
    second = ("max3", "conv1", "none") if residual else ("identity", "sep3")
    strides = (1, 2) if last_pool else (2, 2)
    ops = (("conv3", "avg3"), second)
    return chain_space(ChainSpec(ops, (4, 12), (1, 2), strides, downsample, residual, last_pool=last_pool))


def cell(nodes):
    """Normal and reduction cells of one node (16 genotypes) or two (2,304)."""
    return cell_space(CellSpec(("sep3", "max3"), nodes, 4 - nodes, (1,), 4, 2))


# space, normalisation, readout, genotypes sampled (None: all there are)
CASES = [
    (chain("pool", True), "support", "flatten", None),
    (chain("stride", False), "group", "flatten", None),
    (chain("stride", True), "batch_transductive", "mean", 6),
    (chain("pool", False), "instance", "flatten", 6),
    (chain("pool", True), "layer", "flatten", 6),
    (cell(1), "support", "flatten", None),
    (cell(2), "layer", "mean", 6),
    (chain("pool", False), "tasknorm", "flatten", 6),
    (cell(1), "tasknorm", "mean", 3),
    (chain("pool", False, last_pool=True), "support", "flatten", None),
    (chain("stride", True, last_pool=True), "support", "flatten", 8),
]


@pytest.fixture(autouse=True)
def compiled_pieces(monkeypatch):
    """Compile the networks piece by piece: the pieces are shared between genotypes, whole networks are not."""
    statics = {"apply_op": (0, 3, 4, 5), "finish": (0, 1, 6, 7), "down": (1, 2), "normalise": (3, 4)}
    for name, static in statics.items():
        monkeypatch.setattr(plain, name, jax.jit(getattr(plain, name), static_argnums=static))
    monkeypatch.setattr(cell_family, "unit", jax.jit(cell_family.unit, static_argnums=(2, 3, 4, 5)))


def genotypes_of(space, sampled):
    """Every genotype of the space, or some."""
    if sampled is None:
        return np.asarray(list(itertools.product(*map(range, space.cards))), np.int32)
    return np.asarray(random_genotypes(jax.random.key(7), space, sampled))


def shaken(params):
    """Params away from their first value, so that no scale is one and no bias is zero; in numpy, quick to slice."""
    rng = np.random.default_rng(5)
    return jax.tree.map(lambda leaf: np.asarray(leaf + 0.3 * rng.normal(size=leaf.shape), np.float32), params)


@pytest.mark.parametrize(("space", "normalisation", "readout", "sampled"), CASES)
def test_subnet_is_the_masked_supernet(space, normalisation, readout, sampled):
    settings = {"normalisation": normalisation, "readout": readout}
    supernet = make_supernet(space, IMAGE, **settings)
    params = shaken(jax.jit(supernet.init)(jax.random.key(0)))
    x = jax.random.normal(jax.random.key(1), (SUPPORT + QUERIES, *IMAGE))
    masked = jax.jit(supernet.apply, static_argnums=3)
    cost = jax.jit(cost_model(space, IMAGE, readout, WAYS, len(LEARNED.get(normalisation, ()))))
    genotypes = genotypes_of(space, sampled)
    for genotype in genotypes:
        subnet = make_subnet(space, genotype, IMAGE, **settings)
        own = subnet.cut(params)
        wide = np.asarray(masked(params, x, mask_of(space, genotype), SUPPORT))
        features = subnet.model.apply(own, x, None, SUPPORT)
        np.testing.assert_allclose(features, wide[:, subnet.kept], atol=5e-5, rtol=2e-5)
        assert not np.delete(wide, subnet.kept, axis=1).any()
        head = WAYS * len(subnet.kept) + WAYS
        assert sum(leaf.size for leaf in jax.tree.leaves(own)) + head == cost(genotype)[0]
        assert subnet.model.features == len(subnet.kept)
    assert masked._cache_size() == 1


def test_every_op_is_cut():
    """One block of each op that has weights, from a wider supernet."""
    ops = ("conv1", "conv3", "conv5", "dil3", "sep3", "sep5")
    space = chain_space(ChainSpec((("conv1",), ops), (2, 3), (2,), (1, 2)))
    supernet = make_supernet(space, IMAGE)
    params = shaken(jax.jit(supernet.init)(jax.random.key(0)))
    x = jax.random.normal(jax.random.key(1), (SUPPORT, *IMAGE))
    masked = jax.jit(supernet.apply)
    for op in range(len(ops)):
        genotype = np.asarray([0, 0, 0, op, 0], np.int32)
        subnet = make_subnet(space, genotype, IMAGE)
        features, wide = subnet.model.apply(subnet.cut(params), x), masked(params, x, mask_of(space, genotype))
        np.testing.assert_allclose(features, wide[:, subnet.kept], atol=5e-5, rtol=2e-5)


@pytest.mark.parametrize("space", [chain("pool", True), cell(2)])
def test_a_subnet_starts_from_scratch_as_the_same_pytree(space):
    supernet, genotype = make_supernet(space, IMAGE), genotypes_of(space, 1)[0]
    subnet = make_subnet(space, genotype, IMAGE)
    scratch = jax.eval_shape(subnet.model.init, jax.random.key(0))
    cut = jax.eval_shape(lambda key: subnet.cut(supernet.init(key)), jax.random.key(0))
    assert jax.tree.structure(scratch) == jax.tree.structure(cut)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), scratch) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), cut
    )


def test_kept_by_hand():
    """Width 4 of 12 on a map of 2x1 positions keeps the first four channels of each."""
    genotype = np.asarray([1, 0, 0, 0, 0], np.int32)
    np.testing.assert_array_equal(
        make_subnet(chain("stride", False), genotype, IMAGE).kept.reshape(4, 4)[:2], [[0, 1, 2, 3], [12, 13, 14, 15]]
    )
    np.testing.assert_array_equal(
        make_subnet(chain("stride", False), genotype, IMAGE, readout="mean").kept, [0, 1, 2, 3]
    )


@pytest.mark.parametrize(
    ("genotype", "settings", "message"),
    [
        ([0, 0, 0, 0], {}, "outside this space"),
        ([0, 0, 0, 0, 9], {}, "outside this space"),
        ([0, 0, 0, 0, 0], {"normalisation": "batch"}, "net.normalisation='batch' is unknown"),
        ([0, 0, 0, 0, 0], {"readout": "max"}, "net.readout='max' is unknown"),
        ([0, 0, 0, 0, 0], {"conv": "fft"}, "net.conv='fft' is unknown"),
    ],
)
def test_a_wrong_subnet_is_refused_in_one_line(genotype, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        make_subnet(chain("pool", True), np.asarray(genotype, np.int32), IMAGE, **settings)
    assert "\n" not in str(error.value)


def test_a_last_pool_is_kept_by_hand():
    """A map of 6x5 positions comes down to 3x2, which lie in its first rows and columns; a mean has no such choice."""
    space = chain_space(ChainSpec((("conv3",),), (2,), (1,), (1,), last_pool=True))
    subnet = make_subnet(space, hand_made(space), IMAGE)
    assert to_text(space, hand_made(space)) == "chain:d1/conv3-2/max2"
    np.testing.assert_array_equal(subnet.kept.reshape(3, 2, 2)[..., 0], 2 * np.asarray([[0, 1], [5, 6], [10, 11]]))
    for make in (make_supernet, lambda space, *rest, **given: make_subnet(space, hand_made(space), *rest, **given)):
        with pytest.raises(ValueError, match="take 'flatten'"):
            make(space, IMAGE, readout="mean")
        with pytest.raises(ValueError, match="a map of 1x1, to which images of 1x1"):
            make(space, (1, 1, 2))


@pytest.mark.parametrize("execution", ["switch", "folded"])
def test_a_last_pool_that_is_not_chosen_does_nothing(execution):
    """Without it the network is that of the space without the choice; with it, that one pooled; folded also mixes."""
    given = ((("conv3", "sep3"),), (2, 3), (1,), (2,))
    without, space = chain_space(ChainSpec(*given)), chain_space(ChainSpec(*given, last_pool=True))
    plainer, supernet = (make_supernet(s, IMAGE, execution=execution) for s in (without, space))
    params, x = plainer.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (SUPPORT, *IMAGE))
    genotype = np.asarray([0, 1, 1], np.int32)
    mask = [mask_of(space, np.append(genotype, pool)) for pool in range(2)]
    whole = plainer.apply(params, x, mask_of(without, genotype))
    np.testing.assert_array_equal(supernet.apply(params, x, mask[0]), whole)
    pooled = np.zeros((SUPPORT, 3, 3, 3), np.float32)
    pooled[:, :1, :1] = np.asarray(whole).reshape(pooled.shape)[:, :2, :2].max((1, 2), keepdims=True)
    np.testing.assert_array_equal(supernet.apply(params, x, mask[1]), pooled.reshape(SUPPORT, -1))
    if execution == "folded":
        mixed = supernet.apply(params, x, 0.25 * mask[0] + 0.75 * mask[1])
        np.testing.assert_allclose(mixed, 0.25 * whole + 0.75 * pooled.reshape(SUPPORT, -1), rtol=1e-5)
