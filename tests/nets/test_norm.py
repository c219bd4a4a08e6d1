"""Which images a normalisation looks at, and that the fused normalise-relu-pool is the plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.compiler import compiler_options
from atnas_jax.nets.block import init_norm, norm_relu_pool, normalise, relu
from atnas_jax.nets.norm import (
    EPSILON,
    LEARNED,
    NORMALISATIONS,
    is_transductive,
    moments,
    normaliser,
    other_normalisation,
)
from atnas_jax.nets.pool import max_pool2
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space

SUPPORT, QUERIES, CHANNELS = 3, 4, 12  # 12 channels: one whole group of 8 and a part of the next
ONES = jnp.ones(CHANNELS)
TASK = {"task_scale": 0.3, "task_offset": -0.4}  # at 3 support images a share of 0.62 for their statistics
normalised = jax.jit(normalise, static_argnums=(3, 4))


def batch(seed=0, rows=SUPPORT + QUERIES):
    """Random feature maps whose channels differ in mean and spread."""
    x = jax.random.normal(jax.random.key(seed), (rows, 4, 4, CHANNELS))
    return x * (1.0 + jnp.arange(CHANNELS)) + jnp.arange(CHANNELS)


def norm(seed):
    """Scales of both signs, and biases."""
    return {"scale": jax.random.normal(jax.random.key(seed), (CHANNELS,)), "bias": jnp.linspace(-1, 1, CHANNELS)} | TASK


def by_definition(x, name, reference):
    """(x - mean) / sqrt(variance + epsilon), the statistics taken in numpy."""
    x = np.asarray(x, np.float64)
    out = np.zeros_like(x)
    if name in ("support", "batch_transductive"):
        rows = x[:reference] if name == "support" else x
        return (x - rows.mean((0, 1, 2))) / np.sqrt(rows.var((0, 1, 2)) + EPSILON)
    if name == "tasknorm":  # Bronskill et al. 2020, section 4
        share = 1 / (1 + np.exp(-(TASK["task_scale"] * reference + TASK["task_offset"])))
        all_mean, all_variance = x[:reference].mean((0, 1, 2)), x[:reference].var((0, 1, 2))
        for n in range(len(x)):
            mean, variance = x[n].mean((0, 1)), x[n].var((0, 1))
            mixed = share * all_mean + (1 - share) * mean
            spread = share * (all_variance + (all_mean - mixed) ** 2) + (1 - share) * (variance + (mean - mixed) ** 2)
            out[n] = (x[n] - mixed) / np.sqrt(spread + EPSILON)
        return out
    groups = {"instance": [[c] for c in range(CHANNELS)], "group": [range(8), range(8, 12)], "layer": [range(CHANNELS)]}
    for n in range(len(x)):
        for group in groups[name]:
            part = x[n][:, :, list(group)]
            out[n][:, :, list(group)] = (part - part.mean()) / np.sqrt(part.var() + EPSILON)
    return out


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_normalisation_is_its_definition(name):
    got = normalised(batch(), ONES, init_norm(CHANNELS, name) | TASK, name, SUPPORT)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, by_definition(batch(), name, SUPPORT), atol=1e-4)


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_who_sees_whom(name):
    x = batch()
    changed = x.at[SUPPORT + 1 :].set(batch(5)[SUPPORT + 1 :] * 3)  # every query but the first

    def out(x):
        return np.asarray(normalised(x, ONES, norm(1), name, SUPPORT))

    same_query = np.allclose(out(x)[SUPPORT], out(changed)[SUPPORT], atol=1e-6)
    alone = np.allclose(out(x)[SUPPORT], out(x[: SUPPORT + 1])[SUPPORT], atol=1e-6)
    assert same_query == alone == (not is_transductive(name))
    sees_support = not np.allclose(out(x)[SUPPORT], out(x.at[0].multiply(2.0))[SUPPORT], atol=1e-3)
    assert sees_support == (name in ("support", "batch_transductive", "tasknorm"))
    if name in ("instance", "group", "layer"):
        np.testing.assert_allclose(out(x)[:1], out(x[:1]), atol=1e-6)


def test_support_without_a_reference_is_the_batch():
    a, b = (normalised(batch(), ONES, norm(1), name, None) for name in ("support", "batch_transductive"))
    np.testing.assert_array_equal(a, b)
    assert other_normalisation("support") == "batch_transductive" and other_normalisation("group") is None


@pytest.mark.parametrize("name", ["group", "layer"])
def test_missing_channels_stay_out_of_the_statistics(name):
    """With 10 of 12 channels the statistics are those of the 10-channel map, whatever the others hold."""
    kept = 10
    x = batch().at[..., kept:].set(1e3)
    channels = (jnp.arange(CHANNELS) < kept).astype(jnp.float32)
    own = {key: norm(1)[key][:kept] for key in ("scale", "bias")}
    wide = normalised(x, channels, norm(1), name, None)
    np.testing.assert_allclose(wide[..., :kept], normalised(x[..., :kept], jnp.ones(kept), own, name, None), atol=1e-5)
    assert not np.any(wide[..., kept:])


@pytest.mark.parametrize("name", ["support", "group", "tasknorm"])
def test_fused_pooling_is_normalise_relu_pool(name):
    """Both the value and the gradient, for scales of either sign; the plain form pools four times as many values."""
    x, weight = batch(), jax.random.normal(jax.random.key(9), (SUPPORT + QUERIES, 2, 2, CHANNELS))

    def fused(x, params):
        return norm_relu_pool(x, ONES, params, name, SUPPORT)

    def plain(x, params):
        return max_pool2(relu(normalise(x, ONES, params, name, SUPPORT)))

    @jax.jit
    def all_of_them(x, params):
        found = []
        for f in (fused, plain):
            out, transpose = jax.vjp(f, x, params)
            found.append((out, transpose(weight)))
        return found

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *all_of_them(x, norm(1)))


def test_tasknorm_lies_between_the_support_and_the_image():
    """A large offset leaves one of the two alone, whatever the number of images; without any both weigh the same."""
    for offset, name in ((50.0, "support"), (-50.0, "instance")):
        own = norm(1) | {"task_scale": 0.0, "task_offset": offset}
        found = normalised(batch(), ONES, own, "tasknorm", SUPPORT)
        np.testing.assert_allclose(found, normalised(batch(), ONES, norm(1), name, SUPPORT), atol=1e-4)
    assert LEARNED == {"tasknorm": ("task_scale", "task_offset")}
    first = init_norm(CHANNELS, "tasknorm")
    assert not first["task_scale"] and not first["task_offset"]
    assert init_norm(CHANNELS).keys() == init_norm(CHANNELS, "group").keys() == {"scale", "bias"}


def test_a_constant_channel_stays_finite():
    x = jnp.full((4, 2, 2, CHANNELS), 7.0)
    for name in NORMALISATIONS:
        mean, inverse = jax.jit(normaliser, static_argnums=(2, 3))(x, ONES, name, 2, TASK)
        assert np.isfinite(inverse).all() and np.allclose(mean, 7.0)


def test_relu_is_flat_at_zero_and_does_not_hide_nan():
    assert np.isnan(relu(jnp.nan))
    assert [float(jax.grad(relu)(value)) for value in (-1.0, 0.0, 2.0)] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("reference", [None, 2])
def test_moments_have_the_derivatives_of_mean_and_variance_at_both_orders(reference):
    x = jnp.asarray(np.random.default_rng(0).normal(1.0, 2.0, (3, 4, 4, 5)), jnp.float32)

    def plain(x):
        return x[:reference].mean((0, 1, 2)), x[:reference].var((0, 1, 2))

    def orders(found):
        def first(x):
            return jax.grad(lambda x: sum(jnp.sin(value).sum() for value in found(x)))(x)

        return found(x), first(x), jax.grad(lambda x: (first(x) ** 2).sum())(x)

    ours, theirs = orders(lambda x: moments(x, reference)), orders(plain)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), ours, theirs)


@pytest.mark.parametrize("offset", [0.0, 1.0, 2.6, 2.7, 30.0, 1e3])  # the square of 2.65 and 1 are `CANCELLED`
def test_a_variance_is_exact_however_far_the_mean_is_from_zero(offset):
    """And one such channel among many, or an empty one, changes nothing for the others."""
    x = np.random.default_rng(0).normal(0.0, 1.0, (9, 28, 28, 6)).astype(np.float32)
    x[..., 2] += np.float32(offset)
    x[..., 4] = 0.0
    exact = x.astype(np.float64)
    for options in ({}, compiler_options()):  # of XLA alone, and as runs are compiled
        mean, variance = jax.jit(moments, static_argnums=1, compiler_options=options)(x, None)
        np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(variance, exact.var((0, 1, 2)), rtol=2e-5)
        together = jax.jit(jax.vmap(lambda part: moments(part[None], None)), compiler_options=options)(x)[1]
        np.testing.assert_allclose(together, exact.var((1, 2)), rtol=2e-5)


@pytest.mark.parametrize("offset", [0.0, 30.0, 1e3])
@pytest.mark.parametrize("layer", [normalise, norm_relu_pool])
def test_a_norm_and_its_gradient_are_exact_however_far_the_mean_is_from_zero(layer, offset):
    """But for what float32 leaves of the deviation there: 1e3 / 1 times its precision of 1e-7."""
    rng = np.random.default_rng(0)
    given = (
        (offset + rng.normal(size=(5, 8, 8, 3))).astype(np.float32),
        {"scale": np.float32([1.5, -0.5, 1.0]), "bias": np.float32([0.1, 0.2, 2.0])},
    )
    weight = rng.normal(size=layer(*given[:1], jnp.ones(3), given[1], "batch_transductive", None).shape)

    def found(x, norm):
        return (layer(x, jnp.ones(3, x.dtype), norm, "batch_transductive", None) * weight.astype(x.dtype)).sum()

    run = jax.jit(jax.value_and_grad(found, (0, 1)))
    ours = run(*given)
    with jax.enable_x64(True):
        exact = run(*jax.tree.map(lambda leaf: leaf.astype(np.float64), given))
    precision = 1e-5 + 3e-6 * offset
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=precision, atol=20 * precision), ours, exact)


def test_a_variance_of_what_is_not_finite_is_nan():
    x = np.zeros((2, 3, 3, 3), np.float32)
    x[0, 0, 0, :2] = np.inf, np.nan
    found = jax.jit(moments, static_argnums=1)(x, None)[1]
    assert np.isnan(found).tolist() == [True, True, False]


def test_an_instance_norm_of_one_pixel_is_refused():
    """A block that pools normalises what it is given; one that strides, and a cell, what comes out."""
    pool, stride = (chain_space(ChainSpec((("conv3",),) * 2, (4,), (1, 2), (2, 2), how)) for how in ("pool", "stride"))
    cell = cell_space(CellSpec(("conv3",), 1, 1, (0,), 4))
    for space, large, small in ((pool, 4, 2), (stride, 5, 4), (cell, 3, 2)):
        for name in NORMALISATIONS:
            make_supernet(space, (large, large, 1), normalisation=name)
        make_supernet(space, (small, small, 1), normalisation="layer")
        with pytest.raises(ValueError, match=f"a map of 1x1, to which images of {small}x{small} come down") as caught:
            make_supernet(space, (small, small, 1), normalisation="instance")
        assert "\n" not in str(caught.value)
    shallow, deep = np.asarray([0, 0, 0, 0, 0]), np.asarray([1, 0, 0, 0, 0])
    for space, small in ((pool, 2), (stride, 4)):
        make_subnet(space, shallow, (small, small, 1), normalisation="instance")
        with pytest.raises(ValueError, match="a map of 1x1"):
            make_subnet(space, deep, (small, small, 1), normalisation="instance")


@pytest.mark.parametrize("name", ["support", "tasknorm"])
def test_marked_rows_are_the_reference_wherever_they_stand(name):
    """Statistics and their derivatives are those of the first rows, and what is not finite elsewhere stays there."""
    order = np.asarray([3, 0, 4, 1, 2, 5, 6])  # from where each row comes
    x, params = batch(), norm(1)

    def total(rows, reference):
        mean, inverse = normaliser(rows, ONES, name, reference, params)
        return (jnp.sin(jnp.arange(1, CHANNELS + 1)) * (inverse + mean * inverse)).sum(), (mean, inverse)

    slope, found = jax.jit(jax.grad(total, has_aux=True))(x[order], jnp.asarray(order) < SUPPORT)
    expected_slope, expected = jax.jit(jax.grad(total, has_aux=True), static_argnums=1)(x, SUPPORT)
    expected = jax.tree.map(lambda leaf: leaf[order] if leaf.ndim > 1 else leaf, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
    np.testing.assert_allclose(slope, expected_slope[order], atol=1e-5)
    spoiled = normaliser(x[order].at[0].set(jnp.inf), ONES, name, jnp.asarray(order) < SUPPORT, params)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a[1:] if a.ndim > 1 else a, b[1:] if b.ndim > 1 else b),
        spoiled, normaliser(x[order], ONES, name, jnp.asarray(order) < SUPPORT, params),
    )  # fmt: skip
