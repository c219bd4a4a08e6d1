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
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.cost import cost_model
from atnas_jax.space.slots import mask_of, random_genotypes

pytestmark = pytest.mark.usefixtures("few_optimisations")

SUPPORT, QUERIES, WAYS, IMAGE = 3, 2, 3, (6, 5, 2)


def chain(downsample, residual):
    """Two blocks of two widths; 24 or 48 genotypes."""
    second = ("max3", "conv1", "none") if residual else ("identity", "sep3")
    return chain_space(ChainSpec((("conv3", "avg3"), second), (4, 12), (1, 2), (2, 2), downsample, residual))


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
