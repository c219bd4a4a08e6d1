"""The gradient family: the rules as published, known optima, and what relaxations are at their limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.search.gradient import log_probability, training_masks
from atnas_jax.search.relaxations import pair
from atnas_jax.search.samplers import strictly_fair
from atnas_jax.search.strategies import BY_GRADIENT, make_strategy
from atnas_jax.space.slots import SearchSpace, choice_mask, mask_of

CARDS = (4, 3, 4, 1, 2, 4)
SPACE = SearchSpace("toy", (), tuple(f"s{i}" for i in range(6)), tuple(tuple(map(str, range(card))) for card in CARDS))
pytestmark = pytest.mark.usefixtures("few_optimisations")
KINDS = {name: {} for name in BY_GRADIENT} | {"binary_gates two": {"mode": "two"}, "softmax pruned": {"prune": 0.1}}


def make(kind, space=SPACE, **options):
    return make_strategy(kind.split()[0], space, population=6, **KINDS[kind], **options)


@functools.cache
def start():
    """The state at the start, the same for all kinds."""
    return jax.jit(make("softmax").init)(jax.random.key(0))


def away_from_the_start():
    return start()._replace(logits=start().logits + jax.random.normal(jax.random.key(1), (6, 4)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def surrogate_by_hand(kind, key, logits, temperature):
    """Return float64 [E,O]: what the gradient of a kind goes through, and its temperature."""
    noise = np.asarray(jax.random.gumbel(key, logits.shape), np.float64)
    if kind.startswith("gumbel"):
        return softmax((logits + noise) / temperature)
    if kind == "binary_gates two":
        top = np.argsort(-(logits + noise), -1)[:, :2]
        kept = np.zeros_like(logits, bool)
        np.put_along_axis(kept, top, True, -1)
        return softmax(np.where(kept, logits, -np.inf))
    plain = softmax(logits / temperature)
    return softmax(np.where(plain >= (0.1 if kind == "softmax pruned" else 0), logits / temperature, -np.inf))


@pytest.mark.parametrize("kind", KINDS)
def test_tell_grad_is_the_jacobian_of_the_softmax_times_the_gradient(kind):
    """dL/dlogit_i = sum_j g_j p_j (delta_ij - p_i) / t; Adam's first moment holds it, times 1 - b1."""
    strategy = make(kind, b1=0.25)
    state, key = away_from_the_start(), jax.random.key(5)
    slope = jax.random.normal(jax.random.key(6), state.logits.shape)
    told = jax.jit(strategy.tell_grad)(key, state, 1.0, slope)
    first = {"softmax": 1.0, "gumbel": 5.0, "gumbel_hard": 5.0, "binary_gates": 1.0}[kind.split()[0]]
    p, g = surrogate_by_hand(kind, key, np.asarray(state.logits, np.float64), first), np.asarray(slope, np.float64)
    jacobian = (np.eye(p.shape[1]) - p[:, None]) * p[..., None]  # [E,j,i]
    wanted = np.einsum("ej,eji->ei", g, jacobian) / first
    np.testing.assert_allclose(told.opt_state[0].mu / 0.75, wanted, atol=1e-6)
    assert np.abs(wanted).max() > 0.05
    assert np.isneginf(told.logits[~choice_mask(SPACE)]).all()


def test_two_paths_conserve_the_mass_of_the_pair_and_leave_the_others():
    strategy = make("binary_gates two", learning_rate=0.3, b1=0.5)
    state, step = away_from_the_start(), jax.jit(strategy.tell_grad)
    for turn in range(5):
        key, slope = jax.random.key(turn), jax.random.normal(jax.random.key(50 + turn), state.logits.shape)
        moved = np.asarray(pair(key, state.logits))
        np.testing.assert_array_equal(moved.sum(-1), np.minimum(CARDS, 2))
        told = step(key, state, 0.0, slope)
        mass = [np.where(moved, np.exp(np.asarray(s.logits)), 0).sum(-1) for s in (state, told)]
        np.testing.assert_allclose(mass[1], mass[0], rtol=1e-6)
        np.testing.assert_array_equal(np.asarray(told.logits)[~moved], np.asarray(state.logits)[~moved])
        assert (np.abs(told.logits - state.logits)[moved & (np.asarray(CARDS) > 1)[:, None]] > 1e-3).all()
        gate = strategy.relax(key, state)
        assert (np.asarray(gate)[~moved] == 0).all()  # what is not of the pair is not run
        state = told


def test_a_pair_is_drawn_without_replacement_by_the_policy():
    logits = jnp.log(jnp.asarray([[0.5, 0.3, 0.2]]))
    pairs = jax.vmap(lambda key: pair(key, logits)[0])(jax.random.split(jax.random.key(0), 20000))
    out = 1 - np.asarray(pairs).mean(0)  # P(i is left out) = sum over orders of the other two
    a, b, c = 0.5, 0.3, 0.2
    wanted = [b * c / (1 - b) + c * b / (1 - c), a * c / (1 - a) + c * a / (1 - c), a * b / (1 - a) + b * a / (1 - b)]
    np.testing.assert_allclose(out, wanted, atol=0.01)


@functools.cache
def walked(kind, steps, **options):
    """Return the state and the last mask after `steps` gradients of L = <c, mask> from noise-free slopes c."""
    strategy = make(kind, steps=steps, **options)
    costs = jax.random.permutation(jax.random.key(9), jnp.tile(jnp.arange(4.0), (6, 1)), axis=1, independent=True)

    def step(state, key):
        mask = strategy.relax(key, state)
        return strategy.tell_grad(key, state, (costs * mask).sum(), costs), None

    keys = jax.random.split(jax.random.key(1), steps)
    state = jax.jit(lambda first: jax.lax.scan(step, first, keys)[0])(start())
    wanted = jnp.where(choice_mask(SPACE), costs, jnp.inf).argmin(-1)
    return strategy, state, wanted


@pytest.mark.parametrize("kind", KINDS)
def test_the_argmax_is_the_cheapest_choice_within_300_steps(kind):
    strategy, state, wanted = walked(kind, 300)
    np.testing.assert_array_equal(strategy.best(state), wanted)
    assert int(state.step) == 300
    asked = jax.jit(strategy.ask)(jax.random.key(3), state)
    np.testing.assert_array_equal(asked[0], wanted)
    assert len({row.tobytes() for row in np.asarray(asked)}) >= 4
    policy = np.exp(log_probability(state.logits, wanted[None]))[0]
    assert policy > 10 / np.prod(CARDS)


def test_the_annealed_softmax_ends_nearly_one_hot():
    """MetaNAS: at the last temperature the entropy of the mask is below 0.1 nats, at the first it is not."""
    strategy, state, _ = walked("softmax", 300)

    def entropy(state):
        mask = np.asarray(strategy.relax(jax.random.key(0), state))
        return (-(mask * np.log(np.maximum(mask, 1e-30))).sum(-1)).max()

    assert entropy(state) < 0.1
    assert entropy(state._replace(step=jnp.int32(0))) > 0.3


def test_temperatures_follow_their_schedules():
    """Read off a slot of two choices: the logit of its mask is the difference of the logits over the temperature."""
    logits = jnp.log(jnp.asarray([[3.0, 1.0]]))
    space = SearchSpace("toy", (), ("s",), (("0", "1"),))
    key = jax.random.key(0)
    noise = jax.random.gumbel(key, (1, 2))[0]
    for kind, difference, wanted in (
        ("softmax", np.log(3.0), lambda step: 1.0 - 0.95 * step / 90),
        ("gumbel", np.log(3.0) + noise[0] - noise[1], lambda step: 5.0 * np.exp(-0.045 * step)),
    ):
        strategy = make(kind, space, steps=91)
        relax, first = jax.jit(strategy.relax), strategy.init(key)
        for step in (0, 30, 90, 200):
            mask = np.asarray(relax(key, first._replace(logits=logits, step=jnp.int32(step))), np.float64)[0]
            found = difference / np.log(mask[0] / mask[1]) if mask.min() > 0 else 0.0
            np.testing.assert_allclose(found, wanted(min(step, 90)), rtol=4e-3, err_msg=f"{kind} {step}")


def test_cold_gumbel_is_hard_and_hard_gumbel_draws_what_the_gates_draw():
    cold = {name: make(name, temperature=1e-4, temperature_min=1e-4) for name in ("gumbel", "gumbel_hard")}
    gates, state = make("binary_gates"), away_from_the_start()
    keys = jax.random.split(jax.random.key(0), 4000)
    soft, hard, drawn = (jax.vmap(s.relax, (0, None))(keys, state) for s in (*cold.values(), gates))
    assert (np.abs(soft - hard).max(axis=(1, 2)) < 1e-3).mean() > 0.995  # all but near ties
    real = np.where(choice_mask(SPACE), np.asarray(state.logits), -np.inf)
    for found in (hard, drawn):
        assert set(np.unique(found)) == {0, 1} and (found.sum(-1) == 1).all()
        np.testing.assert_allclose(found.mean(0), softmax(real), atol=0.03)


def test_a_pruned_choice_is_off_and_the_largest_never_is():
    strategy, state = make("softmax pruned"), start()
    logits = jnp.where(choice_mask(SPACE), jnp.log(jnp.asarray([0.6, 0.3, 0.06, 0.04])), -jnp.inf)
    mask = strategy.relax(jax.random.key(0), state._replace(logits=logits))
    np.testing.assert_allclose(mask[0], [2 / 3, 1 / 3, 0, 0], atol=1e-6)
    harsh = make_strategy("softmax", SPACE, population=6, prune=1.0)
    mask = harsh.relax(jax.random.key(0), state._replace(logits=logits))
    np.testing.assert_array_equal(mask, mask_of(SPACE, jnp.zeros(6, jnp.int32)))


def test_a_warm_start_raises_what_it_chose_by_laplaces_rule():
    strategy = make("softmax")
    warm = jnp.asarray([[3, 2, 1, 0, 1, 0], [3, 1, 2, 0, 1, 3]], jnp.int32)
    state = strategy.init(jax.random.key(0), warm)
    policy = np.asarray(jax.nn.softmax(state.logits))
    np.testing.assert_allclose(policy[0], [1 / 6, 1 / 6, 1 / 6, 3 / 6], atol=1e-6)
    np.testing.assert_allclose(policy[1, :3], [1 / 5, 2 / 5, 2 / 5], atol=1e-6)
    cold = np.asarray(jax.nn.softmax(start().logits))
    np.testing.assert_allclose(cold, choice_mask(SPACE) / np.asarray(CARDS)[:, None], atol=1e-6)
    with pytest.raises(ValueError, match="warm start"):
        strategy.init(jax.random.key(0), jnp.zeros((2, 5), jnp.int32))


def test_what_is_infeasible_is_neither_asked_nor_best():
    def feasible(rows):
        return rows[:, 0] + rows[:, 2] <= 2

    strategy = make("gumbel", feasible=feasible, tries=40)
    state = strategy.init(jax.random.key(0), jnp.full((3, 6), 3) % jnp.asarray(CARDS))
    asked = strategy.ask(jax.random.key(1), state)
    assert not feasible(asked)[0] and feasible(asked)[1:].all()  # the likeliest stays first, to be scored as -inf
    likely = log_probability(state.logits, asked)[:, None]
    state = strategy.tell(state, asked, jnp.where(feasible(asked)[:, None], likely, -jnp.inf))
    best = strategy.best(state)
    assert feasible(best[None])[0]
    members = asked[feasible(asked)]
    assert np.exp(log_probability(state.logits, best[None])) >= np.exp(log_probability(state.logits, members)).max()


def test_training_masks_are_relaxed_by_their_share():
    strategy = make("softmax")
    state = away_from_the_start()

    def relax(key):
        return strategy.relax(key, state)

    drawn = jax.jit(lambda share: training_masks(jax.random.key(0), SPACE, 120, relax, share, strictly_fair))
    masks, whole = drawn(0.25), drawn(0.0)
    one_hot = ((np.asarray(masks) == 0) | (np.asarray(masks) == 1)).all((1, 2))
    assert 0.13 < 1 - one_hot.mean() < 0.37  # three deviations
    np.testing.assert_allclose(masks.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(
        whole.sum(0)[:, :], np.asarray(choice_mask(SPACE)) * (120 / np.asarray(CARDS))[:, None]
    )


@pytest.mark.parametrize("kind", BY_GRADIENT)
def test_state_keeps_its_types_and_nothing_compiles_twice(kind):
    strategy = make(kind)
    tell_grad, state = jax.jit(strategy.tell_grad), start()
    described = [jax.tree.map(lambda x: (x.shape, x.dtype), state)]
    for turn in range(3):
        state = tell_grad(jax.random.key(turn), state, jnp.float32(1), jnp.ones((6, 4)))
        described.append(jax.tree.map(lambda x: (x.shape, x.dtype), state))
    assert all(found == described[0] for found in described) and tell_grad._cache_size() == 1


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("softmax", {"relaxation": "gumbel"}, "'relaxation'.*learning_rate"),
        ("gumbel", {"prune": 0.1}, "of 'softmax' alone"),
        ("gumbel", {"mode": "two"}, "'two' of 'binary_gates'"),
        ("binary_gates", {"mode": "three"}, "mode='three'"),
        ("binary_gates", {"temperature": 2.0}, "no temperature"),
        ("binary_gates", {"temperature": 0.0}, "no temperature"),
        ("softmax", {"temperature": 0.01}, "temperature=0.01"),
        ("softmax", {"b1": 1.0}, "b1=1.0"),
        ("softmax", {"steps": 0}, "steps=0"),
    ],
)
def test_bad_options_are_one_line(name, options, word):
    with pytest.raises(ValueError, match=word) as error:
        make_strategy(name, SPACE, **options)
    assert "\n" not in str(error.value)
