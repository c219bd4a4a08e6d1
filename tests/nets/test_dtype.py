"""A body in bfloat16: close to float32, with float32 parameters, gradients, statistics and embedding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from atnas_jax.bench.works import Sizes, draw_episodes
from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.norm import NORMALISATIONS
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.chain import ChainSpec, chain_space, hand_made
from atnas_jax.space.slots import mask_of, random_genotypes

IMAGE, OPS = (9, 8, 1), ("conv3", "sep3", "max3", "avg3")
SPACE = chain_space(ChainSpec((OPS, OPS), (8, 16), (1, 2), (2, 1), "pool", residual=True))

pytestmark = pytest.mark.usefixtures("few_optimisations")


@pytest.mark.parametrize("execution", ["switch", "folded"])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_bfloat16_is_near_and_leaves_float32_outside(execution, normalisation):
    half, full = (
        make_supernet(SPACE, IMAGE, normalisation=normalisation, execution=execution, dtype=dtype)
        for dtype in ("bfloat16", "float32")
    )
    params, x = half.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (12, *IMAGE))
    mask = mask_of(SPACE, hand_made(SPACE))

    def found(model):
        def loss(params, x):
            embedding = model.apply(params, x, mask)
            return jnp.square(embedding).mean(), embedding

        return jax.jit(jax.grad(loss, has_aux=True))(params, x)

    (gradient, embedding), (exact_gradient, exact) = found(half), found(full)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, gradient, embedding))} == {jnp.dtype("float32")}
    error = np.abs(embedding - exact).max() / np.abs(exact).max()
    assert 1e-5 < error < 0.05
    norm = optax.global_norm(exact_gradient)
    assert optax.global_norm(jax.tree.map(jnp.subtract, gradient, exact_gradient)) < 0.1 * norm


def test_the_plain_network_computes_in_the_same_way():
    supernet = make_supernet(SPACE, IMAGE, dtype="bfloat16")
    params, x = supernet.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (4, *IMAGE))
    genotype = hand_made(SPACE)
    subnet = make_subnet(SPACE, genotype, IMAGE, dtype="bfloat16")
    plain = jax.jit(subnet.model.apply)(subnet.cut(params), x)
    masked = jax.jit(supernet.apply)(params, x, mask_of(SPACE, genotype))
    np.testing.assert_allclose(plain, masked[:, subnet.kept], atol=0.05)
    with pytest.raises(ValueError, match="choose one of float32, bfloat16"):
        make_supernet(SPACE, IMAGE, dtype="float16")


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_products_are_of_bfloat16_and_sums_of_float32(platform):
    sizes = Sizes(tasks=2, queries=2, steps=1, channels=8, image=8, depth=2)
    model = make_supernet(SPACE, sizes.image_shape, execution="folded", dtype="bfloat16")
    learner = make_learner("maml", model, optax.adam(1e-3), ways=5, inner_steps=1, task_batch=2)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    masks = mask_of(SPACE, random_genotypes(jax.random.key(1), SPACE, sizes.tasks))
    exported = export.export(jax.jit(learner.step), platforms=[platform])(state, masks, draw_episodes(sizes))
    lines = exported.mlir_module().splitlines()
    products = [line for line in lines if "stablehlo.dot_general" in line]
    assert sum("bf16" in line for line in products) > 10
    large = [line for line in lines if "stablehlo.reduce" in line and "applies stablehlo.add" in line]
    statistics = [line for line in large if "x8x8x16x" in line or "x4x4x16x" in line]
    assert statistics and all("xf32>" in line for line in statistics)
