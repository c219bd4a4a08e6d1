"""What a GPU or TPU would be given: batched matrix products, no grouped convolution, nothing that calls the host."""

import re
from itertools import pairwise

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import export

from atnas_jax.bench.works import SEVEN_OPS, Sizes, draw_episodes, space_of
from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.slots import mask_of, random_genotypes

SIZES = Sizes(tasks=4, queries=2, steps=2, channels=8, image=12, depth=2, ops=SEVEN_OPS)


def lowered(platform, execution, task_batch, conv="auto"):
    """Return the StableHLO of a second-order outer step of the supernet over different genotypes."""
    space = space_of(SIZES)
    model = make_supernet(space, SIZES.image_shape, execution=execution, conv=conv)
    learner = make_learner("maml", model, optax.adam(1e-3), ways=5, inner_steps=SIZES.steps, task_batch=task_batch)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    masks = mask_of(space, random_genotypes(jax.random.key(1), space, SIZES.tasks))
    return export.export(jax.jit(learner.step), platforms=[platform])(state, masks, draw_episodes(SIZES)).mlir_module()


def branches(text):
    """How often the program turns to another branch; what is chosen by platform has one, of a constant number."""
    lines = [line.strip() for line in text.splitlines()]
    return sum(line == "}, {" and "stablehlo.return %c" not in before for before, line in pairwise(lines))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_a_batch_of_tasks_is_a_batch_of_matrix_products(platform):
    text = lowered(platform, "folded", 4)
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    batched = [line for line in products if "batching_dims = [0] x [0]" in line]
    assert len(batched) > 20
    assert all("tensor<4x" in line for line in batched)
    assert "stablehlo.convolution" not in text and "feature_group_count" not in text
    assert "callback" not in text and branches(text) == 0


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_one_task_at_a_time_runs_one_branch(platform):
    text = lowered(platform, "switch", 1)
    assert branches(text) > 0
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert convolutions and all("feature_group_count = 1 " in line for line in convolutions)
    assert "callback" not in text


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_mixed_products_are_of_bfloat16_and_summed_in_float32(platform):
    for execution, task_batch, op in (("switch", 1, "stablehlo.convolution"), ("folded", 4, "stablehlo.dot_general")):
        lines = lowered(platform, execution, task_batch, "mixed").splitlines()
        halves = [line for line in lines if op in line and "xbf16>" in line]
        assert len(halves) > 10
        assert all(line.count("xbf16>") == 2 and re.search(r"-> tensor<[\dx]+xf32>", line) for line in halves)


def test_a_grouped_convolution_would_be_seen():
    def conv(x, kernel):
        return jax.lax.conv(x, kernel, (1, 1), "SAME")

    args = jnp.ones((4, 1, 2, 5, 5)), jnp.ones((4, 3, 2, 3, 3))
    text = export.export(jax.jit(jax.vmap(conv)), platforms=["cuda"])(*args).mlir_module()
    assert "stablehlo.convolution" in text and "feature_group_count = 4" in text
