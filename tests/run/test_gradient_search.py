"""A search across tasks by the gradient of the mask: what it spends, what trains, what it leaves, how it resumes."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.data.episodes import sample_episodes
from atnas_jax.evaluate import mask_gradient, score
from atnas_jax.job.budget import GRADIENT_COST, architecture_steps, evaluations_of, rungs_of
from atnas_jax.job.build import build
from atnas_jax.job.config import check_config
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.progress import Progress
from atnas_jax.job.spaces import hand_made
from atnas_jax.job.state import init_state
from atnas_jax.run import search
from atnas_jax.run.steps import make_programs
from atnas_jax.space.cost import cost_model
from atnas_jax.space.slots import choice_mask, mask_of, uniform_mask
from atnas_jax.space.text import parse

BASE = {
    "search.strategy": "softmax",
    "net.execution": "folded",
    "search.racing": "none",
    "search.episodes": 8,
    "meta_test.rows": ("best",),
    "meta_test.other_normalisation": False,
    "meta_test.conv4": False,
}


def parts_of(config):
    parts = build(config)
    scorer = evaluation_learner(config, parts.space, parts.image_shape, config.protocol.ways)
    return parts, make_programs(config, parts, scorer, {"compile_s": 0.0}), init_state(config, parts)


def test_the_budget_is_that_of_a_race(tiny):
    config = tiny(BASE | {"search.population": 16, "search.episodes": 32, "train.tasks": 4})
    assert evaluations_of(rungs_of(config, 32)) == 16 * 32
    assert architecture_steps(config) == 16 * 32 // (GRADIENT_COST * 4) == 42
    config.search.racing = "halving"  # fields of 16, 8, 4 and 2 up to episodes 4, 8, 16 and 32
    assert evaluations_of(rungs_of(config, 32)) == 16 * 4 + 8 * 4 + 4 * 8 + 2 * 16
    assert architecture_steps(config) == 160 // 12
    config.search.update({"population": 2, "episodes": 1})
    assert architecture_steps(config) == 1


@pytest.mark.parametrize("family", ["chain", "cell"])
def test_the_gradient_reaches_every_choice_and_is_that_of_the_loss(tiny, family):
    """At a mixture every choice of every slot (op, width, depth; inputs) has a slope, and it is the right one."""
    cells = {"ops": ("conv3", "max3"), "nodes": 2, "layers": 2, "reductions": (1,), "channels": 4}
    learner = {"chain": "maml", "cell": "anil"}[family]
    config = tiny(
        BASE
        | {f"space.cell.{name}": value for name, value in cells.items()}
        | {"space.family": family, "learner.name": learner, "net.normalisation": "instance"}
    )
    parts = build(config)
    scorer = evaluation_learner(config, parts.space, parts.image_shape, 3)
    params = jax.jit(parts.learner.init)(jax.random.key(0)).params
    table = parts.dataset.table
    drawn = sample_episodes(jax.random.key(1), table, table.meta_valid, parts.test_spec, 2, parts.normalise)
    rng, real = np.random.default_rng(0), choice_mask(parts.space)
    mask = np.asarray(uniform_mask(parts.space), np.float64)
    loss, right, slope = jax.jit(lambda m: mask_gradient(scorer, params, m, drawn))(jnp.float32(mask))
    free = real & (np.asarray(parts.space.cards) > 1)[:, None]
    along = np.asarray(slope) - (np.asarray(slope) * mask).sum(1, keepdims=True)  # on the simplex, all that counts
    assert (np.abs(along[free]) > 1e-6).all()
    assert 0 <= float(right) <= 1

    with jax.enable_x64(True):
        double = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, (params, drawn))
        double = jax.tree.map(jnp.asarray, jax.device_get(double))

        @jax.jit
        def whole(mask):
            return jax.lax.map(lambda episode: score(scorer, double[0], mask, episode)[1], double[1]).mean()

        direction = rng.normal(size=mask.shape) * real
        ends = [float(whole(mask + sign * 1e-5 * direction)) for sign in (1, -1)]
        np.testing.assert_allclose(float(loss), float(whole(mask)), rtol=1e-4)
    wanted = (ends[0] - ends[1]) / 2e-5
    assert float((np.asarray(slope) * direction).sum()) == pytest.approx(wanted, rel=5e-3)


def test_hard_masks_give_slopes_to_what_they_switch_off(tiny):
    """A one-hot mask of the chain's hand-made net: wider, deeper and other ops have a slope, which gates learn from."""
    config = tiny(BASE)
    parts = build(config)
    scorer = evaluation_learner(config, parts.space, parts.image_shape, 3)
    params = jax.jit(parts.learner.init)(jax.random.key(0)).params
    table = parts.dataset.table
    drawn = sample_episodes(jax.random.key(1), table, table.meta_valid, parts.test_spec, 2, parts.normalise)
    narrow = jnp.asarray([1, 0, 0, 0, 0], jnp.int32)  # depth 2, conv3 of the smaller width twice
    slope = jax.jit(lambda m: mask_gradient(scorer, params, m, drawn)[2])(mask_of(parts.space, narrow))
    assert np.isfinite(slope).all()
    assert abs(float(slope[0, 1])) > 1e-7  # of depth 2 against depth 1, which the net takes for what is left
    for slot, choice in ((1, 1), (2, 1), (3, 1), (3, 2), (4, 1)):
        assert abs(float(slope[slot, choice])) > 1e-7, parts.space.names[slot]


def test_batches_do_not_change_the_gradient(tiny):
    config = tiny(BASE)
    parts = build(config)
    scorer = evaluation_learner(config, parts.space, parts.image_shape, 3)
    params = jax.jit(parts.learner.init)(jax.random.key(0)).params
    table = parts.dataset.table
    drawn = sample_episodes(jax.random.key(1), table, table.meta_valid, parts.test_spec, 4, parts.normalise)
    mask = uniform_mask(parts.space)
    one, two = (jax.jit(lambda m, b=b: mask_gradient(scorer, params, m, drawn, b))(mask) for b in (1, 2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, two)


def test_masks_are_one_hot_in_the_warm_up_and_relaxed_after_it(tiny):
    config = tiny(BASE | {"search.anchor": "always", "train.tasks": 4})
    parts, programs, state = parts_of(config)
    warm, later = (
        np.asarray(programs.draw(state.search, jnp.int32(0), jnp.float32(share), jnp.asarray(True)))
        for share in (0.0, 1.0)
    )
    assert warm.shape == (2, 4, parts.space.num_slots, parts.space.max_choices)
    assert set(np.unique(warm)) == {0, 1}
    anchor = np.asarray(mask_of(parts.space, hand_made(parts.space)))
    assert (warm[:, 0] == anchor).all() and (later[:, 0] == anchor).all()
    policy = parts.strategy.relax(jax.random.key(0), state.search)
    np.testing.assert_allclose(later[:, 1:], np.broadcast_to(policy, later[:, 1:].shape), atol=1e-6)


def test_a_generation_reads_meta_valid_alone_and_moves_the_logits(tiny):
    config = tiny(BASE | {"search.strategy": "gumbel"})
    parts, programs, state = parts_of(config)
    table = parts.dataset.table

    def blanked(*splits):
        owner = np.repeat(np.arange(20), np.diff(np.asarray(table.offsets)))
        gone = np.isin(owner, np.concatenate([np.asarray(getattr(table, split)) for split in splits]))
        return table._replace(images=jnp.where(gone[:, None, None, None], 0, table.images))

    def descended(table, number=0):
        return programs.descend(state.search, state.meta.params, jnp.int32(number), table)[0]

    first = descended(table)
    assert int(first.step) == architecture_steps(config) == 4 * 8 // (3 * 2)
    same = descended(blanked("meta_train", "meta_test"))
    np.testing.assert_array_equal(first.logits, same.logits)
    real = choice_mask(parts.space)
    for other in (descended(blanked("meta_valid")), descended(table, 1), state.search):
        assert np.abs(np.asarray(first.logits)[real] - np.asarray(other.logits)[real]).max() > 1e-4
    np.testing.assert_array_equal(first.population[0], parts.strategy.best(first))
    assert float(first.fitness[0, 0]) == float(first.fitness.max())  # log-probability, the likeliest first


def _outcome(workdir):
    with open(os.path.join(workdir, "results.json"), encoding="utf-8") as file:
        results = {name: value for name, value in json.load(file).items() if name != "ledger"}
    with np.load(os.path.join(workdir, "meta_network.npz")) as file:
        return results, {name: file[name].tobytes() for name in file.files}


def test_a_stopped_search_ends_as_if_nothing_had_happened(tiny, tmp_path, monkeypatch):
    one_block = {"space.chain.ops": (("conv3", "conv1"),), "space.chain.depths": (1,), "space.chain.strides": (2,)}
    # A block of 8 channels has 627 or more with its head, one of 4 has 347 or fewer.
    config = tiny(BASE | one_block | {"search.strategy": "gumbel_hard", "search.max_params": 400})
    search.across_task_search(config, str(tmp_path / "whole"), quiet=True)
    left = [3]  # the third chunk of four, between the two generations

    def update(*_, **__):
        left[0] -= 1
        if left[0] == 0:
            raise InterruptedError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(search, "make_progress", lambda *_: Progress(update, lambda _: None, lambda: None))
        with pytest.raises(InterruptedError):
            search.across_task_search(config, str(tmp_path / "stopped"), quiet=True)
    assert not (tmp_path / "stopped" / "results.json").exists()
    results = search.across_task_search(config, str(tmp_path / "stopped"), quiet=True)
    assert _outcome(tmp_path / "whole") == _outcome(tmp_path / "stopped")
    assert len(results["history"]) == 2 and results["params"] <= 400
    space = build(config).space
    cost = cost_model(space, (10, 10, 1), config.net.readout, 3)
    for row in results["history"]:
        assert int(cost(jnp.asarray(parse(space, row["best_genotype"])))[0]) <= 400


@pytest.mark.parametrize("name", ["softmax", "binary_gates"])
def test_a_cost_in_the_loss_draws_a_strategy_to_cheaper_networks(tiny, name):
    """Accuracy has next to no say at weight 1000: the expected multiply-adds fall in a generation."""
    heavy = {"search.scalarise": "add_linear", "search.target": 1000.0, "search.scalarise_weight": 1000.0}
    rate = {"search.options.learning_rate": 0.1, "search.anchor": "never", "search.episodes": 40}
    config = tiny(BASE | heavy | rate | {"search.strategy": name})
    check_config(config)
    parts, programs, state = parts_of(config)
    search_state, right = programs.descend(state.search, state.meta.params, jnp.int32(0), parts.dataset.table)
    cost = cost_model(parts.space, parts.image_shape, config.net.readout, 3)
    likeliest, cheapest = (
        int(cost(row)[1]) for row in (parts.strategy.best(search_state), jnp.asarray([0, 1, 0, 2, 0]))
    )
    assert likeliest == cheapest
    assert 0 <= float(right) <= 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"net.execution": "switch"}, "take net.execution 'folded'"),
        ({"search.scalarise": "mnas_soft", "search.target": 5.0}, "multiplies a fitness"),
        ({"search.scalarise": "add_linear"}, "search.target is 0.0; 'add_linear' needs more than 0"),
        ({"search.scalarise": "mul_log", "search.target": 1.0}, "'mul_log' needs more than 1"),
        ({"search.strategy": "genetic", "search.scalarise": "mul_log", "search.target": 5.0}, "take one of softmax"),
        ({"search.max_latency_ms": 1.0}, "search.max_latency_ms needs search.latency"),
        (
            {"search.scalarise": "add_linear", "search.target": 1.0, "search.scalarise_cost": "latency"},
            "scalarise_cost 'latency' needs search.latency",
        ),
    ],
)
def test_contradictions_are_one_line(tiny, changes, says):
    with pytest.raises(ValueError, match=says) as caught:
        check_config(tiny(BASE | changes))
    assert "\n" not in str(caught.value)
