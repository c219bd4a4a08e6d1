"""What a mask means: both executions agree, and what is masked out does not count, whatever it holds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.nets.cell import first_edge
from atnas_jax.nets.supernet import EXECUTIONS, make_supernet
from atnas_jax.space.cell import CellSpec, cell_space, input_pairs
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.slots import OPS, mask_of

SUPPORT, QUERIES, IMAGE = 3, 2, (4, 5, 2)
X = np.random.default_rng(0).normal(size=(SUPPORT + QUERIES, *IMAGE)).astype(np.float32)
CHAIN = chain_space(ChainSpec((OPS, ("max3", "sep3")), (3, 4), (1, 2), (2, 1), "pool", True))
CELL = cell_space(CellSpec(("conv3", "max3", "none"), 2, 1, (0,), 3))
# depth, then op and width of both blocks: every op, both widths, both depths
CHAIN_GENOTYPES = np.asarray([[1, op, op % 2, op // 5, 1] for op in range(len(OPS))] + [[0, 1, 1, 0, 0]], np.int32)
# the normal cell is not in this network; then inputs and two ops of both nodes of the reduction cell
CELL_GENOTYPES = np.asarray([[0] * 6 + tail for tail in ([0, 0, 1, 0, 0, 0], [0, 1, 2, 1, 0, 2], [0, 2, 0, 2, 1, 0])])
SPACES = {"chain": (CHAIN, CHAIN_GENOTYPES), "cell": (CELL, CELL_GENOTYPES.astype(np.int32))}


def shaken(params):
    """Params away from their first value, so that no scale is one and no bias is zero."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: np.asarray(leaf + 0.3 * rng.normal(size=leaf.shape), np.float32), params)


@pytest.fixture(scope="module")
def compiled():
    """Return compiled(family, execution) -> (params, gradient(params, mask, x)), one program each."""

    @functools.cache
    def compiled(family, execution):
        supernet = make_supernet(SPACES[family][0], IMAGE, execution=execution)
        weight = np.random.default_rng(2).normal(size=supernet.features).astype(np.float32)

        def loss(params, mask, x):
            features = supernet.apply(params, x, mask, SUPPORT)
            return (features @ weight).sum(), features

        params = shaken(jax.jit(supernet.init)(jax.random.key(0)))
        return params, jax.jit(jax.value_and_grad(loss, has_aux=True))

    return compiled


def masked_out(space, genotype, params):
    """Return a tree like params of bools: the weights that the genotype does not have."""
    if space.family == "chain":
        return masked_out_of_chain(space.spec, genotype, params)
    out = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), params)
    edges = jax.tree.map(np.ones_like, out["cell0"]["edges"])
    for node in range(space.spec.nodes):
        pair, *ops = genotype[3 * space.spec.nodes + 3 * node :][:3]
        for state, op in zip(input_pairs(node)[pair], ops, strict=True):
            for leaf in jax.tree.leaves(edges.get(space.spec.ops[op], {})):
                leaf[first_edge(space.spec)[node] + state] = False
    out["cell0"]["edges"] = edges
    return out


def masked_out_of_chain(spec, genotype, params):
    """Everything is out but the first channels of the chosen op and of the norm, in the blocks that are active."""
    out = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), params)
    inputs = IMAGE[2]
    for block in range(spec.depths[genotype[0]]):
        op, width = spec.ops[block][genotype[1 + 2 * block]], spec.widths[genotype[2 + 2 * block]]
        own = out[f"block{block}"]
        for name, leaf in own.get(op, {}).items():
            if name == "depthwise":
                leaf[..., :inputs] = False
            else:
                leaf[..., :inputs, :width] = False
        for leaf in own["norm"].values():
            leaf[:width] = False
        inputs = width
    return out


@pytest.mark.parametrize("family", SPACES)
def test_both_executions_agree(family, compiled):
    space, genotypes = SPACES[family]
    (params, switch), (_, folded) = (compiled(family, execution) for execution in EXECUTIONS)
    for mask in mask_of(space, genotypes):
        (ours, gradients), (theirs, same) = switch(params, mask, X), folded(params, mask, X)
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-5, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3, rtol=1e-4), gradients, same)
    assert switch._cache_size() == folded._cache_size() == 1


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("family", SPACES)
def test_what_is_masked_out_is_shut_out_even_when_it_is_not_finite(family, execution, compiled):
    space, genotypes = SPACES[family]
    params, gradient = compiled(family, execution)
    for genotype, mask in zip(genotypes, mask_of(space, genotypes), strict=True):
        out = masked_out(space, genotype, params)
        (loss, _), clean = gradient(params, mask, X)
        for poison in (np.inf, np.nan):
            poisoned = jax.tree.map(lambda leaf, o, p=poison: np.where(o, np.float32(p), leaf), params, out)
            (bad_loss, _), bad = gradient(poisoned, mask, X)
            assert float(bad_loss) == float(loss)
            jax.tree.map(np.testing.assert_array_equal, bad, clean)
        jax.tree.map(lambda g, o: np.testing.assert_array_equal(np.asarray(g)[o], 0.0), clean, out)
        assert np.isfinite(float(loss)) and any(np.asarray(leaf).any() for leaf in jax.tree.leaves(clean))


def test_inactive_blocks_and_channels_have_no_gradient(compiled):
    genotype = np.asarray([0, OPS.index("conv3"), 0, 1, 1], np.int32)  # one block of width 3 of 4
    for execution in EXECUTIONS:
        params, gradient = compiled("chain", execution)
        (_, features), found = gradient(params, mask_of(CHAIN, genotype), X)
        assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(found["block1"]))
        kernel = np.asarray(found["block0"]["conv3"]["kernel"])
        assert not kernel[..., 3:].any() and kernel[..., :3].any(axis=(0, 1, 2)).all()
        assert not np.asarray(features).reshape(SUPPORT + QUERIES, -1, 4)[..., 3:].any()
        assert features.dtype == jnp.float32


def test_folded_maps_over_masks_and_shuts_out_there_too(compiled):
    params, gradient = compiled("chain", "folded")
    masks = mask_of(CHAIN, CHAIN_GENOTYPES[:4])
    poisoned = jax.tree.map(np.copy, params)
    poisoned["block0"]["dil3"]["kernel"][:] = np.nan
    assert OPS.index("dil3") == 3
    many = jax.jit(jax.vmap(gradient, (None, 0, None)))
    (losses, features), gradients = many(params, masks, X)
    (bad_losses, _), bad = many(poisoned, masks, X)
    for i in range(4):
        (loss, one), own = gradient(params, masks[i], X)
        np.testing.assert_allclose(features[i], one, atol=1e-5, rtol=1e-5)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-3, rtol=1e-4), gradients, own)
        np.testing.assert_allclose(losses[i], loss, rtol=1e-4)
        if i < 3:  # the last chooses the poisoned op
            assert float(bad_losses[i]) == float(losses[i])
            jax.tree.map(lambda a, b, i=i: np.testing.assert_array_equal(a[i], b[i]), bad, gradients)
    assert np.isnan(bad_losses[3])


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_every_execution_maps_over_params(execution, compiled):
    """A set of adapted weights for each task; the mask is one, so that switch may branch."""
    supernet = make_supernet(CELL, IMAGE, execution=execution)
    params, gradient = compiled("cell", execution)
    mask, both = mask_of(CELL, CELL_GENOTYPES[0]), jax.tree.map(lambda leaf: np.stack([leaf, 1.5 * leaf]), params)
    mapped = jax.jit(jax.vmap(lambda params: supernet.apply(params, X, mask, SUPPORT)))(both)
    for i in range(2):
        (_, one), _ = gradient(jax.tree.map(lambda leaf, i=i: leaf[i], both), mask, X)
        np.testing.assert_allclose(mapped[i], one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("normalisation", ["support", "batch_transductive"])
def test_queries_see_each_other_only_where_it_is_said(normalisation):
    supernet = make_supernet(CHAIN, IMAGE, normalisation=normalisation)
    params = shaken(jax.jit(supernet.init)(jax.random.key(0)))
    apply = jax.jit(supernet.apply, static_argnums=3)
    mask = mask_of(CHAIN, CHAIN_GENOTYPES[1])
    other = X.copy()
    other[SUPPORT + 1 :] *= 5.0
    first = [np.asarray(apply(params, x, mask, SUPPORT)[SUPPORT]) for x in (X, other, X[: SUPPORT + 1])]
    apart = [np.allclose(first[0], query, atol=1e-6) for query in first[1:]]
    assert apart == [normalisation == "support"] * 2


@pytest.mark.parametrize(
    ("option", "value"), [("normalisation", "batch"), ("readout", "max"), ("execution", "all"), ("conv", "fft")]
)
def test_unknown_names_are_refused_in_one_line(option, value):
    with pytest.raises(ValueError, match=f"net.{option}='{value}' is unknown; choose one of") as error:
        make_supernet(CHAIN, IMAGE, **{option: value})
    assert "\n" not in str(error.value)
