"""Samplers: exact counts where they promise them, binomial ranges elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.learners import make_learner
from atnas_jax.nets.supernet import make_supernet
from atnas_jax.search.random_search import random_search
from atnas_jax.search.samplers import mixed, policy, pool, progressive, sandwich, stage_at, strictly_fair, uniform
from atnas_jax.search.sampling import SAMPLERS, make_sampler
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.extremes import largest, opening_stages, smallest
from atnas_jax.space.slots import SearchSpace, choice_mask, mask_of
from atnas_jax.types import Episode

pytestmark = pytest.mark.usefixtures("few_optimisations")
CARDS = (3, 1, 2, 5, 3)
SPACE = SearchSpace("toy", (), tuple(f"s{i}" for i in range(5)), tuple(tuple(map(str, range(c))) for c in CARDS))


@pytest.mark.parametrize("n", [30, 7, 1])
def test_strictly_fair_counts_are_exact(n):
    rows = np.asarray(jax.jit(lambda key: strictly_fair(key, SPACE, n))(jax.random.key(n)))
    assert rows.shape == (n, len(CARDS)) and rows.dtype == np.int32
    for slot, card in enumerate(CARDS):
        for block in range(n // card):
            assert sorted(rows[block * card : (block + 1) * card, slot]) == list(range(card))
        assert len(set(rows[n // card * card :, slot])) == n % card


def test_strictly_fair_permutations_are_uniform_and_independent():
    rows = jax.jit(jax.vmap(lambda key: strictly_fair(key, SPACE, 6)))(jax.random.split(jax.random.key(0), 3000))
    first, last, again = (
        np.asarray(rows[:, rows_, slot]) for rows_, slot in ((slice(3), 0), (slice(3), 4), (slice(3, 6), 0))
    )
    codes = [a @ [9, 3, 1] for a in (first, last, again)]
    assert np.all(np.abs(np.unique(codes[0], return_counts=True)[1] - 500) < 5 * np.sqrt(500))
    for other in codes[1:]:
        counts = np.unique(codes[0] * 100 + other, return_counts=True)[1]
        assert len(counts) == 36 and np.all(np.abs(counts - 3000 / 36) < 5 * np.sqrt(3000 / 36))


def test_uniform_is_within_the_binomial_range():
    rows = np.asarray(uniform(jax.random.key(1), SPACE, 5000))
    for slot, card in enumerate(CARDS):
        counts = np.bincount(rows[:, slot], minlength=card)
        assert len(counts) == card and np.all(np.abs(counts - 5000 / card) <= 5 * np.sqrt(5000 / card))


POPULATION = jnp.asarray([[2, 0, 1, 4, i % 3] for i in range(6)], jnp.int32).at[:, 3].set(jnp.arange(6) % 5)
FITNESS = jnp.asarray([0.1, 0.9, 0.2, 0.8, 0.3, 0.7])


@jax.jit
def draw(share, fitness):
    return mixed(jax.random.key(2), SPACE, 3000, POPULATION, fitness, share)


def members(rows):
    return {int(i) for row in np.unique(rows, axis=0) for i in np.flatnonzero((np.asarray(POPULATION) == row).all(-1))}


def test_mixed_follows_a_traced_share():
    np.testing.assert_array_equal(
        draw(0.0, FITNESS), strictly_fair(jax.random.split(jax.random.key(2), 3)[0], SPACE, 3000)
    )
    rows = np.asarray(draw(1.0, FITNESS))
    assert members(rows) == {1, 3, 5}
    counts = np.unique(rows, axis=0, return_counts=True)[1]
    assert len(counts) == 3 and np.all(np.abs(counts - 1000) < 5 * np.sqrt(1000))
    half = np.asarray(draw(0.5, FITNESS))
    same = (half == np.asarray(draw(0.0, FITNESS))).all(-1).mean()
    assert 0.45 < same < 0.6
    assert draw._cache_size() == 1


def test_mixed_skips_failed_members_unless_none_was_told():
    assert members(draw(1.0, jnp.full(6, -jnp.inf).at[4].set(0.5))) == {4}
    assert members(draw(1.0, jnp.full(6, -jnp.inf))) == {0, 1, 2}


def test_mixed_takes_another_base():
    rows = mixed(jax.random.key(3), SPACE, 50, POPULATION, FITNESS, 0.0, base=uniform)
    np.testing.assert_array_equal(rows, uniform(jax.random.split(jax.random.key(3), 3)[0], SPACE, 50))


LADDER = chain_space(ChainSpec((("conv5", "conv3", "identity"),) * 2, (2, 4, 8), (1, 2), (1, 1)))
CHAIN = chain_space(ChainSpec((("conv1", "conv3", "sep3"),) * 2, (2,), (2,), (1, 1)))


def trained(rows):
    """Return bool [n,blocks,ops]: whose weights get a gradient that is not zero when row r trains alone."""
    supernet = make_supernet(CHAIN, (4, 4, 1), normalisation="layer")
    x = jax.random.normal(jax.random.key(1), (2, 4, 4, 1))
    weight = jax.random.normal(jax.random.key(2), (supernet.features,))

    def loss(params, genotype):
        return (supernet.apply(params, x, mask_of(CHAIN, genotype)) @ weight).sum()

    @jax.jit
    def gradients(params, rows):
        found = jax.lax.map(lambda row: jax.grad(loss)(params, row), rows)
        moved = [
            [jnp.stack([(leaf != 0).reshape(len(rows), -1).any(1) for leaf in found[f"block{b}"][op].values()]).all(0)
             for op in ops] for b, ops in enumerate(CHAIN.spec.ops)
        ]  # fmt: skip
        return jnp.moveaxis(jnp.asarray(moved), -1, 0)

    return np.asarray(gradients(jax.jit(supernet.init)(jax.random.key(0)), rows))


def test_after_200_strict_steps_every_op_was_trained_200_times_and_in_uniform_ones_counts_spread():
    """By count of gradients that are not zero, which is what strict fairness is about (FairNAS, 3)."""
    steps, ops = 200, 3
    samplers = (strictly_fair, uniform)
    rows = jnp.concatenate([sampler(jax.random.key(0), CHAIN, steps * ops) for sampler in samplers])
    fair, loose = np.split(trained(rows), 2)
    sub_steps = fair.reshape(steps, ops, 2, ops)
    assert (sub_steps.sum(1) == 1).all()  # each op in exactly one sub-step of every step
    assert (sub_steps.sum(3) == 1).all()  # and each sub-step trains one op of every slot
    assert (fair.sum(0) == steps).all()
    loose = loose.sum(0)
    assert loose.sum() == 2 * steps * ops and loose.std() > 3


def test_the_masks_of_a_strict_step_sum_to_one_and_their_order_changes_nothing():
    """Sub-steps are the tasks of one outer step, whose gradients are summed before the optimiser acts (FairNAS, 3)."""
    rows = strictly_fair(jax.random.key(3), CHAIN, 3)
    ops = np.asarray(mask_of(CHAIN, rows)).sum(0)[[1, 3]]
    np.testing.assert_array_equal(ops, np.ones((2, 3)))
    model = make_supernet(CHAIN, (4, 4, 2))  # of one channel, the norm undoes a 1x1 kernel
    learner = make_learner("fomaml", model, optax.sgd(1.0), ways=2)
    state = jax.jit(learner.init)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (6, 4, 4, 2))
    episode = Episode(x[:2], jnp.arange(2), x[2:], jnp.asarray([0, 1, 0, 1]))
    episodes = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), episode)
    step = jax.jit(learner.step)
    first, second = (
        step(state, mask_of(CHAIN, rows[order]), episodes)[0].params for order in np.asarray([[0, 1, 2], [2, 0, 1]])
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), first, second)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), first["body"], state.params["body"])
    assert all(jax.tree.leaves(moved))


def test_sandwich_has_both_extremes_in_every_step():
    rows = np.asarray(jax.jit(lambda key: sandwich(key, LADDER, 4000, 4))(jax.random.key(0))).reshape(1000, 4, -1)
    assert (rows[:, 3] == largest(LADDER)).all() and (rows[:, 2] == smallest(LADDER)).all()
    others = rows[:, :2].reshape(2000, -1)
    for slot, card in enumerate(LADDER.cards):
        counts = np.bincount(others[:, slot], minlength=card)
        assert np.all(np.abs(counts - 2000 / card) < 5 * np.sqrt(2000 / card))


def test_progressive_never_leaves_its_stage_and_ends_uniform():
    """6 stages (3 extents, 2 depths, 3 widths: 1 + 2 + 1 + 2) over 50 steps, in chunks of 20 steps of 3 rows."""
    stages = opening_stages(LADDER, ("op", "depth", "width"))
    assert len(stages) == 6
    at = make_sampler("progressive", LADDER, None, tasks=3, order=("op", "depth", "width"), opened=50)
    draw = jax.jit(lambda key, step: at(None, step)(key, LADDER, 60))
    seen = np.zeros_like(stages)
    for chunk in range(60):
        step = 20 * (chunk % 4)
        rows = np.asarray(draw(jax.random.key(chunk), jnp.int32(step)))
        for number, row in enumerate(rows):
            stage = min((step + number // 3) // 10, 5)
            assert stages[stage, np.arange(5), row].all()
            seen[stage, np.arange(5), row] = True
    np.testing.assert_array_equal(seen, stages)  # and everything of a stage comes up
    assert draw._cache_size() == 1
    everything = jnp.broadcast_to(choice_mask(LADDER), (5000, 5, 3))
    last = np.asarray(progressive(jax.random.key(1), LADDER, 5000, everything))
    for slot, card in enumerate(LADDER.cards):
        counts = np.bincount(last[:, slot], minlength=card)
        assert len(counts) == card and np.all(np.abs(counts - 5000 / card) <= 5 * np.sqrt(5000 / card))


def test_a_schedule_of_no_steps_allows_everything_at_once():
    assert np.asarray(stage_at(jnp.arange(3), 4, 0)).tolist() == [3, 3, 3]
    assert np.asarray(stage_at(jnp.arange(8), 3, 6)).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_pool_is_uniform_over_the_living():
    rows = np.asarray(pool(jax.random.key(0), POPULATION, FITNESS.at[2].set(-jnp.inf), 3000))
    assert members(rows) == {0, 1, 3, 4, 5}
    assert np.all(np.abs(np.unique(rows, axis=0, return_counts=True)[1] - 600) < 5 * np.sqrt(600))
    assert members(pool(jax.random.key(0), POPULATION, jnp.full(6, -jnp.inf), 3000)) == set(range(6))


def test_policy_is_what_the_strategy_asks():
    """Asked as often as it takes, each time with another key and the same state."""

    def ask(key, state):
        return jnp.concatenate([state, jax.random.randint(key, (4, 5), 0, 100)])

    state = jnp.asarray([[1] * 5, [3] * 5])
    rows = jax.jit(lambda key: policy(key, ask, state, 15))(jax.random.key(5))
    expected = jnp.concatenate([ask(key, state) for key in jax.random.split(jax.random.key(5), 3)])
    np.testing.assert_array_equal(rows, expected[:15])
    assert len(np.unique(rows, axis=0)) == 15 - 4  # the two rows of the state come up three times


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_by_name(name):
    strategy = random_search(LADDER, population=4)
    state = strategy.init(jax.random.key(0))
    at = make_sampler(name, LADDER, strategy, tasks=2, order=("depth",), opened=4)
    rows = jax.jit(lambda key, step: at(state, step)(key, LADDER, 6))(jax.random.key(1), jnp.int32(0))
    assert rows.shape == (6, 5) and rows.dtype == jnp.int32
    assert (np.asarray(rows) >= 0).all() and (np.asarray(rows) < np.asarray(LADDER.cards)).all()


def test_what_cannot_sample_is_refused():
    with pytest.raises(ValueError, match=r"search\.sampler='x' is unknown; choose one of fair"):
        make_sampler("x", LADDER, None, tasks=2, order=(), opened=0)
    with pytest.raises(ValueError, match=r"needs train\.tasks 2 or more"):
        make_sampler("sandwich", LADDER, None, tasks=1, order=(), opened=0)
