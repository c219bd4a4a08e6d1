"""The recipe's settings: each reaches the part that it names, and a run with all of them ends and resumes."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.data.episodes import sample_episodes
from atnas_jax.devices import AXIS, on_mesh
from atnas_jax.evidence.rows import plan
from atnas_jax.job import learners
from atnas_jax.job.build import build
from atnas_jax.job.config import check_config
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.outer import outer_optimiser
from atnas_jax.job.progress import make_progress
from atnas_jax.job.spaces import hand_made
from atnas_jax.meta.average import AveragedState
from atnas_jax.meta.reptile import PathLength
from atnas_jax.meta.stages import Early
from atnas_jax.run import search
from atnas_jax.run.units import run_units
from atnas_jax.space.slots import mask_of

SMALL = {"space.chain.ops": ("conv3",), "space.chain.depths": (1,), "space.chain.strides": (2,)}
ALL = {
    "learner.name": "maml",
    "learner.inner_steps": 2,
    "learner.eval_inner_steps": 3,
    "learner.step_rates": True,
    "learner.step_norms": True,
    "train.first_order_steps": 4,
    "train.every_step_loss": 4,
    "train.ema": 0.7,
    "train.finish": 0.25,
    "train.warp": 0.5,
    "train.clip_elements": 1.0,
    "train.weight_decay": 0.01,
    "net.normalisation": "tasknorm",
    "search.generations": 1,
    "meta_test.conv4": False,
} | SMALL
LATE = {"train.first_order_steps": 0, "train.every_step_loss": 0}
MTL = {"learner.name": "mtl", "learner.freeze_after": 4}
CELL = {
    "space.family": "cell",
    "space.cell.ops": ("conv3", "identity"),
    "space.cell.nodes": 1,
    "space.cell.layers": 2,
    "space.cell.reductions": (1,),
    "space.cell.channels": 4,
}


def first_update(config, gradient):
    """Return what the outer optimiser does first with a gradient of that size, at a rate of 0.01."""
    params = {"body": {"conv3": {"kernel": jnp.full((2,), 3.0)}, "norm": {"scale": jnp.full((2,), 3.0)}}}
    params |= {"scale_shift": {"conv3": {"kernel": jnp.ones(2)}}} if config.learner.name == "mtl" else {}
    outer = outer_optimiser(config)
    updates, state = outer.update(
        jax.tree.map(lambda p: gradient * jnp.ones_like(p), params), outer.init(params), params
    )
    return updates, state, optax.apply_updates(params, updates)


def test_what_the_outer_optimiser_is_told(tiny):
    plain, _, _ = first_update(tiny(), 1.0)
    decayed, _, _ = first_update(tiny({"train.weight_decay": 0.1}), 1.0)
    difference = jax.tree.map(jnp.subtract, decayed["body"], plain["body"])
    np.testing.assert_allclose(difference["conv3"]["kernel"], -0.01 * 0.1 * 3.0, rtol=1e-4)
    assert not difference["norm"]["scale"].any()
    reptile = {"learner.name": "reptile", "train.clip": 0.0}
    for limit, expected in ((0.0, -0.05), (2.0, -0.02), (10.0, -0.05)):  # elementwise, at a rate of 0.01
        found, _, _ = first_update(tiny(reptile | {"train.clip_elements": limit}), 5.0)
        np.testing.assert_allclose(found["body"]["conv3"]["kernel"], expected, rtol=1e-5)
    _, state, params = first_update(tiny({"train.ema": 0.9}), 1.0)
    assert isinstance(state, AveragedState)
    np.testing.assert_allclose(state.mean["body"]["conv3"]["kernel"], params["body"]["conv3"]["kernel"], rtol=1e-6)
    frozen, _, _ = first_update(tiny({"learner.name": "mtl", "learner.freeze_after": 3}), 1.0)
    assert frozen["body"]["conv3"]["kernel"].all() and not frozen["scale_shift"]["conv3"]["kernel"].any()


def test_what_the_learner_is_told(tiny, monkeypatch):
    told = {}
    monkeypatch.setattr(learners, "make_learner", lambda *args, **options: told.update(options, name=args[0]))
    build(tiny(ALL))
    assert (told["step_rates"], told["step_norms"], told["early"]) == (True, True, Early(4, 4))
    for remat, wanted in (("auto", None), ("always", True), ("never", False)):
        build(tiny({"train.remat": remat}))
        assert told["remat"] is wanted
    build(tiny({"learner.name": "leap", "learner.leap_norm": False}))
    assert (told["name"], told["length"], told["early"]) == ("leap", PathLength(True, False), Early(0, 0))
    settles = tiny({"learner.tolerance": 0.1})
    parts = build(settles)
    assert told["tolerance"] == 0.0  # of what trains
    evaluation_learner(settles, parts.space, (8, 8, 1), 3)
    assert told["tolerance"] == 0.1
    parts = build(tiny({"train.warp": 0.5}))
    assert (parts.train_spec.warp, parts.test_spec.warp, build(tiny()).train_spec.warp) == (0.5, 0.0, 0.0)
    plain, tasknorm = (build(tiny({"net.normalisation": name})) for name in ("group", "tasknorm"))
    genotype = jnp.asarray([1, 0, 0, 0, 0])  # two blocks, so two norms
    np.testing.assert_array_equal(tasknorm.cost(genotype) - plain.cost(genotype), [4, 0])


@pytest.mark.usefixtures("few_optimisations")
@pytest.mark.parametrize(("name", "norms"), [("maml", "tasknorm"), ("anil", "support")])
def test_an_evaluation_ends_when_it_has_settled(tiny, name, norms):
    """A tolerance above every loss leaves one step, one below every fall all of them; the norms are of the steps."""
    config = tiny({"learner.name": name, "net.normalisation": norms, "learner.step_norms": name == "maml",
                   "learner.inner_lr": 0.5, "learner.inner_steps": 3} | SMALL)  # fmt: skip
    parts = build(config)
    sizes, params = (parts.space, (8, 8, 1), 3), parts.learner.init(jax.random.key(0)).params
    episode = jax.tree.map(
        lambda x: x[0], sample_episodes(jax.random.key(1), parts.dataset.table, jnp.arange(3), parts.test_spec, 1)
    )
    task = (params, mask_of(parts.space, hand_made(parts.space)), *episode[:3])

    def solved(tolerance):
        config.learner.update({"tolerance": tolerance})
        return jax.jit(lambda steps: evaluation_learner(config, *sizes, inner_steps=steps).solve(*task))

    plain = solved(0.0)
    whole, first = plain(3), plain(1)
    assert np.abs(whole - first).max() > 1e-4
    np.testing.assert_allclose(solved(1e9)(3), first, atol=1e-6)
    np.testing.assert_allclose(solved(1e-9)(3), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"learner.tolerance": -0.1}, "learner.tolerance is -0.1; it must be 0 or more"),
        ({"search.racing_share": 0.2, "search.racing": "none"}, "search.racing_share 0.2 has no race"),
        ({"train.ema": 1.0}, "train.ema is 1.0; it must be from 0"),
        ({"train.warp": -1.0}, "train.warp is -1.0; it must be 0 or more"),
        ({"train.every_step_loss": 5}, "weighs two inner steps or more"),
        ({"train.first_order_steps": 5, "learner.inner_steps": 0, "learner.name": "maml"}, "leaves no step"),
        ({"learner.step_norms": True}, "'anil' keeps one body"),
        ({"learner.name": "meta_sgd", "learner.step_rates": True}, "a rate for every weight"),
        ({"learner.name": "reptile", "train.weight_decay": 0.1}, "plain SGD outside"),
        ({"learner.name": "leap", "train.first_order_steps": 1}, "differentiates through no inner step"),
        ({"learner.name": "leap", "net.normalisation": "tasknorm"}, "a query loss, which learner.name 'leap' has not"),
        ({"learner.name": "leap", "learner.inner_steps": 0}, "'leap' and head 'prototypes' learns nothing"),
        ({"learner.name": "mtl"}, "'mtl' needs from 1 to 7"),
        ({"learner.name": "mtl", "learner.freeze_after": 8}, "'mtl' needs from 1 to 7"),
        ({"learner.freeze_after": 3}, "learner.freeze_after is 3 with learner.name 'anil'"),
    ],
)
def test_what_contradicts_is_refused_in_one_line(tiny, changes, says):
    with pytest.raises(ValueError, match=says) as caught:
        check_config(tiny(changes))
    assert "\n" not in str(caught.value)


def test_a_run_with_everything_on_ends_and_resumes(tiny, tmp_path):
    """What is saved is the average; a run that was stopped ends the same to the bit."""
    config = tiny(ALL | {"log.keep": 9})
    parts, progress = build(config), make_progress({}, quiet=True)
    states = [run_units(config, parts, str(tmp_path), progress)[0]]
    for unit in (3, 4, 5):  # as if the process had been killed after the second unit
        shutil.rmtree(tmp_path / "checkpoints" / str(unit))
    states.append(run_units(config, parts, str(tmp_path), progress)[0])
    jax.tree.map(np.testing.assert_array_equal, *states)
    meta = states[0].meta
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(meta))
    network = search.meta_network(config, parts, states[0])
    jax.tree.map(np.testing.assert_array_equal, network.params, meta.opt_state.mean)
    assert network.params["head"]["log_temperature"] != meta.params["head"]["log_temperature"]
    assert plan(config, parts, states[0], "best", {}, {}).params is meta.opt_state.mean
    assert {leaf.shape for leaf in jax.tree.leaves(network.params["step_rates"])} == {(2,)}
    assert network.params["body"]["block0"]["norm"]["bias"].shape == (3, 8)


@pytest.mark.parametrize("changes", [MTL, {"learner.name": "leap"}, ALL | LATE], ids=["mtl", "leap", "all"])
def test_a_cell_takes_a_step(tiny, changes):
    """Traced only: every leaf comes back as it went in."""
    config = tiny(changes | CELL)
    check_config(config)
    parts = build(config)
    state = jax.eval_shape(parts.learner.init, jax.random.key(0))
    masks = jnp.zeros((config.train.tasks, parts.space.num_slots, parts.space.max_choices))

    def step(state, masks, table):
        spec, tasks = parts.train_spec, config.train.tasks
        episodes = sample_episodes(jax.random.key(0), table, table.meta_train, spec, tasks, axis=AXIS)
        return parts.learner.step(state, masks, episodes)[0]

    new = jax.eval_shape(on_mesh(step, parts.mesh), state, masks, parts.dataset.table)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), new) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )


def test_scale_and_shift_starts_as_the_net_itself(tiny):
    """On the whole supernet of cells: at scale 1 and shift 0 it predicts what ANIL does."""
    episodes = [np.random.default_rng(0).normal(size=(n, 10, 10, 1)).astype(np.float32) for n in (3, 4)]
    found = []
    for changes in ({}, MTL):
        config = tiny(changes | CELL)
        parts = build(config)
        learner, params = evaluation_learner(config, parts.space, parts.image_shape, 3), parts.learner.init
        task = (hand_made_mask(parts), episodes[0], jnp.arange(3), episodes[1])
        found.append(
            jax.jit(lambda *args, learner=learner: learner.solve(*args))(params(jax.random.key(0)).params, *task)
        )
    np.testing.assert_allclose(*found, rtol=1e-5)


def hand_made_mask(parts):
    return mask_of(parts.space, hand_made(parts.space))
