"""The largest and smallest network by hand, and the stages between them."""

import jax
import numpy as np
import pytest

from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space, hand_made
from atnas_jax.space.cost import cost_model
from atnas_jax.space.extremes import largest, opening_stages, smallest
from atnas_jax.space.slots import choice_mask, random_genotypes
from atnas_jax.space.text import to_text

CHAIN = chain_space(
    ChainSpec(
        (("none", "identity", "sep3", "conv3"), ("conv3", "sep5", "conv5")), (4, 8, 12), (1, 2), (1, 1), "pool", True
    )
)
CELL = cell_space(CellSpec(("max3", "conv3", "identity"), 2, 1, (), 4))


def test_extremes_by_hand():
    assert to_text(CHAIN, largest(CHAIN)) == "chain:d2/conv3-12/conv5-12"
    assert to_text(CHAIN, smallest(CHAIN)) == "chain:d1/identity-4/conv3-4"
    large, small = "/0+1-conv3-conv3/1+2-conv3-conv3", "/0+1-identity-identity/0+1-identity-identity"
    assert to_text(CELL, largest(CELL)) == f"cell:normal{large}/reduce{large}"
    assert to_text(CELL, smallest(CELL)) == f"cell:normal{small}/reduce{small}"


def test_a_last_pool_makes_an_embedding_small_and_opens_last():
    space = chain_space(ChainSpec((("conv3",),), (4,), (1,), (1,), last_pool=True))
    assert to_text(space, largest(space)) == "chain:d1/conv3-4/none"
    assert to_text(space, smallest(space)) == to_text(space, hand_made(space)) == "chain:d1/conv3-4/max2"
    assert opening_stages(space, ("pool",))[:, 3].tolist() == [[True, False], [True, True]]


def test_no_network_costs_more_than_the_largest_or_less_than_the_smallest():
    """Of a space whose ops are ordered by weights and extent alike."""
    space = chain_space(ChainSpec((("identity", "conv1", "conv3", "conv5"),) * 3, (4, 8), (1, 2, 3), (2, 2, 1)))
    cost = cost_model(space, (8, 8, 1), "mean", 3)
    costs = np.asarray(cost(random_genotypes(jax.random.key(0), space, 500)))
    assert (costs <= np.asarray(cost(largest(space)))).all()
    assert (costs >= np.asarray(cost(smallest(space)))).all()


def test_the_largest_is_the_hand_made_chain_where_conv3_is_the_largest_op():
    space = chain_space(ChainSpec((("sep3", "identity", "conv3"),) * 2, (4, 8), (1, 2), (1, 1)))
    np.testing.assert_array_equal(largest(space), hand_made(space))


def test_stages_open_one_size_at_a_time():
    stages = opening_stages(CHAIN, ("op", "depth", "width"))
    names = [
        [tuple(np.asarray(choices)[row[: len(choices)]]) for choices, row in zip(CHAIN.choices, stage, strict=True)]
        for stage in stages
    ]
    both, all_first, all_second = ("1", "2"), ("none", "identity", "sep3", "conv3"), ("conv3", "sep5", "conv5")
    full = ("12",)
    assert names == [
        [("2",), ("conv3",), full, ("conv5",), full],
        [("2",), ("conv3",), full, ("sep5", "conv5"), full],
        [("2",), ("sep3", "conv3"), full, all_second, full],
        [("2",), ("identity", "sep3", "conv3"), full, all_second, full],
        [("2",), all_first, full, all_second, full],
        [both, all_first, full, all_second, full],
        [both, all_first, ("8", "12"), all_second, ("8", "12")],
        [both, all_first, ("4", "8", "12"), all_second, ("4", "8", "12")],
    ]


@pytest.mark.parametrize("space", [CHAIN, CELL])
@pytest.mark.parametrize("order", [("op", "depth", "width"), ("width", "op"), ("inputs",), ()])
def test_stages_grow_from_the_largest_to_everything(space, order):
    stages = opening_stages(space, order)
    assert stages.any(-1).all() and not (stages & ~choice_mask(space)).any()
    assert (stages[1:] >= stages[:-1]).all() and (stages[1:] != stages[:-1]).any((1, 2)).all()
    np.testing.assert_array_equal(stages[-1], choice_mask(space))
    assert stages[:, np.arange(space.num_slots), largest(space)].all()


@pytest.mark.parametrize("order", [("kernel",), ("op", "op")])
def test_an_unknown_kind_is_refused(order):
    with pytest.raises(ValueError, match="allowed: op, depth, width, inputs"):
        opening_stages(CHAIN, order)
