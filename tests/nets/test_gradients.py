"""The gradient of the whole jitted supernet, first and second order, against finite differences in float64.

XLA:CPU has got the gradient of whole networks wrong whose every op passed alone (see `nets/pool.py`), so nothing
smaller than the compiled network is trusted here. Genotypes are data: one program serves all, and this is asserted too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.inner import inner_loop
from atnas_jax.meta.losses import cross_entropy
from atnas_jax.nets.block import init_norm, normalise, relu
from atnas_jax.nets.conv import conv
from atnas_jax.nets.norm import NORMALISATIONS
from atnas_jax.nets.pool import max_pool2
from atnas_jax.nets.supernet import EXECUTIONS, make_supernet
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.slots import OPS, SearchSpace, choice_mask, mask_of, random_genotypes, uniform_mask

SUPPORT, QUERIES, WAYS, IMAGE = 4, 3, 2, (8, 6, 2)
STEP, FINITE_DIFFERENCE, FLOAT32 = 1e-6, 1e-5, 1e-3  # of the difference; relative tolerances


class Case(NamedTuple):
    """A network whose gradient is checked, at which orders in float64 and at which in float32 too."""

    space: SearchSpace
    execution: str
    normalisation: str
    orders: tuple[int, ...]
    single: tuple[int, ...]
    conv: str = "patches"  # what "auto" takes for so few channels


def chain(downsample, residual, *ops):
    """Two blocks that both down-sample."""
    return chain_space(ChainSpec(tuple(map(tuple, map(str.split, ops))), (4, 6), (1, 2), (2, 2), downsample, residual))


def cell(nodes, ops):
    """One reduction cell."""
    return cell_space(CellSpec(tuple(ops.split()), nodes, 1, (0,), 4))


CASES = {
    "pool-switch": Case(
        chain("pool", True, "conv3 max3 identity", "sep3 none conv1"), "switch", "support", (1, 2), (1, 2), "rows"
    ),
    "stride-switch": Case(
        chain("stride", False, "dil3 avg3", "conv3 max3 sep5"), "switch", "batch_transductive", (1,), ()
    ),
    "pool-folded": Case(chain("pool", True, "sep5 none", "conv1 avg3 dil3"), "folded", "instance", (1, 2), (), "rows"),
    "stride-folded": Case(chain("stride", True, "conv5 identity", "max3 sep3"), "folded", "group", (1, 2), (1,)),
    "chain-folded": Case(chain("stride", False, "conv1", "sep3"), "folded", "batch_transductive", (2,), ()),
    "cell-switch": Case(cell(2, "conv3 max3"), "switch", "layer", (1, 2), (1,)),
    "cell-folded": Case(cell(2, "sep3 identity"), "folded", "tasknorm", (1, 2), ()),
}


def test_the_cases_leave_nothing_out():
    chains = [case for case in CASES.values() if case.space.family == "chain"]
    assert {op for case in chains if 2 in case.orders for ops in case.space.spec.ops for op in ops} == set(OPS)
    for order in (1, 2):
        assert {case.normalisation for case in CASES.values() if order in case.orders} == set(NORMALISATIONS)
    assert {(case.space.spec.downsample, case.execution) for case in chains} == {
        (downsample, execution) for downsample in ("pool", "stride") for execution in EXECUTIONS
    }


def masks_of(case):
    """A mask for every choice of every slot at full depth, random ones, and for folded execution a mixture."""
    space = case.space
    cards = np.asarray(space.cards)
    genotypes = np.stack([np.full(len(cards), k) % cards for k in range(cards.max())])
    if space.family == "chain":
        genotypes[:, 0] = cards[0] - 1
    genotypes = np.concatenate([genotypes, random_genotypes(jax.random.key(3), space, 3)])
    masks = [np.asarray(mask) for mask in mask_of(space, genotypes)]
    return [*masks, np.asarray(uniform_mask(space))] if case.execution == "folded" else masks


def loss_of(case):
    """Return loss(inputs, data) of the support, of the queries, and of the queries after one step on the support."""
    settings = {"normalisation": case.normalisation, "execution": case.execution, "conv": case.conv}
    supernet = make_supernet(case.space, IMAGE, **settings)

    def query(inputs, data):
        features = supernet.apply(inputs["params"], data["x"], inputs["mask"], SUPPORT)
        return cross_entropy(features[SUPPORT:] @ data["head"], data["y"][SUPPORT:])

    def support(inputs, data):
        features = supernet.apply(inputs["params"], data["x"][:SUPPORT], inputs["mask"])
        return cross_entropy(features @ data["head"], data["y"][:SUPPORT])

    def after_step(inputs, data):
        def loss(params):
            return support(inputs | {"params": params}, data)

        return query(inputs | {"params": inner_loop(loss, inputs["params"], optax.sgd(0.1), 1)}, data)

    return support, query, after_step


def problem(case):
    """Return params, away from their first value so that nothing stands on a kink of relu, and data, in float64."""
    rng = np.random.default_rng(0)
    supernet = make_supernet(case.space, IMAGE, normalisation=case.normalisation)
    first = jax.jit(supernet.init)(jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) + 0.3 * rng.normal(size=leaf.shape), first)
    return params, {
        "x": rng.normal(size=(SUPPORT + QUERIES, *IMAGE)),
        "y": (np.arange(SUPPORT + QUERIES) % WAYS).astype(np.int32),
        "head": rng.normal(size=(supernet.features, WAYS)) / np.sqrt(supernet.features),
    }


def double(tree):
    """Return the leaves as float64 numpy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def single(tree):
    """Return floating leaves as float32 numpy arrays."""
    return jax.tree.map(lambda leaf: leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf, tree)


def dot(a, b):
    """The inner product of two pytrees."""
    return sum(float((x * y).sum()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def direction_in(inputs, case, rng):
    """A random direction of unit length; only a relaxed mask moves: at one-hot ones ties of max-pooling make kinks."""
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), inputs)
    direction["mask"] *= choice_mask(case.space) & (inputs["mask"].max() < 1)
    length = np.sqrt(dot(direction, direction))
    return jax.tree.map(lambda leaf: leaf / length, direction)


def moved(inputs, direction, step):
    """inputs + step * direction."""
    return jax.tree.map(lambda leaf, d: leaf + step * d, inputs, direction)


def difference(compiled, inputs, direction, data):
    """The central difference of the compiled value and gradient's value, to compare a derivative with."""
    ahead, behind = (float(compiled(moved(inputs, direction, step), data)[0]) for step in (STEP, -STEP))
    return pytest.approx((ahead - behind) / (2 * STEP), rel=FINITE_DIFFERENCE, abs=1e-8)


def check(case, loss, with_single):
    """Hold the compiled gradient against differences of the compiled loss, for every mask, by one program."""
    params, data = problem(case)
    rng, compiled = np.random.default_rng(1), jax.jit(jax.value_and_grad(loss))
    exact = []
    with jax.enable_x64(True):
        for mask in masks_of(case):
            inputs = {"params": params, "mask": mask.astype(np.float64)}
            direction = direction_in(inputs, case, rng)
            exact.append(double(compiled(inputs, data)[1]))
            assert dot(exact[-1], direction) == difference(compiled, inputs, direction, data), mask
        assert compiled._cache_size() == 1
    if not with_single:
        return
    compiled = jax.jit(jax.value_and_grad(loss))
    for mask, right in zip(masks_of(case), exact, strict=True):
        gradient = compiled({"params": single(params), "mask": mask}, single(data))[1]
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))
        off = jax.tree.map(np.subtract, double(gradient), right)
        assert dot(off, off) ** 0.5 <= FLOAT32 * dot(right, right) ** 0.5, mask
    assert compiled._cache_size() == 1


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if 1 in case.orders])
def test_first_order(name):
    """In the parameters and, where it is relaxed, in the mask."""
    check(CASES[name], loss_of(CASES[name])[1], 1 in CASES[name].single)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if 2 in case.orders])
def test_second_order(name):
    """MAML's gradient, through one inner step."""
    check(CASES[name], loss_of(CASES[name])[2], 2 in CASES[name].single)


def test_a_small_residual_chain():
    """Here the gradient was lost of a maximum that was found by comparing for equality."""
    case = Case(chain("pool", True, "conv3", "conv1"), "switch", "instance", (1,), ())
    check(case, loss_of(case)[0], False)


def test_a_conv4_of_full_size():
    """Here, and in no smaller network, the gradient of reshape().max() is 40 % off."""
    rng, width, image, ways = np.random.default_rng(0), 32, (28, 28, 1), 5
    blocks = [
        {"kernel": rng.normal(size=(3, 3, c_in, width)) * (2 / (9 * c_in)) ** 0.5, "norm": double(init_norm(width))}
        for c_in in (1, width, width, width)
    ]
    inputs = {"blocks": blocks, "head": rng.normal(size=(width, ways)) / width**0.5}

    def loss(inputs, x):
        for block in inputs["blocks"]:
            y = conv(x, block["kernel"])
            x = max_pool2(relu(normalise(y, jnp.ones(width, y.dtype), block["norm"], "support", None)))
        return cross_entropy(x.reshape(len(x), -1) @ inputs["head"], jnp.arange(ways))

    direction = jax.tree.map(lambda leaf: 0.1 * rng.normal(size=leaf.shape), inputs)
    with jax.enable_x64(True):
        x, compiled = rng.normal(size=(ways, *image)), jax.jit(jax.value_and_grad(loss))
        assert dot(double(compiled(inputs, x)[1]), direction) == difference(compiled, inputs, direction, x)
