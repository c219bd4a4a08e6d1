"""Slots, genotypes, masks, and the specs of both families."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.space import cell, chain
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.slots import SearchSpace, choice_mask, genotype_of, mask_of, random_genotypes, uniform_mask

CHAIN = chain_space(ChainSpec((("conv3",), ("conv3", "sep3", "max3")), (4, 8), (1, 2), (2, 1)))
CELL = cell_space(CellSpec(("conv3", "identity"), nodes=2, layers=2, reductions=(1,), channels=4))


def all_genotypes(space: SearchSpace) -> np.ndarray:
    return np.asarray(list(itertools.product(*map(range, space.cards))), np.int32)


def test_slots_of_both_families():
    assert CHAIN.names == ("depth", "op0", "width0", "op1", "width1")
    assert CHAIN.cards == (2, 1, 2, 3, 2)
    assert (CHAIN.num_slots, CHAIN.max_choices, CHAIN.size) == (5, 3, 24)
    assert CELL.names[:4] == ("normal0.inputs", "normal0.op_a", "normal0.op_b", "normal1.inputs")
    assert CELL.choices[3] == ("0+1", "0+2", "1+2")
    assert CELL.cards == (1, 2, 2, 3, 2, 2) * 2
    assert hash(CHAIN) == hash(chain_space(CHAIN.spec))


def test_slot_helpers_point_at_their_names():
    assert CHAIN.names[chain.DEPTH_SLOT] == "depth"
    assert [CHAIN.names[chain.op_slot(b)] for b in (0, 1)] == ["op0", "op1"]
    assert [CHAIN.names[chain.width_slot(b)] for b in (0, 1)] == ["width0", "width1"]
    assert CELL.names[cell.node_slot(CELL.spec, "reduce", 1)] == "reduce1.inputs"


@pytest.mark.parametrize("space", [CHAIN, CELL], ids=["chain", "cell"])
def test_every_genotype_survives_its_mask(space):
    genotypes = all_genotypes(space)
    assert len(genotypes) == space.size
    masks = mask_of(space, genotypes)
    assert masks.shape == (space.size, space.num_slots, space.max_choices) and masks.dtype == jnp.float32
    np.testing.assert_array_equal(masks.sum(-1), 1)
    assert not np.any(np.asarray(masks)[:, ~choice_mask(space)])
    np.testing.assert_array_equal(genotype_of(space, masks), genotypes)
    np.testing.assert_allclose(masks.mean(0), uniform_mask(space), atol=1e-6)


def test_padding_is_never_picked():
    mask = jnp.full((CHAIN.num_slots, CHAIN.max_choices), -1.0).at[1, 2].set(9.0)
    assert genotype_of(CHAIN, mask)[1] == 0


def test_random_genotypes_are_uniform_per_slot():
    n = 6000
    drawn = np.asarray(jax.jit(lambda k: random_genotypes(k, CHAIN, n))(jax.random.key(0)))
    assert drawn.dtype == np.int32
    for slot, card in enumerate(CHAIN.cards):
        counts = np.bincount(drawn[:, slot], minlength=card)
        assert len(counts) == card
        assert np.all(np.abs(counts - n / card) <= 5 * np.sqrt(n / card))


def test_hand_made_is_conv4():
    spec = ChainSpec((("sep3", "conv3"),) * 4, (16, 32, 64), (2, 4), (2,) * 4, "pool")
    np.testing.assert_array_equal(chain.hand_made(chain_space(spec)), [1, 1, 2, 1, 2, 1, 2, 1, 2])
    np.testing.assert_array_equal(cell.hand_made(CELL), [0, 0, 0, 2, 0, 0] * 2)
    with pytest.raises(ValueError, match="conv3"):
        chain.hand_made(chain_space(ChainSpec((("sep3",),), (4,), (1,), (1,))))
    with pytest.raises(ValueError, match="conv3"):
        cell.hand_made(cell_space(CellSpec(("sep3",), 1, 1, (), 4)))


@pytest.mark.parametrize(
    ("downsample", "sizes"), [("stride", (28, 14, 7, 4, 2, 1, 1)), ("pool", (28, 14, 7, 3, 1, 1, 1))]
)
def test_resolutions(downsample, sizes):
    spec = ChainSpec((("conv3",),) * 6, (4,), (6,), (2,) * 6, downsample)
    assert chain.chain_resolutions(spec, 28, 28) == tuple((s, s) for s in sizes)


def test_cell_resolutions_round_up():
    spec = CellSpec(("conv3",), 1, 3, (0, 2), 4, stem_stride=2)
    assert cell.cell_resolutions(spec, 9, 6) == ((5, 3), (3, 2), (3, 2), (2, 1))


ONE = (("conv3",),)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: chain_space(ChainSpec((), (4,), (1,), (1,))), "ops is empty"),
        (lambda: chain_space(ChainSpec((("conv7",),), (4,), (1,), (1,))), "conv7"),
        (lambda: chain_space(ChainSpec((("conv3", "conv3"),), (4,), (1,), (1,))), "twice"),
        (lambda: chain_space(ChainSpec((("none",),), (4,), (1,), (1,))), "residual"),
        (lambda: chain_space(ChainSpec(ONE, (8, 4), (1,), (1,))), "widths"),
        (lambda: chain_space(ChainSpec(ONE, (4,), (0, 1), (1,))), "depths"),
        (lambda: chain_space(ChainSpec(ONE, (4,), (2,), (1,))), "number of blocks"),
        (lambda: chain_space(ChainSpec(ONE, (4,), (1,), (3,))), "strides"),
        (lambda: chain_space(ChainSpec(ONE, (4,), (1,), (1,), "avg")), "downsample"),
        (lambda: cell_space(CellSpec(("conv7",), 1, 1, (), 4)), "conv7"),
        (lambda: cell_space(CellSpec(("conv3",), 0, 1, (), 4)), "nodes"),
        (lambda: cell_space(CellSpec(("conv3",), 1, 2, (2,), 4)), "0 to 1"),
        (lambda: cell_space(CellSpec(("conv3",), 1, 2, (1, 0), 4)), "ascend"),
        (lambda: cell_space(CellSpec(("conv3",), 1, 1, (), 4, 3)), "stem_stride"),
    ],
)
def test_a_contradictory_spec_is_one_line(make, word):
    with pytest.raises(ValueError, match=word) as error:
        make()
    assert "\n" not in str(error.value)
