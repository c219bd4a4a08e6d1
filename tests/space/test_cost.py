"""The cost model against a second count that walks the network with plain loops."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.space.cell import CellSpec, cell_space, input_pairs
from atnas_jax.space.chain import ChainSpec, chain_space, hand_made
from atnas_jax.space.cost import cost_model, cost_report
from atnas_jax.space.slots import OPS, random_genotypes


def weight_shapes(op, c_in, c_out):
    """Shapes of the weights of an op; depthwise is one filter per channel."""
    table = {
        "conv1": [(1, 1, c_in, c_out)],
        "conv3": [(3, 3, c_in, c_out)],
        "conv5": [(5, 5, c_in, c_out)],
        "dil3": [(3, 3, c_in, c_out)],
        "sep3": [(3, 3, c_in), (c_in, c_out)],
        "sep5": [(5, 5, c_in), (c_in, c_out)],
    }
    return table.get(op, [])


class Count:
    """Adds up parameters and multiply-adds; every weight of a convolution is used once per output position."""

    def __init__(self):
        self.params = self.macs = 0

    def conv(self, op, c_in, c_out, positions):
        for shape in weight_shapes(op, c_in, c_out):
            self.params += math.prod(shape)
            for _ in range(positions):
                self.macs += math.prod(shape)

    def norm(self, channels):
        self.params += 2 * channels

    def head(self, features, ways):
        self.params += features * ways + ways
        self.macs += features * ways


def count_chain(space, genotype, image_shape, readout, ways):
    spec, count = space.spec, Count()
    word = {name: choices[value] for name, choices, value in zip(space.names, space.choices, genotype)}
    h, w, c = image_shape
    for block, stride in enumerate(spec.strides):
        grid = [(y, x) for y in range(0, h, stride) for x in range(0, w, stride)]
        strided = (len(range(0, h, stride)), len(range(0, w, stride)))
        if spec.downsample == "pool":
            grid = [(y, x) for y in range(h) for x in range(w)]
            strided = (max(h // stride, 1), max(w // stride, 1))
        if block < int(word["depth"]):
            width = int(word[f"width{block}"])
            count.conv(word[f"op{block}"], c, width, len(grid))
            count.norm(width)
            c = width
        h, w = strided
    if word.get("pool") == "max2":
        h, w = max(h // 2, 1), max(w // 2, 1)
    count.head(h * w * c if readout == "flatten" else c, ways)
    return count.params, count.macs


def count_cell(space, genotype, image_shape, readout, ways):
    spec, count, c = space.spec, Count(), space.spec.channels
    word = {name: choices[value] for name, choices, value in zip(space.names, space.choices, genotype)}
    h, w = (len(range(0, size, spec.stem_stride)) for size in image_shape[:2])
    count.conv("conv3", image_shape[2], c, h * w)
    count.norm(c)
    before = last = c
    for layer in range(spec.layers):
        kind = "reduce" if layer in spec.reductions else "normal"
        if kind == "reduce":
            h, w = len(range(0, h, 2)), len(range(0, w, 2))
        for channels in (before, last):
            count.conv("conv1", channels, c, h * w)
            count.norm(c)
        for node in range(spec.nodes):
            assert word[f"{kind}{node}.inputs"] in [f"{i}+{k}" for i, k in input_pairs(node)]
            count.conv(word[f"{kind}{node}.op_a"], c, c, h * w)
            count.conv(word[f"{kind}{node}.op_b"], c, c, h * w)
            count.norm(c)
        before, last = last, spec.nodes * c
    count.head(h * w * last if readout == "flatten" else last, ways)
    return count.params, count.macs


CHAINS = {
    "stride": ChainSpec((OPS[:9],) * 3, (4, 6, 9), (1, 2, 3), (2, 1, 2)),
    "pool": ChainSpec((("conv3",), *(OPS,) * 3), (4, 8), (2, 4), (2, 2, 1, 2), "pool", residual=True),
    "last pool": ChainSpec((("conv3", "sep3"),) * 2, (4, 8), (1, 2), (2, 1), "pool", last_pool=True),
}
CELLS = {
    "reductions": CellSpec(OPS, nodes=3, layers=4, reductions=(1, 2), channels=4),
    "stem": CellSpec(("conv3", "sep5", "max3"), nodes=2, layers=2, reductions=(0,), channels=3, stem_stride=2),
    "normal": CellSpec(("conv1", "none"), nodes=1, layers=1, reductions=(), channels=5),
}


@pytest.mark.parametrize("readout", ["flatten", "mean"])
@pytest.mark.parametrize(
    ("space", "count"),
    [(chain_space(spec), count_chain) for spec in CHAINS.values()]
    + [(cell_space(spec), count_cell) for spec in CELLS.values()],
    ids=[*CHAINS, *CELLS],
)
def test_cost_equals_the_plain_count(space, count, readout):
    arguments = ((11, 7, 3), readout, 5)
    genotypes = random_genotypes(jax.random.key(0), space, 40)
    cost = jax.jit(cost_model(space, *arguments))(genotypes)
    assert cost.shape == (40, 2) and cost.dtype == jnp.int32
    expected = [count(space, genotype, *arguments) for genotype in np.asarray(genotypes)]
    np.testing.assert_array_equal(cost, expected)
    for genotype, total in zip(np.asarray(genotypes)[:10], expected):
        rows = cost_report(space, genotype, *arguments)
        assert tuple(np.sum([row[1:] for row in rows], axis=0)) == total


def test_conv4_by_hand():
    space = chain_space(ChainSpec((("conv3", "sep3"),) * 4, (16, 64), (4,), (2,) * 4, "pool"))
    params, macs = cost_model(space, (28, 28, 1), "flatten", 5)(hand_made(space))
    assert params == (9 * 64 + 3 * 9 * 64 * 64) + 4 * 128 + (64 * 5 + 5)
    assert macs == 28 * 28 * 9 * 64 + (14 * 14 + 7 * 7 + 3 * 3) * 9 * 64 * 64 + 64 * 5


def test_leading_dimensions_and_single_genotypes():
    space = chain_space(CHAINS["stride"])
    genotypes = random_genotypes(jax.random.key(1), space, 6)
    cost = cost_model(space, (8, 8, 1), "mean", 3)
    np.testing.assert_array_equal(cost(genotypes.reshape(2, 3, -1)).reshape(6, 2), cost(genotypes))
    np.testing.assert_array_equal(cost(genotypes[0]), cost(genotypes)[0])


def test_slots_of_inactive_blocks_cost_nothing():
    space = chain_space(CHAINS["stride"])
    cost = cost_model(space, (8, 8, 1), "mean", 3)
    tails = np.asarray([[0, 1, 2, *tail] for tail in itertools.product(*map(range, space.cards[3:]))], np.int32)
    assert len(np.unique(np.asarray(cost(tails)), axis=0)) == 1


def test_errors():
    space = chain_space(CHAINS["stride"])
    with pytest.raises(ValueError, match="flatten, mean"):
        cost_model(space, (8, 8, 1), "max", 5)
    with pytest.raises(ValueError, match="2147483647"):
        cost_model(space, (9999, 9999, 3), "mean", 5)
    with pytest.raises(ValueError, match="2147483647"):
        cost_model(cell_space(CELLS["stem"]), (99999, 9999, 3), "mean", 5)
