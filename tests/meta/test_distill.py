"""In-place distillation: the divergence by hand, nothing to learn from oneself, no gradient through the teacher."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.distill import Teacher, distillation, divergence
from atnas_jax.meta.learners import make_learner
from atnas_jax.meta.losses import cross_entropy
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.extremes import largest, smallest
from atnas_jax.space.slots import mask_of
from atnas_jax.types import Episode, Model

pytestmark = pytest.mark.usefixtures("few_optimisations")
T, N, D, PIXELS, WEIGHT = 2, 3, 5, 4, 0.7


def episodes(size=2):
    """T episodes of one support and two query images a class."""
    x = jax.random.normal(jax.random.key(0), (T, 3 * N, size, size, 1))
    labels = jnp.tile(jnp.arange(N), (T, 1))
    return Episode(x[:, :N], labels, x[:, N:], jnp.concatenate([labels] * 2, 1))


def linear_model():
    """Features tanh(x W) of the dimensions that the mask [1,D] keeps."""

    def init(key):
        return {"w": jax.random.normal(key, (PIXELS, D))}

    def apply(params, x, mask, reference=None):
        return jnp.tanh(x.reshape(len(x), -1) @ params["w"]) * mask[0]

    return Model(init, apply, "layer", D)


ALL, FEW = jnp.ones((1, D)), (jnp.arange(D) < 2).astype(jnp.float32)[None]


def learner_of(name, teacher):
    # The outer step of sgd(1.0) subtracts the gradient itself, so that it can be read off.
    return make_learner(name, linear_model(), optax.sgd(1.0), ways=N, inner_steps=2, inner_lr=0.3, teacher=teacher)


def test_the_divergence_by_hand():
    teacher, student = jnp.log(jnp.asarray([[0.5, 0.5], [0.9, 0.1]])), jnp.log(jnp.asarray([[0.25, 0.75], [0.9, 0.1]]))
    by_hand = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert float(divergence(teacher, student)) == pytest.approx(by_hand / 2, rel=1e-5)
    assert float(divergence(teacher + 3.0, teacher)) == pytest.approx(0.0, abs=1e-6)


def test_the_step_is_that_of_the_loss_written_out():
    """Cross-entropy + weight * KL(fixed logits of the largest || student); the teacher's logits are constants."""
    plain, taught = learner_of("maml", None), learner_of("maml", Teacher(ALL, WEIGHT))
    state, tasks = plain.init(jax.random.key(1)), episodes()
    masks = jnp.stack([FEW] * T)

    def loss(params, constant):
        def one(mask, episode):
            given = episode.support_x, episode.support_y, episode.query_x
            soft = plain.solve(constant, ALL, *given)
            logits = plain.solve(params, mask, *given)
            return cross_entropy(logits, episode.query_y) + WEIGHT * divergence(soft, logits)

        return jax.vmap(one)(masks, tasks).mean()

    expected = jax.jit(jax.grad(loss))(state.params, state.params)
    new, metrics = jax.jit(taught.step)(state, masks, tasks)
    found = jax.tree.map(jnp.subtract, state.params, new.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4), found, expected)
    old, same = jax.jit(plain.step)(state, masks, tasks)
    assert float(metrics["loss"]) == pytest.approx(float(same["loss"]), rel=1e-5)  # without the distillation
    assert np.abs(old.params["body"]["w"] - new.params["body"]["w"]).max() > 1e-3


def test_the_teacher_has_nothing_to_learn_from_itself():
    plain, taught = learner_of("maml", None), learner_of("maml", Teacher(FEW, WEIGHT))
    state, masks = plain.init(jax.random.key(1)), jnp.stack([FEW] * T)
    first, second = (jax.jit(learner.step)(state, masks, episodes())[0].params for learner in (plain, taught))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), first, second)


def test_a_supernet_that_branches_is_taught_and_the_largest_is_not():
    """The divergence of the adapted smallest subnet moves its weights, that of the largest is zero; one program."""
    space = chain_space(ChainSpec((("conv3", "max3"), ("sep3",)), (2, 4), (1, 2), (2, 1)))
    teacher = Teacher(mask_of(space, largest(space)), WEIGHT)
    learner = make_learner("fomaml", make_supernet(space, (6, 6, 1)), optax.sgd(1.0), ways=N)
    params, task = jax.jit(learner.init)(jax.random.key(1)).params, jax.tree.map(lambda leaf: leaf[0], episodes(6))
    taught = distillation(learner.solve, teacher)

    @jax.jit
    @jax.value_and_grad
    def loss(params, mask):
        return taught(params, task, learner.solve(params, mask, task.support_x, task.support_y, task.query_x))

    for genotype, same in ((largest(space), True), (smallest(space), False)):
        value, gradient = loss(params, mask_of(space, genotype))
        norm = float(optax.global_norm(gradient))
        assert (float(value) < 1e-5 and norm < 1e-4) if same else (float(value) > 1e-3 and norm > 1e-3)
    assert loss._cache_size() == 1


@pytest.mark.parametrize("name", ["reptile", "leap"])
def test_learners_by_path_have_no_query_loss_to_add_to(name):
    with pytest.raises(ValueError, match=rf"train\.distill {WEIGHT} needs a query loss, which '{name}' has not"):
        learner_of(name, Teacher(ALL, WEIGHT))
