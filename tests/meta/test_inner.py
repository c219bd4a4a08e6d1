"""The inner loop on a quadratic, where everything has a closed form: L(p) = (p - a)' A (p - a) / 2."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.inner import REMAT_ABOVE, REMAT_ANY_ABOVE, inner_loop, numbered_loop, settling_loop
from atnas_jax.meta.rates import scaled

pytestmark = pytest.mark.usefixtures("few_optimisations")

RATE, STEPS = 0.1, 3
A = np.array([[2.0, 0.5, 0.0], [0.5, 1.5, -0.3], [0.0, -0.3, 1.0]])
TARGET, QUERY = np.array([1.0, -2.0, 0.5]), np.array([0.2, 0.4, -1.0])
START = np.array([0.3, 0.1, -0.7])
SHRINK = np.linalg.matrix_power(np.eye(3) - RATE * A, STEPS)  # p_I - a = (1 - rate A)^I (p_0 - a)


def support_loss(p):
    return 0.5 * (p - TARGET) @ A @ (p - TARGET)


def query_loss(p):
    return 0.5 * ((p - QUERY) ** 2).sum()


@pytest.fixture(autouse=True, scope="module")
def _float64():
    with jax.enable_x64(True):
        yield


def outer_loss(p, **options):
    return query_loss(inner_loop(support_loss, p, optax.sgd(RATE), STEPS, **options))


def test_the_adapted_point_is_the_closed_form():
    found = inner_loop(support_loss, jnp.asarray(START), optax.sgd(RATE), STEPS)
    np.testing.assert_allclose(found, TARGET + SHRINK @ (START - TARGET), rtol=1e-12)


def test_the_second_order_gradient_carries_the_jacobian_of_every_step():
    adapted = TARGET + SHRINK @ (START - TARGET)
    found = jax.jit(jax.grad(outer_loss))(jnp.asarray(START))
    np.testing.assert_allclose(found, SHRINK.T @ (adapted - QUERY), rtol=1e-12)


def test_one_program_serves_any_number_of_steps():
    adapt = jax.jit(lambda steps: inner_loop(support_loss, jnp.asarray(START), optax.sgd(RATE), steps))
    for steps in (0, 1, STEPS):
        shrink = np.linalg.matrix_power(np.eye(3) - RATE * A, steps)
        np.testing.assert_allclose(adapt(jnp.int32(steps)), TARGET + shrink @ (START - TARGET), rtol=1e-12)
    assert adapt._cache_size() == 1


def test_rematerialisation_keeps_the_gradient_and_flattens_the_memory():
    weight = jnp.full((300, 300), 0.01)

    def gradient(steps, remat):
        def loss(p):
            return (jnp.tanh(jnp.tanh(p @ weight) @ weight) ** 2).sum()

        def outer(p):
            return (inner_loop(loss, p, optax.sgd(RATE), steps, remat=remat) ** 2).sum()

        return jax.jit(jax.grad(outer)).lower(jnp.ones((300, 300))).compile()

    programs = {(steps, remat): gradient(steps, remat) for steps in (4, 16) for remat in (True, False)}
    memory = {case: program.memory_analysis().temp_size_in_bytes for case, program in programs.items()}
    kept = 300 * 300 * 8  # bytes of one array; the carried weights stay, one array a step
    assert memory[16, True] - memory[4, True] < 12 * 1.5 * kept
    assert memory[16, False] - memory[4, False] > 12 * 2.5 * kept
    start = jnp.linspace(-1, 1, 300 * 300).reshape(300, 300)
    np.testing.assert_allclose(programs[4, True](start), programs[4, False](start), rtol=1e-10)


@pytest.mark.parametrize(
    ("given", "last_kept"),
    [({}, REMAT_ABOVE), ({"first_order": True}, REMAT_ANY_ABOVE), ({"after": lambda p, _: p}, REMAT_ANY_ABOVE)],
)
def test_more_steps_than_pay_are_rematerialised(given, last_kept):
    def traced(steps):
        def run(p):
            return numbered_loop(lambda p, _: support_loss(p), p, optax.sgd(RATE), steps, **given)

        return str(jax.make_jaxpr(run)(jnp.asarray(START)))

    assert "remat" not in traced(last_kept) and "remat" in traced(last_kept + 1)


def test_the_first_order_gradient_has_the_identity_for_it():
    adapted = TARGET + SHRINK @ (START - TARGET)
    found = jax.jit(jax.grad(lambda p: outer_loss(p, first_order=True)))(jnp.asarray(START))
    np.testing.assert_allclose(found, adapted - QUERY, rtol=1e-12)


def test_the_hessian_of_the_outer_loss_is_the_closed_form():
    np.testing.assert_allclose(jax.hessian(outer_loss)(jnp.asarray(START)), SHRINK.T @ SHRINK, rtol=1e-11)


def test_no_step_changes_nothing():
    assert inner_loop(support_loss, jnp.asarray(START), optax.sgd(RATE), 0) is not None
    np.testing.assert_array_equal(inner_loop(support_loss, jnp.asarray(START), optax.sgd(RATE), 0), START)


def test_learned_rates_have_the_gradient_of_meta_sgd():
    """One step p - r * g: dL_query/dr = -g * (p_1 - query) elementwise."""

    def loss(rates):
        return query_loss(inner_loop(support_loss, jnp.asarray(START), scaled(optax.sgd(1.0), rates), 1))

    rates = np.array([0.1, 0.2, 0.05])
    gradient = A @ (START - TARGET)
    expected = -gradient * (START - rates * gradient - QUERY)
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(rates)), expected, rtol=1e-12)


def test_momentum_is_carried_from_step_to_step():
    found = inner_loop(support_loss, jnp.asarray(START), optax.sgd(RATE, momentum=0.9), STEPS)
    p, velocity = START.copy(), np.zeros(3)
    for _ in range(STEPS):
        velocity = 0.9 * velocity + A @ (p - TARGET)
        p = p - RATE * velocity
    np.testing.assert_allclose(found, p, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 5])
def test_adam_inside_has_a_finite_gradient_even_at_the_optimum(steps):
    optimiser = optax.adam(RATE, b1=0.0, eps_root=1e-8)
    gradient = jax.grad(lambda p: query_loss(inner_loop(support_loss, p, optimiser, steps)))(jnp.asarray(TARGET))
    assert np.isfinite(gradient).all()


def losses(steps, start=START):
    shrink = np.eye(3) - RATE * A
    points = [TARGET + np.linalg.matrix_power(shrink, step) @ (start - TARGET) for step in range(steps + 1)]
    return np.array([support_loss(point) for point in points])


def settled(start, steps, tolerance, rate=RATE):
    return settling_loop(lambda p, _: support_loss(p), start, optax.sgd(rate), steps, tolerance)


@pytest.mark.parametrize("tolerance", [1.0, 0.3, 0.1, 0.02, 1e-9])
def test_an_adaptation_ends_with_the_step_that_finds_its_loss_settled(tolerance):
    at = losses(40)
    falls = np.minimum(at[:-1] - at[1:], at[1:])
    expected = min(40, 2 + int(np.argmax(falls < tolerance))) if (falls < tolerance).any() else 40
    found, taken = jax.jit(lambda p: settled(p, 40, tolerance))(jnp.asarray(START))
    assert taken == expected and (tolerance > 1e-6) == (expected < 40)
    shrink = np.linalg.matrix_power(np.eye(3) - RATE * A, expected)
    np.testing.assert_allclose(found, TARGET + shrink @ (START - TARGET), rtol=1e-12)


def test_each_of_many_settles_as_it_does_alone_in_one_program_for_any_most():
    starts = jnp.asarray(np.stack([START, TARGET + 1e-3, 5 * START]))
    many = jax.jit(jax.vmap(lambda p, steps: settled(p, steps, 0.05), (0, None)))
    for most in (0, 1, 3, 100):
        found, taken = many(starts, jnp.int32(most))
        alone = [settled(p, most, 0.05) for p in starts]
        np.testing.assert_allclose(found, jnp.stack([p for p, _ in alone]), rtol=1e-12)
        assert taken.tolist() == [int(n) for _, n in alone] and max(taken.tolist()) <= most
    assert taken[1] == 1 < taken[0] < taken[2] < 100 and many._cache_size() == 1


def test_a_loss_that_grows_or_is_not_finite_ends_the_adaptation():
    _, taken = settled(jnp.asarray(START), 50, 1e-9, 10.0)
    assert taken == 2
    _, taken = settled(jnp.asarray(START * np.nan), 50, 1e-9)
    assert taken == 1
