"""The expected cost is the mean of exact costs, and the cost itself where a mask is one-hot."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.cost import cost_model
from atnas_jax.space.expected import (
    CostTables,
    cost_of,
    exact_tables,
    expected_cost,
    linear_cost,
    tables_from_dict,
    tables_to_dict,
)
from atnas_jax.space.slots import choice_mask

SPACES = {
    "chain": chain_space(ChainSpec((("conv3", "sep3", "max3"), ("conv5", "identity")), (4, 6), (1, 2), (2, 1))),
    "last pool": chain_space(ChainSpec((("conv3", "sep3"),) * 2, (4, 6), (1, 2), (2, 1), last_pool=True)),
    "cell": cell_space(CellSpec(("conv3", "sep3", "none"), 1, 3, (1,), 4)),
}
SHAPE = (9, 7, 3)


@pytest.mark.parametrize("family", SPACES)
@pytest.mark.parametrize("unit, per_norm", [("params", 0), ("params", 2), ("macs", 0)])
def test_against_every_genotype_of_the_space(family, unit, per_norm):
    space = SPACES[family]
    rows = jnp.asarray(list(itertools.product(*map(range, space.cards))), jnp.int32)
    exact = cost_model(space, SHAPE, "flatten", 5, per_norm)(rows)[:, ("params", "macs").index(unit)]
    tables = exact_tables(space, SHAPE, "flatten", 5, unit, per_norm)
    np.testing.assert_allclose(jax.jit(cost_of(space, tables))(rows), exact, rtol=1e-6)
    weights = np.random.default_rng(0).uniform(0.1, 1, (space.num_slots, space.max_choices)) * choice_mask(space)
    policy = weights / weights.sum(1, keepdims=True)
    probability = np.prod([policy[slot, rows[:, slot]] for slot in range(space.num_slots)], 0)
    assert probability.sum() == pytest.approx(1)
    found = expected_cost(space, tables)(jnp.float32(policy))
    np.testing.assert_allclose(found, (probability * np.asarray(exact)).sum(), rtol=1e-5)


def test_a_linear_table_is_a_sum_over_slots():
    table = jnp.asarray([[1.0, 2.0], [3.0, 5.0]])
    assert float(linear_cost(table)(jnp.asarray([[0.25, 0.75], [1.0, 0.0]]))) == pytest.approx(1.75 + 3)


@pytest.mark.parametrize("family", SPACES)
def test_tables_survive_json_and_those_of_another_space_are_refused(family):
    space = SPACES[family]
    tables = exact_tables(space, SHAPE, "flatten", 5, "macs")
    again = tables_from_dict(space, tables_to_dict(tables))
    jax.tree.map(np.testing.assert_array_equal, again, tables)
    assert isinstance(again, CostTables)
    other = tables_to_dict(tables) | {"rest": [[1.0]]}
    with pytest.raises(ValueError, match="this space needs"):
        tables_from_dict(space, other)
