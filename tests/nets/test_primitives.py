"""Convolutions, pools and single ops against numpy and XLA; images are tiny, since compiling is what costs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from atnas_jax.nets import conv as convolutions
from atnas_jax.nets import depthwise as depthwise_module
from atnas_jax.nets import ops, pool, written
from atnas_jax.nets.conv import FEW_CHANNELS, IMPLEMENTATIONS, take_channels
from atnas_jax.nets.ops import WINDOW, init_op, mixed_op
from atnas_jax.space.slots import OPS

ATOL = 1e-5
conv = jax.jit(convolutions.conv, static_argnums=(2, 3, 4))
depthwise = jax.jit(depthwise_module.depthwise, static_argnums=2)
apply_op = jax.jit(ops.apply_op, static_argnums=(0, 3, 4, 5))
max_pool2, max_pool3 = jax.jit(pool.max_pool2), jax.jit(pool.max_pool3, static_argnums=1)
# size, stride, dilation, height, width: odd and even sides, and a window larger than the image
CONVOLUTIONS = [(1, 1, 1, 4, 5), (1, 2, 1, 5, 4), (3, 1, 1, 5, 4), (3, 2, 1, 5, 6), (3, 2, 1, 4, 4), (5, 1, 1, 5, 3)]
CONVOLUTIONS += [(5, 2, 1, 7, 6), (3, 1, 2, 5, 6), (3, 2, 2, 7, 4), (5, 1, 1, 2, 1)]


def normal(seed, *shape):
    """Random normals as a numpy array."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def looped_conv(x, kernel, stride, dilation):
    """The convolution by its definition: one product for every output position and tap."""
    n, h, w, _ = x.shape
    size, pad = kernel.shape[0], dilation * (kernel.shape[0] // 2)
    out = np.zeros((n, -(-h // stride), -(-w // stride), kernel.shape[-1]))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            for a in range(size):
                for b in range(size):
                    row, col = i * stride + a * dilation - pad, j * stride + b * dilation - pad
                    if 0 <= row < h and 0 <= col < w:
                        out[:, i, j] += x[:, row, col].astype(np.float64) @ kernel[a, b]
    return out


@pytest.mark.parametrize(("size", "stride", "dilation", "h", "w"), CONVOLUTIONS)
def test_conv_is_its_definition(size, stride, dilation, h, w):
    x, kernel = normal(0, 2, h, w, 3), normal(1, size, size, 3, 4)
    expected = looped_conv(x, kernel, stride, dilation)
    for implementation in IMPLEMENTATIONS:
        got = conv(x, kernel, stride, dilation, implementation)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, atol=ATOL)  # so few channels are never computed in halves


@pytest.mark.parametrize(("size", "stride", "dilation"), [(1, 1, 1), (3, 2, 1), (5, 1, 1), (3, 1, 2)])
@pytest.mark.parametrize("implementation", ["rows", "patches", "auto"])
def test_convolutions_have_the_same_derivatives_to_the_third_order(implementation, size, stride, dilation):
    rng = np.random.default_rng(0)

    def derivatives(implementation):
        def value(x, kernel):
            return jnp.sin(conv(x, kernel, stride, dilation, implementation)).sum()

        def second(x, kernel):
            return sum((gradient**2).sum() for gradient in jax.grad(value, (0, 1))(x, kernel))

        def third(x, kernel):
            return sum((gradient**2).sum() for gradient in jax.grad(second, (0, 1))(x, kernel))

        return [jax.jit(jax.grad(f, (0, 1)))(x, kernel) for f in (value, second, third)]

    with jax.enable_x64(True):
        x = rng.normal(size=(2, 5, 4, FEW_CHANNELS))
        kernel = rng.normal(size=(size, size, FEW_CHANNELS, 3)) / size
        for ours, theirs in zip(*map(jax.tree.leaves, (derivatives(implementation), derivatives("lax"))), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("size", "dilation", "c_in", "c_out"), [(3, 1, 8, 6), (5, 1, 9, 3), (3, 2, 8, 5)])
def test_mixed_is_the_convolution_of_numbers_rounded_to_bfloat16(size, dilation, c_in, c_out):
    x, kernel, y = normal(0, 3, 5, 4, c_in), normal(1, size, size, c_in, c_out), normal(2, 3, 5, 4, c_out)

    def derivatives(x, kernel, y, implementation):
        value, pull = jax.vjp(lambda x, kernel: conv(x, kernel, 1, dilation, implementation), x, kernel)
        return value, *pull(y)

    rounded = [jnp.asarray(given, jnp.bfloat16).astype(jnp.float32) for given in (x, kernel, y)]
    for ours, exact, near in zip(
        derivatives(x, kernel, y, "mixed"), derivatives(*rounded, "lax"), derivatives(x, kernel, y, "lax"), strict=True
    ):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-4)
        assert np.abs(ours - near).max() > 1e-3  # it does round


def test_mixed_has_the_second_derivatives_within_the_rounding():
    x, kernel = normal(0, 2, 5, 4, 8), normal(1, 3, 3, 8, 6) / 3

    def second(implementation):
        def value(x, kernel):
            return jnp.sin(conv(x, kernel, 1, 1, implementation)).sum()

        def of_gradient(x, kernel):
            return sum(jnp.square(gradient).sum() for gradient in jax.grad(value, (0, 1))(x, kernel))

        return jax.jit(jax.grad(of_gradient, (0, 1)))(x, kernel)

    for ours, exact in zip(second("mixed"), second("lax"), strict=True):
        assert np.linalg.norm(ours - exact) < 0.02 * np.linalg.norm(exact)


@pytest.mark.parametrize("implementation", ["auto", "mixed"])
@pytest.mark.parametrize("images", [7, 9, 20])
def test_a_few_images_at_a_time_is_all_at_once(monkeypatch, implementation, images):
    """Chunks that divide the images, a rest, and a last chunk that overlaps."""
    x, kernel = normal(0, images, 5, 4, 8), normal(1, 3, 3, 8, 6)

    def found(cached):
        monkeypatch.setattr(written, "CACHED", cached)

        def loss(x, kernel):
            return jnp.sin(convolutions.conv(x, kernel, 1, 1, implementation)).sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(x, kernel)

    whole, chunked = found(10**9), found(3 * 3 * 14 * 5 * 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), chunked, whole)


def test_auto_goes_by_shape_and_by_whether_kernels_are_batched():
    x, kernels = normal(0, 3, 2, 5, 4, FEW_CHANNELS), normal(1, 3, 3, 3, FEW_CHANNELS, 2)

    def is_xla(*args, run=conv):
        return "stablehlo.convolution" in jax.jit(run).lower(*args).as_text()

    assert is_xla(x[0], kernels[0])
    strided = functools.partial(conv, stride=2)
    assert is_xla(x[0], kernels[0], run=strided) and not is_xla(x, kernels, run=jax.vmap(strided))
    assert not is_xla(x[0], kernels[0], run=jax.grad(lambda x, kernel: strided(x, kernel).sum(), 1))
    assert not is_xla(x[0, ..., 1:], kernels[0, ..., 1:, :]) and not is_xla(x[0], kernels[0, :1, :1])
    assert is_xla(x, kernels[0], run=jax.vmap(conv, (0, None))) and not is_xla(x, kernels, run=jax.vmap(conv))
    assert not is_xla(x[0], kernels, run=jax.vmap(conv, (None, 0)))


@pytest.mark.parametrize("h, w", [(4, 4), (5, 7), (1, 3), (2, 1)])
def test_max_pool2_has_the_derivatives_of_reduce_window_at_both_orders(h, w):
    x, weight = normal(2, 3, h, w, 4), normal(3, 3, max(h // 2, 1), max(w // 2, 1), 4)

    def by_window(x):
        window = (1, min(h, 2), min(w, 2), 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")

    def orders(pooling):
        def first(x):
            return jax.grad(lambda x: jnp.sin(weight * pooling(x)).sum())(x)

        return pooling(x), first(x), jax.grad(lambda x: (first(x) ** 3).sum())(x)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), orders(pool.max_pool2), orders(by_window))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_a_batch_of_convolutions_is_one_by_one_with_its_derivatives(axes, stride):
    x, kernels = normal(0, 3, 2, 5, 4, FEW_CHANNELS), normal(1, 3, 3, 3, FEW_CHANNELS, 2)
    given = [value if axis == 0 else value[0] for value, axis in zip((x, kernels), axes, strict=True)]

    def gradients(implementation):
        def loss(x, kernel):
            return jnp.sin(jax.vmap(lambda x, k: conv(x, k, stride, 1, implementation), axes)(x, kernel)).sum()

        def second(x, kernel):
            return sum(jnp.square(g).sum() for g in jax.grad(loss, (0, 1))(x, kernel))

        return jax.jit(jax.grad(loss, (0, 1)))(*given), jax.jit(jax.grad(second, (0, 1)))(*given)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-2), gradients("auto"), gradients("lax")
    )


@pytest.mark.parametrize(("size", "stride", "h", "w"), [(3, 1, 5, 4), (3, 2, 5, 6), (5, 2, 6, 3)])
def test_depthwise_is_a_diagonal_convolution(size, stride, h, w):
    x, kernel = normal(0, 2, h, w, 3), normal(1, size, size, 3)
    expected = looped_conv(x, kernel[..., None] * np.eye(3), stride, 1)
    np.testing.assert_allclose(depthwise(x, kernel, stride), expected, atol=ATOL)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("h", "w"), [(5, 4), (7, 7), (1, 3), (8, 2)])
def test_both_orders_of_depthwise_are_those_of_a_grouped_convolution(size, stride, h, w):
    """In float64, where what is written down and what JAX derives of its own convolution agree to rounding."""

    def grouped(x, kernel):
        pad, groups = (size // 2,) * 2, x.shape[-1]
        return lax.conv_general_dilated(
            x, kernel[:, :, None], (stride, stride), (pad, pad), dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip

    def own(x, kernel):
        return depthwise_module.depthwise(x, kernel, stride)

    def orders(function):
        def first(*given):
            return jax.grad(lambda *given: jnp.sin(function(*given)).sum(), (0, 1))(*given)

        def second(*given):
            return sum(jnp.square(part).sum() for part in first(*given))

        return jax.jit(lambda *given: (function(*given), first(*given), jax.grad(second, (0, 1))(*given)))

    with jax.enable_x64(True):
        given = [
            jnp.asarray(normal(key, *shape), jnp.float64) for key, shape in ((0, (2, h, w, 3)), (1, (size, size, 3)))
        ]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), orders(own)(*given),
                     orders(grouped)(*given))  # fmt: skip


def test_convolution_under_vmap_takes_a_kernel_for_every_row():
    x, kernels = normal(0, 3, 2, 4, 4, 2), normal(1, 3, 3, 3, 2, 2)
    one_by_one = jnp.stack([conv(x[i], kernels[i], 2) for i in range(3)])
    np.testing.assert_allclose(jax.vmap(lambda x, k: conv(x, k, 2))(x, kernels), one_by_one, atol=ATOL)


def test_take_channels_pads_with_zeros_and_cuts():
    x = normal(0, 2, 3, 3, 4)
    np.testing.assert_array_equal(take_channels(x, 2), x[..., :2])
    padded = take_channels(x, 6)
    np.testing.assert_array_equal(padded[..., :4], x)
    assert not np.any(padded[..., 4:])


@pytest.mark.parametrize(("h", "w"), [(4, 6), (5, 4), (3, 1), (1, 1), (1, 2)])
def test_max_pool2_in_numpy(h, w):
    x = normal(0, 2, h, w, 3)
    rows, cols = max(h // 2, 1), max(w // 2, 1)
    expected = np.zeros((2, rows, cols, 3), np.float32)
    for i in range(rows):
        for j in range(cols):
            expected[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((1, 2))
    np.testing.assert_array_equal(max_pool2(x), expected)


@pytest.mark.parametrize(("h", "w", "stride"), [(4, 5, 1), (5, 4, 2), (1, 3, 1)])
def test_max_pool3_in_numpy(h, w, stride):
    x = normal(0, 2, h, w, 3) - 3.0  # mostly negative: padding with zeros would win
    expected = np.zeros((2, -(-h // stride), -(-w // stride), 3), np.float32)
    for i in range(expected.shape[1]):
        for j in range(expected.shape[2]):
            rows = slice(max(i * stride - 1, 0), i * stride + 2)
            cols = slice(max(j * stride - 1, 0), j * stride + 2)
            expected[:, i, j] = x[:, rows, cols].max((1, 2))
    np.testing.assert_array_equal(max_pool3(x, stride), expected)


def test_pools_have_the_gradient_of_xla():
    x, weight2, weight3 = normal(0, 2, 6, 4, 3), normal(1, 2, 3, 2, 3), normal(2, 2, 6, 4, 3)

    def reduce_window(x, size, stride):
        padding = [(0, 0), *[(size // 2 * (size == 3),) * 2] * 2, (0, 0)]
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), padding)

    def ours(x):
        return (weight2 * max_pool2(x)).sum() + (weight3 * max_pool3(x)).sum()

    def theirs(x):
        return (weight2 * reduce_window(x, 2, 2)).sum() + (weight3 * reduce_window(x, 3, 1)).sum()

    np.testing.assert_allclose(jax.jit(jax.grad(ours))(x), jax.jit(jax.grad(theirs))(x), atol=ATOL)


def test_a_tie_sends_the_whole_gradient_to_the_first_and_nan_comes_through():
    gradient = jax.grad(lambda x: max_pool2(x).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0], [0, 0]])
    assert np.isnan(max_pool2(jnp.full((1, 2, 2, 1), jnp.nan))).all()


def test_folding_is_computing_every_op():
    """One convolution of folded kernels against each op computed plainly: one-hot rows, then a relaxed mixture."""
    x, c_out, stride = normal(0, 2, 6, 5, 3), 4, 2
    params = {op: init_op(jax.random.key(i), op, 3, c_out) for i, op in enumerate(OPS)}
    weights = jnp.concatenate([jnp.eye(len(OPS)), jax.nn.softmax(normal(3, 1, len(OPS)))])

    @jax.jit
    def both(params, weights, x):
        plain = jnp.stack([apply_op(op, params[op], x, c_out, stride, "auto") for op in OPS])
        folded = jax.vmap(lambda row: mixed_op(OPS, params, row, x, c_out, stride, "auto"))(weights)
        return folded, jnp.einsum("ro,onhwc->rnhwc", weights, plain)

    folded, plain = both(params, weights, x)
    assert folded.dtype == jnp.float32 and folded.shape[1:] == (2, 3, 3, c_out)
    np.testing.assert_allclose(folded, plain, atol=ATOL)


def test_ops_without_weights_by_hand():
    x = normal(0, 1, 3, 3, 2)
    np.testing.assert_array_equal(apply_op("identity", {}, x, 2, 1, "auto"), x)
    assert not np.any(apply_op("none", {}, x, 2, 1, "auto"))
    average = apply_op("avg3", {}, x, 2, 1, "auto")
    np.testing.assert_allclose(average[0, 1, 1], x[0].sum((0, 1)) / 9, atol=1e-6)
    np.testing.assert_allclose(average[0, 0, 0], x[0, :2, :2].sum((0, 1)) / 9, atol=1e-6)  # by 9 at the border too
    np.testing.assert_array_equal(apply_op("max3", {}, x, 2, 1, "auto")[0, 1, 1], x[0].max((0, 1)))
    assert set(WINDOW) | {"max3"} == set(OPS)


def test_separable_ops_are_depthwise_then_pointwise():
    x = normal(0, 2, 5, 4, 3)
    for op, size in (("sep3", 3), ("sep5", 5)):
        params = init_op(jax.random.key(0), op, 3, 4)
        assert jax.tree.map(jnp.shape, params) == {"depthwise": (size, size, 3), "pointwise": (1, 1, 3, 4)}
        middle = looped_conv(x, np.asarray(params["depthwise"])[..., None] * np.eye(3), 2, 1)
        expected = middle @ np.asarray(params["pointwise"])[0, 0]
        np.testing.assert_allclose(apply_op(op, params, x, 4, 2, "auto"), expected, atol=ATOL)
