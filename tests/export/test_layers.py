"""Every network of both spaces as layers: the plain subnet's numbers in numpy, in JAX and in ONNX."""

import jax
import numpy as np
import pytest

from atnas_jax.export.bake import bake, depends_on_batch
from atnas_jax.export.compute import function_of
from atnas_jax.export.layers import make_layers
from atnas_jax.export.onnx_graph import to_onnx
from atnas_jax.export.reader import OPS, run
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.text import from_text

SHAPE = (11, 7, 3)  # odd, not square
NORMALISE = ((0.3, 0.5, 0.6), (0.2, 0.3, 0.25))
CONVS, ALL = ("conv1", "conv3", "conv5", "dil3"), ("max3", "avg3", "identity", "sep3", "sep5", "none")


def _chain(ops, downsample="stride", residual=False, strides=(2, 1, 2), **more):
    return chain_space(ChainSpec((ops,) * 3, (5, 10), (2, 3), strides, downsample, residual, **more))


CELL = cell_space(CellSpec(("conv3", "sep5", "max3", "avg3", "identity", "none"), 2, 4, (1, 3), 5, 2))
CASES = [
    (_chain(CONVS), "chain:d3/conv5-5/dil3-10/conv1-5", "support"),
    (_chain(CONVS, "pool"), "chain:d2/conv3-10/conv1-5/conv3-5", "support"),
    (_chain(CONVS, "pool", True), "chain:d3/dil3-5/conv3-10/conv5-5", "tasknorm"),
    (_chain(ALL, "stride", True), "chain:d3/max3-5/none-10/identity-10", "instance"),
    (_chain(ALL, "pool", True), "chain:d3/sep3-10/avg3-5/sep5-10", "group"),
    (_chain(ALL, "pool", True, (2, 2, 2)), "chain:d2/avg3-10/identity-5/sep5-5", "layer"),
    (_chain(("conv3", "conv5"), elastic_kernel=True), "chain:d3/conv3-5/conv5-10/conv3-5", "batch_transductive"),
    (_chain(CONVS, "pool", strides=(2, 1, 1), last_pool=True), "chain:d3/conv5-5/dil3-10/conv1-5/max2", "support"),
    (CELL, "cell:normal/0+1-conv3-sep5/1+2-max3-identity/reduce/0+1-avg3-none/0+2-conv3-max3", "support"),
    (CELL, "cell:normal/0+1-none-avg3/0+1-identity-conv3/reduce/0+1-sep5-max3/1+2-none-conv3", "tasknorm"),
]


pytestmark = pytest.mark.usefixtures("few_optimisations")


def _random(leaf):
    """Return weights of which no scale or bias is that of a start, some scales being negative."""
    return np.random.default_rng(leaf.size).normal(0.2, 0.7, leaf.shape).astype(np.float32)


def _case(space, text, normalisation, readout):
    """Return the layers, a support, queries, the plain subnet, its weights, and support and queries normalised."""
    genotype = from_text(space, text)
    subnet = make_subnet(space, genotype, SHAPE, normalisation=normalisation, readout=readout)
    shapes = jax.eval_shape(make_supernet(space, SHAPE, normalisation=normalisation).init, jax.random.key(0))
    body = subnet.cut(jax.tree.map(_random, shapes))
    images = np.random.default_rng(2).integers(0, 256, (9, *SHAPE)).astype(np.uint8)
    whole = (images.astype(np.float32) / 255 - np.float32(NORMALISE[0])) / np.float32(NORMALISE[1])
    layers = make_layers(
        space, genotype, body, None,
        image_shape=SHAPE, normalise=NORMALISE, normalisation=normalisation, readout=readout,
    )  # fmt: skip
    return layers, images[:5], images[5:], subnet, body, whole


def _embed(subnet, body, images, reference=None):
    return np.asarray(jax.jit(lambda body, images: subnet.model.apply(body, images, None, reference))(body, images))


def _readout(case):
    return "mean" if case[2] in ("layer", "instance") else "flatten"


def _close(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype == np.float32
    assert np.abs(a - b).max() <= 1e-5 * max(1.0, np.abs(b).max())


def _by_onnx(layers, images):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = to_onnx(layers, SHAPE, str(images.dtype))
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"images": images})[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1][:18]}-{case[2]}")
def test_all_say_what_the_subnet_says(case):
    layers, support, queries, subnet, body, whole = _case(*case, _readout(case))
    if case[2] == "batch_transductive":
        expected, baked = _embed(subnet, body, whole[5:]), layers
    else:
        expected, baked = _embed(subnet, body, whole, 5)[5:], bake(layers, support)
        assert not depends_on_batch(baked)
        _close(run(baked, queries[:1]), expected[:1])  # an image alone
    assert np.abs(expected).max() > 0.1
    _close(run(baked, queries), expected)
    _close(run(baked, queries.astype(np.float32) / 255), expected)
    _close(np.asarray(jax.jit(function_of(baked))(queries)), expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1][:18]}-{case[2]}")
def test_onnx_says_what_the_reader_says(case):
    layers, support, queries, *_ = _case(*case, _readout(case))
    baked = layers if case[2] == "batch_transductive" else bake(layers, support)
    expected = run(baked, queries)
    _close(_by_onnx(baked, queries), expected)
    _close(_by_onnx(baked, queries.astype(np.float32) / 255), expected)


def test_accelerators_are_told_to_compute_in_whole_float32():
    layers, _, queries, *_ = _case(*CASES[0], "flatten")
    text = jax.jit(function_of(layers)).lower(queries).as_text()
    assert "HIGHEST" in text and "DEFAULT" not in text


@pytest.mark.parametrize("case", [CASES[0], CASES[8]], ids=("support", "tasknorm"))
def test_without_a_support_the_batch_is_one(case):
    layers, _, _, subnet, body, whole = _case(*case, "flatten")
    assert depends_on_batch(layers)
    images = np.random.default_rng(2).integers(0, 256, (9, *SHAPE)).astype(np.uint8)
    expected = _embed(subnet, body, whole)
    _close(run(layers, images), expected)
    _close(_by_onnx(layers, images), expected)


def test_every_op_of_the_reader_is_in_some_case():
    used = {layer.op for case in CASES for layer in _case(*case, "flatten")[0]}
    assert used | {"linear", "mean"} == set(OPS)
