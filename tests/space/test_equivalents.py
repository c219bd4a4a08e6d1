"""Other encodings of one network: the same graph by an independent reading, the same function, and all of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.job.build import make_search
from atnas_jax.job.defaults import default_config
from atnas_jax.job.spaces import make_space
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.report.choices import OFF, chosen_names
from atnas_jax.space.cell import CellSpec, cell_space, input_pairs
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.cost import cost_model
from atnas_jax.space.equivalents import canonical, equivalents, swap_nodes
from atnas_jax.space.slots import random_genotypes

pytestmark = pytest.mark.usefixtures("few_optimisations")

SPEC = CellSpec(("conv1", "conv3", "max3"), 3, 1, (), 2)
SPACE = cell_space(SPEC)


def graph(spec, rows):
    """Return what a cell [B,3] computes, written out: its nodes in no order, each with the story of its inputs."""
    stories = ["before", "last"]
    for node, (pair, *ops) in enumerate(rows):
        edges = zip(ops, input_pairs(node)[pair], strict=True)
        stories.append(str(sorted(f"{spec.ops[op]}({stories[state]})" for op, state in edges)))
    return tuple(sorted(stories[2:]))


def test_every_encoding_is_the_same_graph_and_some_are_new():
    rows = np.asarray(random_genotypes(jax.random.key(0), SPACE, 300))
    found = np.asarray(jax.jit(equivalents(SPACE))(rows))
    assert found.shape == (300, 1 + 2 * 2, 18) and found.dtype == np.int32
    np.testing.assert_array_equal(found[:, 0], rows)
    assert (found >= 0).all() and (found < np.asarray(SPACE.cards)).all()
    for own, others in zip(rows.reshape(-1, 2, 3, 3), found.reshape(300, 5, 2, 3, 3), strict=True):
        for other, cell in itertools.product(others, range(2)):
            assert graph(SPEC, other[cell]) == graph(SPEC, own[cell])
    assert 0.2 < (found != rows[:, None]).any(-1)[:, 1:].mean() < 0.8  # where the later node reads the earlier, none


def test_swaps_reach_all_encodings_of_a_cell_and_no_others():
    """Of every cell of three nodes and two ops: 1 x 4, 3 x 4 and 6 x 4 choices."""
    spec = CellSpec(("conv1", "max3"), 3, 1, (), 2)
    choices = [
        [(pair, a, b) for pair in range(len(input_pairs(j))) for a in range(2) for b in range(2)] for j in range(3)
    ]
    cells = np.asarray(list(itertools.product(*choices)))
    index = {row.tobytes(): number for number, row in enumerate(cells.astype(np.int32))}
    label = np.arange(len(cells))
    swaps = [np.asarray(jax.jit(swap_nodes, static_argnums=(0, 2))(spec, cells, node)) for node in range(2)]
    to = np.asarray([[index[row.tobytes()] for row in swapped] for swapped in swaps])
    assert all((other[other] == np.arange(len(cells))).all() for other in to)  # the second swap undoes the first
    for _ in range(6):
        for other in to:
            label = np.minimum(label, label[other])
    by_graph = {}
    for number, row in zip(label, cells):
        by_graph.setdefault(graph(spec, row), set()).add(int(number))
    assert all(len(labels) == 1 for labels in by_graph.values())
    assert len({min(labels) for labels in by_graph.values()}) == len(by_graph) < len(cells)


def test_the_swapped_network_computes_the_same_with_its_weights_in_other_places():
    """Node 2 reads both nodes that change places, so its ops change places too."""
    last = input_pairs(2).index((2, 3))
    genotype = np.asarray([0, 1, 0, input_pairs(1).index((0, 1)), 0, 1, last, 1, 0] + [0] * 9, np.int32)
    other = np.asarray(equivalents(SPACE)(genotype[None])[0, 1])
    np.testing.assert_array_equal(other[:9], [0, 0, 1, 0, 1, 0, last, 0, 1])
    one, two = (make_subnet(SPACE, g, (5, 5, 1), readout="mean") for g in (genotype, other))
    params = jax.tree.map(lambda leaf: leaf + 0.1, jax.jit(one.model.init)(jax.random.key(1)))
    cell = params["cell0"]
    turned = {"a": cell["node2"]["b"], "b": cell["node2"]["a"], "norm": cell["node2"]["norm"]}
    moved = params | {"cell0": cell | {"node0": cell["node1"], "node1": cell["node0"], "node2": turned}}
    x = jax.random.normal(jax.random.key(2), (4, 5, 5, 1))
    out, again = (
        np.asarray(jax.jit(net.model.apply)(p, x)).reshape(4, 3, 2) for net, p in ((one, params), (two, moved))
    )
    np.testing.assert_allclose(again, out[:, [1, 0, 2]], atol=1e-6)
    assert np.abs(out[:, 0] - out[:, 1]).max() > 1e-2


def test_a_chain_says_nothing_beyond_its_depth():
    space = chain_space(ChainSpec((("conv3", "sep3", "max3"),) * 3, (2, 4), (1, 2, 3), (1, 1, 1)))
    rows = random_genotypes(jax.random.key(0), space, 100)
    found = np.asarray(jax.jit(equivalents(space))(rows))
    assert found.shape == (100, 1 + 3, 7)
    cost = jax.jit(cost_model(space, (4, 4, 1), "flatten", 3))
    np.testing.assert_array_equal(cost(found), np.broadcast_to(np.asarray(cost(rows))[:, None], (100, 4, 2)))
    depth = 1 + np.asarray(rows)[:, 0]
    for number in range(3):
        read = np.arange(7) < 1 + 2 * depth[:, None]
        wanted = np.where(read, rows, number % np.asarray(space.cards))
        np.testing.assert_array_equal(found[:, 1 + number], wanted)


def test_a_last_pool_says_something_at_any_depth():
    space = chain_space(ChainSpec((("conv3", "sep3"),) * 2, (2, 4), (1, 2), (1, 1), last_pool=True))
    one, two = np.asarray([[0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 1, 1]])
    np.testing.assert_array_equal(canonical(space, np.stack([one, two])), [[0] * 6, [0] * 5 + [1]])
    assert (np.asarray(equivalents(space)(jnp.asarray(two[None])))[..., -1] == 1).all()
    assert chosen_names(space, two[None])[-2:] == [[OFF], ["max2"]]


def test_a_search_by_nao_learns_from_them_if_told_to(monkeypatch):
    config, given = default_config(), []
    monkeypatch.setattr("atnas_jax.job.build.make_strategy", lambda name, space, **options: given.append(options))
    space = make_space(config)
    config.search.strategy = "nao"
    make_search(config, space, (10, 10, 1))
    config.search.equivalents = True
    make_search(config, space, (10, 10, 1))
    config.search.strategy = "genetic"
    make_search(config, space, (10, 10, 1))
    assert ["equivalents" in options for options in given] == [False, True, False]
    rows = jnp.zeros((2, space.num_slots), jnp.int32)
    assert given[1]["equivalents"](rows).shape == (2, 1 + space.max_choices, space.num_slots)
