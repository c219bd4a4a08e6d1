"""A branch is the function that it picks, and so are its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.nets.branch import run_branch
from atnas_jax.nets.ops import chosen_op, init_ops


@pytest.fixture(autouse=True, scope="module")
def _float64():
    with jax.enable_x64(True):
        yield


def branches():
    return [
        lambda w, x: jnp.sin(w["a"] * x).sum(1),
        lambda w, x: x**3 @ w["b"],
        lambda w, x: jnp.zeros(x.shape[0]),
    ]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_values_and_derivatives_to_the_third_order(index):
    rng = np.random.default_rng(0)
    w = {"a": jnp.asarray(rng.normal()), "b": jnp.asarray(rng.normal(size=3))}
    x = jnp.asarray(rng.normal(size=(4, 3)))

    def orders(f):
        def value(w, x):
            return jnp.square(f(w, x)).sum() + f(w, x).sum()

        def second(w, x):
            return sum(jnp.square(g).sum() for g in jax.tree.leaves(jax.grad(value, (0, 1))(w, x)))

        def third(w, x):
            return sum(jnp.square(g).sum() for g in jax.tree.leaves(jax.grad(second, (0, 1))(w, x)))

        return [f, *(jax.grad(order, (0, 1)) for order in (value, second, third))]

    picked = orders(lambda w, x: run_branch(jnp.asarray(index), branches(), (w, x)))
    for ours, plain in zip(picked, orders(branches()[index]), strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), jax.jit(ours)(w, x), plain(w, x)
        )


def test_a_batched_index_picks_row_by_row():
    w, x = {"a": jnp.asarray(0.5), "b": jnp.arange(3.0)}, jnp.linspace(-1, 1, 24).reshape(2, 4, 3)

    def loss(w, index, x):
        return run_branch(index, branches(), (w, x)).sum()

    found = jax.vmap(jax.grad(loss), (None, 0, 0))(w, jnp.asarray([1, 0]), x)
    for row, index in enumerate((1, 0)):
        alone = jax.grad(lambda w, row=row, index=index: branches()[index](w, x[row]).sum())(w)
        jax.tree.map(lambda a, b, row=row: np.testing.assert_allclose(a[row], b, atol=1e-12), found, alone)


def test_no_residual_of_another_branch_is_kept():
    """What a derivative hands on are the operands, not zeros in the place of the other branches' residuals."""

    def loss(x, index):
        return run_branch(index, [lambda x: jnp.outer(jnp.exp(x), x).sum(0), jnp.sin], (x,)).sum()

    text = str(jax.make_jaxpr(lambda x, i: jax.vjp(lambda x: loss(x, i), x)[0])(jnp.ones(7), jnp.asarray(1)))
    assert "7,7]" in text and "f64[7,7] = broadcast_in_dim" not in text


@pytest.mark.parametrize(("active", "share"), [(1.0, 1.0), (0.0, 0.0)])
def test_an_op_that_is_not_active_is_nothing_and_moves_nothing(active, share):
    rng = np.random.default_rng(1)
    ops = ("conv3", "sep3", "max3")
    params = init_ops(jax.random.key(0), ops, 2, 4)
    x, weights = jnp.asarray(rng.normal(size=(3, 5, 4, 2))), jnp.asarray([0.0, 1.0, 0.0])

    def run(params, x, **how):
        return chosen_op(ops, params, weights, x, 4, 2, "auto", **how)

    def both(**how):
        def loss(*given):
            return jnp.square(run(*given, **how)).sum()

        return run(params, x, **how), jax.grad(loss, (0, 1))(params, x)

    expected, found = both(), both(active=jnp.asarray(active))
    assert jnp.abs(expected[0]).max() > 0.1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, share * b, atol=1e-12), found, expected)
