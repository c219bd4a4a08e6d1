"""MAML++, scale-and-shift and TaskNorm's numbers: a learner against its inner loop written out, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.heads import logits_of, make_head
from atnas_jax.meta.learners import LEARNERS, make_learner, refused
from atnas_jax.meta.losses import cross_entropy
from atnas_jax.meta.scale_shift import freeze_after
from atnas_jax.meta.stages import NEVER, Early, step_weights
from atnas_jax.types import Episode, MetaState, Model

T, N, K, Q, D, PIXELS, RATE, STEPS = 2, 3, 2, 4, 5, 4, 0.3, 3
MASKS = jnp.ones((T, 1, 1))

pytestmark = pytest.mark.usefixtures("few_optimisations")


@pytest.fixture(autouse=True, scope="module")
def _float64():
    with jax.enable_x64(True):
        yield


def features(body, x):
    """tanh(scale * (x W) + bias + task_scale), the leaves named as those of a supernet."""
    norm = body["block0"]["norm"]
    y = x.reshape(len(x), -1) @ body["block0"]["conv1"]["kernel"][0, 0]
    return jnp.tanh(norm["scale"] * y + norm["bias"] + norm.get("task_scale", 0.0))


def make_model(task=False):
    def init(key):
        norm = {"scale": jnp.ones(D), "bias": jnp.zeros(D)} | ({"task_scale": jnp.zeros(())} if task else {})
        return {"block0": {"conv1": {"kernel": jax.random.normal(key, (1, 1, PIXELS, D))}, "norm": norm}}

    return Model(init, lambda body, x, mask, reference=None: features(body, x), "layer", D)


@pytest.fixture(scope="module")
def episodes():
    rng = np.random.default_rng(0)
    x, q = rng.normal(size=(T, N * K, 2, 2, 1)), rng.normal(size=(T, N * Q, 2, 2, 1))
    labels = [np.tile(np.repeat(np.arange(N), n), (T, 1)) for n in (K, Q)]
    return Episode(*map(jnp.asarray, (x, labels[0], q, labels[1])))


def learner_of(name="maml", steps=STEPS, task=False, outer=None, **options):
    # The outer step of sgd(1.0) subtracts the gradient itself, so that it can be read off.
    outer = outer or optax.sgd(1.0)
    return make_learner(name, make_model(task), outer, ways=N, inner_steps=steps, inner_lr=RATE, **options)


def shaken(params, seed=3):
    """Params whose rows and rates all differ."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape), params)


def row_of(body, i):
    norm = {name: leaf[i] for name, leaf in body["block0"]["norm"].items()}
    return {"block0": body["block0"] | {"norm": norm}}


def plain_losses(params, x, y, qx, qy, *, rates, norms, first_order):
    """Return the query loss after each of three inner steps, everything written out."""
    body = row_of(params["body"], 0) if norms else params["body"]
    now = {"body": body, "head": make_head("prototypes", N).build(params["head"], features(body, x), y, N)}
    losses = []
    for i in range(STEPS):

        def loss(now, i=i):
            body = now["body"]
            if norms:
                body = {"block0": body["block0"] | {"norm": row_of(params["body"], i)["block0"]["norm"]}}
            return cross_entropy(logits_of(now["head"], features(body, x)), y)

        grads = jax.grad(loss)(now)
        grads = jax.lax.stop_gradient(grads) if first_order else grads
        rate = jax.tree.map(lambda _: RATE, now)
        if rates:
            rate = jax.tree.map(lambda leaf, i=i: leaf[i], params["step_rates"])
        now = jax.tree.map(lambda p, g, r: p - r * g, now, grads, rate)
        body = now["body"]
        if norms:
            body = {"block0": body["block0"] | {"norm": row_of(params["body"], i + 1)["block0"]["norm"]}}
        losses.append(cross_entropy(logits_of(now["head"], features(body, qx)), qy))
    return jnp.stack(losses)


def assert_trees_close(a, b, **options):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **({"rtol": 1e-9, "atol": 1e-12} | options)), a, b)


@pytest.mark.parametrize(
    ("rates", "norms", "early"),
    [
        (True, False, NEVER),
        (False, True, NEVER),
        (False, False, Early(0, 10)),
        (False, False, Early(5, 0)),
        (True, True, Early(4, 10)),
    ],
)
def test_the_outer_gradient_is_that_of_the_plain_loop(rates, norms, early, episodes):
    """At every stage of the run, all by one program."""
    learner = learner_of(step_rates=rates, step_norms=norms, early=early)
    first = learner.init(jax.random.key(1))
    state, step, norms_seen = first._replace(params=shaken(first.params)), jax.jit(learner.step), []
    for now in (0, 4, 7, 12):
        first_order = now < early.first_order
        weights = (
            step_weights(jnp.int32(now), STEPS, early.every_step) if now < early.every_step else jnp.array([0, 0, 1.0])
        )

        def loss(params, first_order=first_order, weights=weights):
            tasks = [jax.tree.map(lambda leaf, t=t: leaf[t], episodes) for t in range(T)]
            options = {"rates": rates, "norms": norms, "first_order": first_order}
            return sum(weights @ plain_losses(params, *task, **options) for task in tasks) / T

        new, metrics = step(state._replace(step=jnp.int32(now)), MASKS, episodes)
        expected = jax.jit(jax.grad(loss))(state.params)
        assert_trees_close(jax.tree.map(jnp.subtract, state.params, new.params), expected)
        norms_seen.append(float(metrics["gradient_norm"]))
    assert step._cache_size() == 1
    stages = {(now < early.first_order, now if now < early.every_step else -1) for now in (0, 4, 7, 12)}
    assert len(set(np.round(norms_seen, 9))) == len(stages)


def test_all_starts_as_plain_maml(episodes):
    """Rates and norms a step begin alike, so that adaptation begins as MAML's would with its norms left still."""
    plain, learned = learner_of(), learner_of(step_rates=True)
    states = [learner.init(jax.random.key(1)) for learner in (plain, learned)]
    task = (MASKS[0], *(leaf[0] for leaf in episodes[:2]))
    adapted = [learner.adapt(state.params, *task) for learner, state in zip((plain, learned), states)]
    assert_trees_close(*adapted)
    assert {leaf.shape for leaf in jax.tree.leaves(states[1].params["step_rates"])} == {(STEPS,)}


def test_more_steps_than_were_learned_take_the_last_row(episodes):
    """And no step takes the first; a traced number of steps does the same."""
    options = {"step_rates": True, "step_norms": True}
    params = shaken(learner_of(**options).init(jax.random.key(1)).params)
    x, y = episodes.support_x[0], episodes.support_y[0]
    longer = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[-1:], leaf[-1:]]), params["step_rates"])
    norm = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[-1:], leaf[-1:]]), params["body"]["block0"]["norm"])
    padded = params | {"step_rates": longer, "body": {"block0": params["body"]["block0"] | {"norm": norm}}}
    five = learner_of(steps=STEPS + 2, **options).adapt(params, MASKS[0], x, y)
    assert_trees_close(five, learner_of(steps=STEPS + 2, **options).adapt(padded, MASKS[0], x, y))

    @jax.jit
    def traced(steps):
        return learner_of(steps=steps, **options).adapt(params, MASKS[0], x, y)

    assert_trees_close(traced(jnp.int32(STEPS + 2)), five)
    assert_trees_close(traced(jnp.int32(0))["body"], row_of(params["body"], 0))
    assert_trees_close(five["body"]["block0"]["norm"], row_of(params["body"], STEPS)["block0"]["norm"])


def test_tasknorm_is_learned_outside_alone(episodes):
    learner = learner_of(task=True)
    state = learner.init(jax.random.key(1))
    adapted = learner.adapt(state.params, MASKS[0], episodes.support_x[0], episodes.support_y[0])
    before, after = (tree["body"]["block0"]["norm"] for tree in (state.params, adapted))
    assert before["task_scale"] == after["task_scale"]
    assert (before["bias"] != after["bias"]).all()
    new, _ = jax.jit(learner.step)(state, MASKS, episodes)
    assert new.params["body"]["block0"]["norm"]["task_scale"] != before["task_scale"]


def test_every_step_of_a_body_that_stays_is_embedded_once(episodes):
    """ANIL's multi-step loss, one pass, is what the plain logits after 1, 2 and 3 steps give."""
    early, now = Early(0, 10), 5
    learner = learner_of("anil", early=early)
    state = learner.init(jax.random.key(1))._replace(step=jnp.int32(now))
    new, _ = jax.jit(learner.step)(state, MASKS, episodes)

    def loss(params):
        found = []
        for t in range(T):
            x, y, qx, qy = (leaf[t] for leaf in episodes)
            logits = [learner_of("anil", steps=i + 1).solve(params, MASKS[0], x, y, qx) for i in range(STEPS)]
            found.append(
                step_weights(jnp.int32(now), STEPS, 10) @ jnp.stack([cross_entropy(one, qy) for one in logits])
            )
        return sum(found) / T

    assert_trees_close(jax.tree.map(jnp.subtract, state.params, new.params), jax.jit(jax.grad(loss))(state.params))


def test_scale_and_shift_freezes_the_kernels(episodes):
    """Up to the freeze it is ANIL; from then on kernels and norms stay to the bit, scales and shifts move."""
    frozen = 2
    learner = learner_of("mtl", outer=freeze_after(optax.adam(0.01), frozen))
    anil = learner_of("anil", outer=optax.adam(0.01))
    step, anil_step = jax.jit(learner.step), jax.jit(anil.step)
    states, twins = [learner.init(jax.random.key(1))], [anil.init(jax.random.key(1))]
    for _ in range(4):
        states.append(step(states[-1], MASKS, episodes)[0])
        twins.append(anil_step(twins[-1], MASKS, episodes)[0])
    first, at_freeze, end = (states[i].params for i in (0, frozen, 4))
    for part in ("body", "head"):
        assert_trees_close(at_freeze[part], twins[frozen].params[part], rtol=1e-6)
    assert_trees_close(at_freeze["scale_shift"], first["scale_shift"], rtol=0, atol=0)
    jax.tree.map(np.testing.assert_array_equal, end["body"], at_freeze["body"])
    moved = end["scale_shift"]["block0"]
    assert (moved["conv1"]["kernel"] != 1).all() and (moved["norm"]["bias"] != 0).all()
    assert end["head"]["log_temperature"] != at_freeze["head"]["log_temperature"]
    task = (MASKS[0], *(leaf[0] for leaf in episodes[:3]))
    shared = {name: at_freeze[name] for name in ("body", "head")}
    np.testing.assert_array_equal(learner.solve(at_freeze, *task), anil.solve(shared, *task))
    kernel = end["body"]["block0"]["conv1"]["kernel"] * moved["conv1"]["kernel"]
    np.testing.assert_array_equal(learner.adapt(end, *task[:3])["body"]["block0"]["conv1"]["kernel"], kernel)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("reptile", {"step_rates": True}, "differentiates through no inner step"),
        ("leap", {"early": Early(1, 0)}, "differentiates through no inner step"),
        ("meta_sgd", {"step_rates": True}, "a rate for every weight"),
        ("leap", {"adapted": "head"}, "give adapted 'all', not 'head'"),
        ("reptile", {"adapted": "body"}, "give adapted 'all', not 'body'"),
        ("anil", {"step_norms": True}, "one body for all inner steps"),
        ("mtl", {"step_norms": True, "adapted": "all"}, "one body for all inner steps"),
        ("fomaml", {"early": Early(1, 0)}, "first order throughout"),
    ],
)
def test_what_a_learner_cannot_do_is_refused_in_one_line(name, options, says):
    with pytest.raises(ValueError, match=says) as error:
        learner_of(name, **options)
    assert "\n" not in str(error.value)


def test_every_learner_takes_what_is_not_refused(episodes):
    """Traced only: shapes and names fit for all of them, with everything on."""
    for name, (own, _, _) in LEARNERS.items():
        early, rates, norms = Early(1, 2), True, True
        rates = rates and not list(refused(name, own, rates, False, NEVER))
        norms = norms and not list(refused(name, own, False, norms, NEVER))
        early = next(e for e in (early, Early(0, 2), NEVER) if not list(refused(name, own, False, False, e)))
        learner = learner_of(name, step_rates=rates, step_norms=norms, early=early)
        new, _ = jax.eval_shape(lambda learner=learner: learner.step(learner.init(jax.random.key(0)), MASKS, episodes))
        assert isinstance(new, MetaState)
