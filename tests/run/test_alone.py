"""A genotype trained alone inside the supernet's program takes the steps of its plain network."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.data.episodes import fixed_episodes
from atnas_jax.devices import AXIS
from atnas_jax.evaluate import evaluate
from atnas_jax.job.build import build
from atnas_jax.job.compiled import compiled
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.outer import outer_optimiser
from atnas_jax.job.plain import as_plain
from atnas_jax.meta.average import evaluated
from atnas_jax.meta.heads import make_head
from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.subnet import make_subnet
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.rng import stream
from atnas_jax.run.steps import make_train
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.slots import mask_of
from atnas_jax.study.alone import FIRST, NAME, alone_config, make_alone, make_scores

STEPS, SEED = 2, 5
NARROW = np.asarray([1, 1, 0, 0, 0], np.int32)  # depth 2, sep3 and conv3, 4 of 8 channels


def _plain(config, parts, start):
    """Return the parameters of the plain network after the same steps, from the same start, and how it is cut."""
    subnet, learner = make_subnet(parts.space, NARROW, parts.image_shape), config.learner
    plain = make_learner(
        learner.name,
        subnet.model,
        outer_optimiser(config),
        ways=config.train.ways,
        head=learner.head,
        inner_steps=learner.inner_steps,
        inner_lr=learner.inner_lr,
        axis=AXIS,
    )
    params = start | {"body": subnet.cut(start["body"])}
    meta = plain.init(jax.random.key(0))._replace(params=params)
    step = make_train(config, parts, plain)
    seed = stream(stream(0, NAME), "episodes", SEED)
    train = compiled(lambda *args: step(*args, seed), {"compile_s": 0.0}, mesh=parts.mesh)
    masks = jnp.zeros((STEPS, config.train.tasks, 1, 1))  # which the plain network does not read
    meta, _ = train(meta, masks, parts.dataset.table)
    return evaluated(meta), subnet


@pytest.mark.parametrize(
    "changes",
    [{"train.weight_decay": 0.5}, {"learner.name": "maml", "train.clip": 0.05, "train.ema": 0.9, "train.distill": 1.0}],
    ids=["anil", "maml"],
)
def test_masked_training_is_that_of_the_plain_network(tiny, changes):
    config = tiny(changes)
    parts = build(config)
    alone = make_alone(config, parts, STEPS, {"compile_s": 0.0})
    start = jax.tree.map(np.asarray, alone.start(NARROW, SEED).params)
    meta, curve = alone.train(alone.start(NARROW, SEED), NARROW, SEED)
    found, (expected, subnet) = evaluated(meta), _plain(alone_config(config, STEPS), parts, start)
    assert int(meta.step) == STEPS and len(curve) == 1 and np.isfinite(curve[0])
    own, begun = subnet.cut(found["body"]), subnet.cut(start["body"])
    for leaf, like, first in zip(*map(jax.tree.leaves, (own, expected["body"], begun)), strict=True):
        np.testing.assert_allclose(leaf, like, rtol=1e-3, atol=2e-4)  # Adam's first steps are of size 1e-2
        assert np.abs(leaf - first).max() > 5e-3
    own, like = (params["head"]["log_temperature"] for params in (found, expected))
    np.testing.assert_allclose(own, like, atol=2e-4)
    if not config.train.weight_decay:  # what the mask hides does not move
        hidden, like = (params["body"]["block0"]["conv3"]["kernel"] for params in (found, start))
        np.testing.assert_array_equal(hidden, like)


def test_seeds_differ_in_weights_and_episodes_and_genotypes_of_a_seed_share_them(tiny):
    config = tiny()
    parts = build(config)
    alone = make_alone(config, parts, STEPS, {"compile_s": 0.0})
    wide = NARROW + np.asarray([0, 0, 1, 0, 1], np.int32)

    def kernel(genotype, seed):
        return np.asarray(alone.start(genotype, seed).params["body"]["block0"]["sep3"]["depthwise"])

    np.testing.assert_array_equal(kernel(NARROW, 0), kernel(wide, 0))
    assert np.abs(kernel(NARROW, 0) - kernel(NARROW, 1)).max() > 0.1
    same = [alone.train(alone.start(NARROW, 0), NARROW, seed)[1] for seed in (0, 0, 1)]
    assert same[0] == same[1] != same[2]


def test_a_start_is_distributed_as_that_of_the_plain_network():
    """Kernels by He's rule at their own fan-in, the head by its own features."""
    space = chain_space(ChainSpec((("conv3", "sep3"),) * 3, (8, 32), (2, 3), (2, 2, 1)))
    genotype = np.asarray([1, 0, 0, 0, 0, 1, 0], np.int32)  # conv3-8, conv3-8, sep3-8
    supernet, subnet = make_supernet(space, (12, 12, 1)), make_subnet(space, genotype, (12, 12, 1))
    params = {"body": supernet.init(jax.random.key(0))}
    for head in ("prototypes", "vector"):
        params["head"] = make_head(head, 5).init(jax.random.key(1), supernet.features)
        found = as_plain(space, genotype, params, (12, 12, 1))
        own, scratch = subnet.cut(found["body"]), subnet.model.init(jax.random.key(2))
        for block, op, leaf in (
            ("block0", "conv3", "kernel"),
            ("block1", "conv3", "kernel"),
            ("block2", "sep3", "pointwise"),
        ):
            ours, like = own[block][op][leaf], scratch[block][op][leaf]
            assert float(ours.std()) == pytest.approx(float(like.std()), rel=0.3)
        exact = np.sqrt(2 / (9 * 8))
        assert float(own["block1"]["conv3"]["kernel"].std()) == pytest.approx(exact, rel=0.1)
        like = make_head(head, 5).init(jax.random.key(1), subnet.model.features)
        if head == "prototypes":
            assert float(found["head"]["log_temperature"]) == pytest.approx(float(like["log_temperature"]))
        else:
            assert float(found["head"]["v"].std()) == pytest.approx(subnet.model.features**-0.5, rel=0.1)
    pooled = chain_space(replace(space.spec, last_pool=True))
    params["head"] = make_head("prototypes", 5).init(jax.random.key(1), supernet.features)
    for own in (np.append(genotype, end) for end in range(2)):
        features = make_subnet(pooled, own, (12, 12, 1)).model.features
        found = as_plain(pooled, own, params, (12, 12, 1))
        assert float(found["head"]["log_temperature"]) == pytest.approx(-0.5 * np.log(features))
    params["head"] = make_head("vector", 5).init(jax.random.key(1), supernet.features)
    widest = as_plain(space, np.asarray([1, 0, 1, 0, 1, 0, 1]), params, (12, 12, 1))
    assert jax.tree.all(jax.tree.map(np.array_equal, widest, params))


def test_scores_are_those_of_fixed_meta_valid_episodes(tiny):
    """Equal to the evaluator's on the same episodes; other splits have no say, and a chunk of them changes nothing."""
    config = tiny()
    parts = build(config)
    params = jax.jit(parts.control.learner.init)(jax.random.key(0)).params
    accuracy, loss = make_scores(config, parts, 6, {"compile_s": 0.0})(params, NARROW)
    episodes = fixed_episodes(
        parts.dataset.fingerprint, "meta_valid", 0, FIRST + jnp.arange(6), parts.dataset.table, parts.test_spec,
        parts.normalise,
    )  # fmt: skip
    learner = evaluation_learner(config, parts.space, parts.image_shape, config.protocol.ways)
    expected = evaluate(learner, params, mask_of(parts.space, NARROW)[None], episodes)
    np.testing.assert_allclose(accuracy, expected.accuracy[0], atol=1e-6)
    np.testing.assert_allclose(loss, expected.loss[0], rtol=1e-4)
    assert accuracy.std() > 0
