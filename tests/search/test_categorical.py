"""The categorical family: each rule against its equations, and what each is known to reach."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.asng import asng_rule, at_least, utilities
from atnas_jax.search.categorical import draw, log_probability, mode
from atnas_jax.search.expectation import expectation
from atnas_jax.search.mdenas import MdenasMemory, mdenas, mdenas_rule, moves
from atnas_jax.search.reinforce import reinforce_rule
from atnas_jax.search.tables import make_table, planted, table_space
from atnas_jax.search.tabular import search_table

pytestmark = pytest.mark.usefixtures("few_optimisations")

SPACE = table_space((3, 1, 2))
ROWS = jnp.asarray([[0, 0, 1], [2, 0, 0], [1, 0, 1], [0, 0, 0]], jnp.int32)
FITNESS = jnp.asarray([0.3, 0.9, 0.1, 0.6])


def test_expectation_is_the_mean_and_its_gradient_the_score_function():
    x = 1 + 0.5 * jax.random.normal(jax.random.key(0), (200,))
    values = jnp.sin(3 * x)

    def mean(mu):
        return expectation(values, -0.5 * ((x - mu) / 0.5) ** 2)

    value, slope = jax.value_and_grad(mean)(1.0)
    assert value == jnp.mean(values)
    np.testing.assert_allclose(slope, jnp.mean(values * (x - 1.0) / 0.25), atol=1e-6)
    rows = expectation(jnp.stack([values, x], 1), jnp.zeros(200))
    np.testing.assert_array_equal(rows, jnp.stack([values, x], 1).mean(0))


def test_expectation_climbs_to_the_optimum_of_a_parabola():
    """Population 500, deviation 0.5, rate 0.03, whitened fitness -(x-5)^2 from 1, as in EvoGrad's first example."""

    def step(mu, key):
        x = mu + 0.5 * jax.random.normal(key, (500,))
        fitness = -((x - 5) ** 2)
        fitness = (fitness - fitness.mean()) / fitness.std()
        return mu + 0.03 * jax.grad(lambda m: expectation(fitness, -0.5 * ((x - m) / 0.5) ** 2))(mu), None

    end = jax.lax.scan(step, 1.0, jax.random.split(jax.random.key(0), 400))[0]
    assert abs(end - 5) < 0.1


def test_reinforce_follows_the_score_function_and_ignores_the_scale_of_fitness():
    rule = reinforce_rule(SPACE, 0.1, 0.9, 0.0)
    memory = rule.update(rule.init(), ROWS, FITNESS)
    # Adam's first step is its rate in the sign of the gradient: sum_i a_i (onehot - 1/m), a_i = (f_i - mean) / s.
    advantage = np.asarray(FITNESS - FITNESS.mean())
    slope = np.zeros((3, 3))
    for row, a in zip(np.asarray(ROWS), advantage):
        for e, card in enumerate((3, 1, 2)):
            slope[e, :card] += a * ((np.arange(card) == row[e]) - 1 / card)
    np.testing.assert_allclose(memory.logits, 0.1 * np.sign(np.round(slope, 6)), atol=1e-4)
    np.testing.assert_allclose(memory.baseline, FITNESS.mean(), rtol=1e-6)
    scaled = rule.update(rule.init(), ROWS, 100 * FITNESS - 40)
    np.testing.assert_allclose(scaled.logits, memory.logits, atol=1e-5)
    assert rule.policy(memory)[1, 0] == 0 and rule.policy(memory)[1, 1] == -np.inf


def test_reinforces_gradient_is_that_of_the_expectation_over_a_categorical():
    """EvoGrad's expectation of whitened fitness; by hand, mean_i a_i (onehot_i - p). Adam's first moment holds it."""
    rule = reinforce_rule(SPACE, 0.1, 0.9, 0.0)
    real = jnp.arange(3) < jnp.asarray([3, 1, 2])[:, None]
    logits = jnp.where(real, jax.random.normal(jax.random.key(1), (3, 3)), 0.0)
    found = -rule.update(rule.init()._replace(logits=logits), ROWS, FITNESS).optimiser[0].mu / 0.1
    advantages = (FITNESS - FITNESS.mean()) / FITNESS.std()

    def value(logits):
        policy = jax.nn.log_softmax(jnp.where(real, logits, -jnp.inf))
        return expectation(advantages, log_probability(policy, ROWS))

    by_hand = np.zeros((3, 3))
    share = np.where(real, np.exp(logits), 0) / np.where(real, np.exp(logits), 0).sum(1, keepdims=True)
    for row, a in zip(np.asarray(ROWS), np.asarray(advantages)):
        by_hand += a * (np.eye(3)[row] - share) / len(ROWS)
    np.testing.assert_allclose(found, jax.grad(value)(logits), atol=1e-6)
    np.testing.assert_allclose(found, by_hand, atol=1e-5)
    assert np.abs(by_hand).max() > 0.1


def test_the_baseline_is_a_moving_mean_and_failures_have_no_say():
    rule = reinforce_rule(SPACE, 0.1, 0.75, 0.0)
    memory = rule.update(rule.init(), ROWS, FITNESS.at[1].set(-jnp.inf))
    np.testing.assert_allclose(memory.baseline, 1 / 3, rtol=1e-6)
    with_one_more = rule.update(rule.init(), ROWS[jnp.asarray([0, 2, 3])], FITNESS[jnp.asarray([0, 2, 3])])
    np.testing.assert_allclose(np.sign(memory.logits), np.sign(with_one_more.logits))
    again = rule.update(memory, ROWS, FITNESS)
    weight = 0.25 / (0.25 + 0.75 * 0.25)  # the second of two means, weighed 0.75 to 1
    np.testing.assert_allclose(again.baseline, 1 / 3 + weight * (FITNESS.mean() - 1 / 3), rtol=1e-6)
    same = rule.update(memory, ROWS, jnp.full(4, -jnp.inf))
    jax.tree.map(np.testing.assert_array_equal, same, memory)


def test_entropy_keeps_the_policy_from_settling():
    def spread(entropy):
        rule = reinforce_rule(SPACE, 0.1, 0.9, entropy)

        def step(memory, key):
            rows = draw(key, rule.policy(memory), 8)
            return rule.update(memory, rows, (rows[:, 0] == 2).astype(jnp.float32)), None

        memory = jax.lax.scan(step, rule.init(), jax.random.split(jax.random.key(0), 60))[0]
        return float(jnp.exp(rule.policy(memory)[0]).max())

    assert spread(0.0) > 0.9 > 0.6 > spread(5.0)


def test_log_probability_is_of_the_slots_together():
    policy = jnp.log(jnp.asarray([[0.5, 0.2, 0.3], [1, 0, 0], [0.25, 0.75, 0]]))
    np.testing.assert_allclose(jnp.exp(log_probability(policy, ROWS)), [0.375, 0.075, 0.15, 0.125], rtol=1e-6)
    rows = np.asarray(draw(jax.random.key(0), policy, 4000))
    assert abs((rows[:, 0] == 0).mean() - 0.5) < 0.05 and abs((rows[:, 2] == 1).mean() - 0.75) < 0.05


def test_mdenas_moves_one_step_a_comparison_and_keeps_the_mass():
    quarter = jnp.full((1, 4), 0.25)
    # Of 6 pairs: 0 beats 1 (as often, better); 2 beats 0 and 1 (less often, better); 3 has no record and never wins;
    # nobody who was told beats it, as it was told less often.
    epochs, accuracy = jnp.asarray([[2.0, 2, 1, 0]]), jnp.asarray([[0.7, 0.6, 0.8, -jnp.inf]])
    np.testing.assert_allclose(moves(quarter, epochs, accuracy, 0.01), [[0.0, -0.02, 0.02, 0.0]], atol=1e-7)
    # Choice 1 has 0.01 left for two winners: they share it.
    short = jnp.asarray([[0.4, 0.01, 0.4, 0.19]])
    np.testing.assert_allclose(moves(short, epochs, accuracy, 0.01), [[-0.005, -0.01, 0.015, 0.0]], atol=1e-7)


def test_mdenas_takes_the_latest_fitness_or_the_mean():
    rows, fitness = jnp.asarray([[0, 0, 1], [0, 0, 0], [1, 0, 1]]), jnp.asarray([0.9, 0.5, -jnp.inf])
    for mean, expected in ((False, 0.5), (True, 0.7)):
        rule = mdenas_rule(SPACE, 0.01, mean)
        memory = jax.jit(rule.update)(rule.init(), rows, fitness)
        assert isinstance(memory, MdenasMemory)
        np.testing.assert_allclose(memory.accuracy[0], [expected, -np.inf, -np.inf], rtol=1e-6)
        np.testing.assert_array_equal(memory.epochs[0], [2, 0, 0])
        # After the second row, choice 1 of the last slot (told once, 0.9) beats choice 0 (told once, 0.5).
        np.testing.assert_allclose(memory.probabilities[2], [0.49, 0.51, 0], rtol=1e-5)


@functools.cache
def mdenas_right(cards, mean, evaluations, noise=0.0):
    """Share of slots whose likeliest choice is the best, per seed, on a separable table."""
    table = planted(jax.random.key(5), cards, noise=noise)
    strategy, rule = mdenas(table.space, population=5, mean=mean, tries=1), mdenas_rule(table.space, 0.01, mean)
    optimum = jnp.asarray(np.unravel_index(int(jnp.argmax(table.told)), cards))

    def run(key):
        state = search_table(strategy, table, evaluations)(key).state
        return (mode(rule, state) == optimum).mean(), jnp.exp(rule.policy(state.memory)).sum(-1)

    right, mass = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 16))
    np.testing.assert_allclose(mass, 1, atol=1e-4)
    return np.asarray(right)


def test_mdenas_finds_the_best_choice_of_one_slot_in_every_seed():
    assert mdenas_right((5,), False, 1600).min() == 1


def test_mdenas_needs_the_mean_where_there_are_several_slots():
    """The warning in the docstring of `mdenas_rule`, and the repair."""
    published, repaired = mdenas_right((5,) * 6, False, 2000, 0.3), mdenas_right((5,) * 6, True, 2000, 0.3)
    assert repaired.mean() >= 0.7
    assert published.mean() <= 0.5


def test_asng_takes_one_step_of_fishers_length():
    rule = asng_rule(table_space((2, 3)), 0.1, 1.5)
    memory = rule.init()
    rows = jnp.asarray([[0, 2], [1, 0], [0, 1], [1, 1]])
    told = rule.update(memory, rows, jnp.asarray([4.0, 1.0, 2.0, 3.0]))  # the best is row 0, the worst is row 1
    slope = np.asarray([[1, -1, 0], [-1, 0, 1]]) / 4
    size = np.sqrt((slope[0, :2] ** 2 / 0.5).sum() + (slope[1] ** 2 * 3).sum())
    expected = np.asarray([[0.5, 0.5, 0], [1 / 3] * 3]) + 0.1 * slope / size
    np.testing.assert_allclose(told.probabilities, expected, atol=1e-6)
    beat = 0.1 / np.sqrt(3)
    np.testing.assert_allclose((told.path**2).sum(), beat * (2 - beat), rtol=1e-5)
    np.testing.assert_allclose(told.expected, beat * (2 - beat), rtol=1e-5)
    np.testing.assert_allclose(told.trust, np.exp(beat * beat * (2 - beat) * (1 - 1 / 1.5)), rtol=1e-5)
    squashed = rule.update(memory, rows, jnp.tanh(jnp.asarray([4.0, 1.0, 2.0, 3.0])))
    np.testing.assert_array_equal(squashed.probabilities, told.probabilities)
    for same in (jnp.full(4, 0.5), jnp.full(4, -jnp.inf)):
        jax.tree.map(np.testing.assert_array_equal, rule.update(memory, rows, same), memory)


def test_asngs_step_grows_under_signal_and_shrinks_under_noise():
    rule = asng_rule(table_space((4,) * 6), 0.3, 1.5)

    def end(noise):
        def step(memory, key):
            rows = draw(key, rule.policy(memory), 4)
            fitness = (1 - noise) * (rows == 1).sum(-1) + noise * jax.random.normal(key, (4,))
            return rule.update(memory, rows, fitness), memory.trust

        trust = jax.lax.scan(step, rule.init(), jax.random.split(jax.random.key(0), 60))[1]
        return float(trust[30]), float(trust[-1])

    assert end(0.0)[0] < 1  # less Delta is a longer step
    assert end(1.0)[1] > 1


def test_asng_keeps_a_least_probability_of_every_choice():
    for cards, least in (((3,) * 10, 1 / 20), ((2, 3), 1 / 6), ((5,), 1 / 10)):
        rule = asng_rule(table_space(cards), 1.0, 1.5)
        rows = jnp.zeros((2, len(cards)), jnp.int32).at[0].set(cards[-1] - 1)
        memory = rule.init()
        for _ in range(20):
            memory = rule.update(memory, rows % jnp.asarray(cards), jnp.asarray([1.0, 0.0]))
        np.testing.assert_allclose(memory.probabilities[-1].min(), least, rtol=1e-5)
        np.testing.assert_allclose(memory.probabilities.sum(-1), 1, rtol=1e-5)


def test_utilities_share_what_equals_would_get():
    np.testing.assert_array_equal(utilities(jnp.asarray([5.0, 1.0, 3.0, 2.0])), [1, -1, 0, 0])
    np.testing.assert_array_equal(utilities(jnp.asarray([5.0, 5.0, 3.0, -jnp.inf])), [0.5, 0.5, 0, -1])
    np.testing.assert_array_equal(utilities(jnp.full(7, 2.0)), np.zeros(7))


def test_at_least_keeps_sums_and_bounds():
    theta = jnp.asarray([[1.1, -0.2, 0.1], [0.5, 0.5, 0.0]])
    least = jnp.asarray([[0.1, 0.1, 0.1], [0.2, 0.2, 0.0]])
    raised = np.asarray(at_least(theta, least))
    np.testing.assert_allclose(raised.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(raised, [[0.8, 0.1, 0.1], [0.5, 0.5, 0.0]], atol=1e-6)


@pytest.mark.parametrize("rule", [reinforce_rule(SPACE, 0.1, 0.9, 0.01), asng_rule(SPACE, 1.0, 1.5)])
def test_a_policy_settles_on_the_best_genotype_of_a_flat_table(rule):
    """One genotype of six is worth 1, the others 0; padding is never drawn."""
    table = make_table(SPACE, np.arange(6) == 3)

    def step(memory, key):
        rows = draw(key, rule.policy(memory), 6)
        return rule.update(memory, rows, table.told[rows @ jnp.asarray([2, 2, 1])]), rows

    memory, rows = jax.lax.scan(step, rule.init(), jax.random.split(jax.random.key(1), 150))
    assert (np.asarray(rows) < [3, 1, 2]).all()
    np.testing.assert_array_equal(jnp.argmax(rule.policy(memory), -1), [1, 0, 1])
