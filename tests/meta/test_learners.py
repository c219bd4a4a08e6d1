"""Every learner against a plain loop: a model of which all derivatives can be taken without scan or checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from atnas_jax.meta.heads import HEADS, logits_of, make_head
from atnas_jax.meta.learners import LEARNERS, make_learner
from atnas_jax.meta.losses import accuracy, cross_entropy
from atnas_jax.types import Episode, Model

pytestmark = pytest.mark.usefixtures("few_optimisations")

T, N, K, Q, D, PIXELS, RATE = 4, 3, 2, 6, 5, 4, 0.3
MASKS = jnp.ones((T, 1, 1))


@pytest.fixture(autouse=True, scope="module")
def _float64():
    with jax.enable_x64(True):
        yield


def linear_model():
    """Features tanh(x W), so that the second derivatives do not vanish."""

    def init(key):
        return {"w": jax.random.normal(key, (PIXELS, D))}

    def apply(params, x, mask, reference=None):
        return jnp.tanh(x.reshape(len(x), -1) @ params["w"]) * mask.sum()

    return Model(init, apply, "layer", D)


@pytest.fixture(scope="module")
def episodes():
    rng = np.random.default_rng(0)
    x, q = rng.normal(size=(T, N * K, 2, 2, 1)), rng.normal(size=(T, N * Q, 2, 2, 1))
    labels = [np.tile(np.repeat(np.arange(N), n), (T, 1)) for n in (K, Q)]
    return Episode(jnp.asarray(x), jnp.asarray(labels[0]), jnp.asarray(q), jnp.asarray(labels[1]))


def learner_of(name, steps=2, **options):
    # The outer step of sgd(1.0) subtracts the gradient itself, so that it can be read off.
    return make_learner(name, linear_model(), optax.sgd(1.0), ways=N, inner_steps=steps, inner_lr=RATE, **options)


def gradient_of(learner, state, episodes, masks=MASKS):
    new, metrics = jax.jit(learner.step)(state, masks, episodes)
    assert int(new.step) == int(state.step) + 1
    np.testing.assert_allclose(metrics["gradient_norm"], optax.global_norm(tree_minus(state.params, new.params)))
    return tree_minus(state.params, new.params)


def tree_minus(a, b):
    return jax.tree.map(jnp.subtract, a, b)


def plain_adapt(name, params, x, y, steps, head):
    """The inner loop, written out."""
    own, first_order, rates = LEARNERS[name]
    features = jnp.tanh(x.reshape(len(x), -1) @ params["body"]["w"])
    now = {"body": params["body"], "head": make_head(head, N).build(params["head"], features, y, N)}
    for _ in range(steps):

        def loss(now):
            return cross_entropy(logits_of(now["head"], jnp.tanh(x.reshape(len(x), -1) @ now["body"]["w"])), y)

        grads = jax.grad(loss)(now)
        grads = jax.lax.stop_gradient(grads) if first_order else grads
        for part in ("body", "head") if own == "all" else (own,):
            rate = jax.tree.map(lambda g: RATE, grads[part])
            if rates:
                rate = params["rates"][part]
                rate = {"w": rate["w"][:, None], "b": rate["b"]} if part == "head" else rate
            now = now | {part: jax.tree.map(lambda p, g, r: p - r * g, now[part], grads[part], rate)}
    return now


def plain_gradient(name, params, episodes, steps, head):
    def one(params, t):
        x, y, qx, qy = (field[t] for field in episodes)
        now = plain_adapt(name, params, x, y, steps, head)
        return cross_entropy(logits_of(now["head"], jnp.tanh(qx.reshape(len(qx), -1) @ now["body"]["w"])), qy)

    if name == "reptile":
        moved = [plain_adapt(name, params, episodes.support_x[t], episodes.support_y[t], steps, head) for t in range(T)]
        still = jax.tree.map(jnp.zeros_like, params["head"])
        head_gradient = [tree_minus(params["head"], m["head"]) if head == "matrix" else still for m in moved]
        found = [
            {"body": tree_minus(params["body"], m["body"]), "head": h}
            for m, h in zip(moved, head_gradient, strict=True)
        ]
    else:
        found = [jax.grad(one)(params, t) for t in range(T)]
    return jax.tree.map(lambda *leaves: sum(leaves) / T, *found)


def assert_trees_close(a, b, **options):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **({"rtol": 1e-9, "atol": 1e-12} | options)), a, b)


@pytest.mark.parametrize("head", ["prototypes", "matrix"])
@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "leap"])  # that one is in test_leap.py
def test_the_outer_gradient_is_that_of_the_plain_loop(name, head, episodes):
    learner = learner_of(name, head=head)
    state = learner.init(jax.random.key(1))
    expected = plain_gradient(name, state.params, episodes, 2, head)
    assert_trees_close(gradient_of(learner, state, episodes), expected)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected) if leaf.size) > 1e-3


@pytest.mark.parametrize("head", ["vector", "zeros"])
def test_heads_that_serve_any_number_of_ways(head, episodes):
    learner = learner_of("maml", head=head)
    state = learner.init(jax.random.key(1))
    expected = plain_gradient("maml", state.params, episodes, 2, head)
    assert_trees_close(gradient_of(learner, state, episodes), expected)


def test_first_and_second_order_differ_only_where_a_step_is_taken(episodes):
    gradients = {}
    for steps in (0, 2):
        for name in ("maml", "fomaml"):
            learner = learner_of(name, steps)
            gradients[name, steps] = gradient_of(learner, learner.init(jax.random.key(1)), episodes)["body"]["w"]
    np.testing.assert_allclose(gradients["maml", 0], gradients["fomaml", 0], rtol=1e-12)
    assert np.abs(gradients["maml", 2] - gradients["fomaml", 2]).max() > 1e-3


@pytest.mark.parametrize("name, moves", [("anil", {"head"}), ("boil", {"body"}), ("maml", {"body", "head"})])
def test_what_the_inner_loop_moves(name, moves, episodes):
    learner, still = learner_of(name, 2, head="matrix"), learner_of(name, 0, head="matrix")
    params = learner.init(jax.random.key(1)).params
    task = (MASKS[0], episodes.support_x[0], episodes.support_y[0])
    before, after = still.adapt(params, *task), learner.adapt(params, *task)
    for part in ("body", "head"):
        same = all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), before[part], after[part])))
        assert same == (part not in moves)


def test_tasks_together_are_tasks_one_by_one(episodes):
    one, two = learner_of("maml"), learner_of("maml", task_batch=2)
    state = one.init(jax.random.key(1))
    assert_trees_close(gradient_of(one, state, episodes), gradient_of(two, state, episodes))
    with pytest.raises(ValueError, match=r"train\.tasks=4 is not a multiple of train\.task_batch=3"):
        learner_of("maml", task_batch=3).step(state, MASKS, episodes)


def test_every_task_has_its_own_mask(episodes):
    learner = learner_of("maml")
    state = learner.init(jax.random.key(1))
    off = gradient_of(learner, state, episodes, MASKS.at[1].set(0.0))
    others = jax.tree.map(lambda x: x[jnp.array([0, 2, 3, 0])], episodes)
    only = gradient_of(learner, state, others, MASKS.at[3].set(0.0))
    np.testing.assert_allclose(off["body"]["w"], only["body"]["w"], rtol=1e-9)


def test_prototypes_are_the_softmax_over_squared_distances(episodes):
    head = make_head("prototypes", N)
    features, labels = jnp.tanh(episodes.query_x[0].reshape(N * Q, -1)), episodes.query_y[0]
    params = head.init(jax.random.key(0), PIXELS)
    means = jnp.stack([features[labels == n].mean(0) for n in range(N)])
    distances = jnp.exp(params["log_temperature"]) * ((features[:, None] - means) ** 2).sum(-1)
    found = jax.nn.softmax(logits_of(head.build(params, features, labels, N), features))
    np.testing.assert_allclose(found, jax.nn.softmax(-distances), rtol=1e-9)


@pytest.mark.parametrize("head", ["prototypes", "vector", "zeros"])
def test_permuting_the_labels_permutes_the_logits(head, episodes):
    learner, order = learner_of("maml", head=head), jnp.array([2, 0, 1])
    params = learner.init(jax.random.key(1)).params
    x, y, qx = episodes.support_x[0], episodes.support_y[0], episodes.query_x[0]
    logits = [learner.predict(learner.adapt(params, MASKS[0], x, z), MASKS[0], x, qx) for z in (y, order[y])]
    np.testing.assert_allclose(logits[1][:, order], logits[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("option, value", [("name", "x"), ("head", "x"), ("adapted", "x"), ("inner_optimiser", "x")])
def test_unknown_names_are_refused_in_one_line(option, value):
    with pytest.raises(ValueError, match="is unknown; choose one of") as error:
        learner_of(**({"name": "maml"} | {option: value}))
    assert "\n" not in str(error.value)


def test_loss_and_accuracy_by_hand():
    logits = jnp.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    labels = jnp.array([0, 1, 1, 1])
    expected = (2 * np.log(2) + np.log(1 + np.exp(2)) + np.log(1 + np.exp(-1))) / 4
    np.testing.assert_allclose(cross_entropy(logits, labels), expected, rtol=1e-12)
    assert float(accuracy(logits, labels)) == 0.5  # rows 0 and 2: of equal logits the first counts


def test_every_head_is_tested():
    assert set(HEADS) == {"prototypes", "matrix", "vector", "zeros"}


@pytest.mark.parametrize("normalisation", ["support", "layer", "batch_transductive"])
@pytest.mark.parametrize("name", ["anil", "maml"])
def test_to_solve_is_to_adapt_and_predict(name, normalisation, episodes):
    """A fixed body embeds support and queries in one pass, unless the queries have a say in the statistics."""
    passes = []

    def apply(params, x, mask, reference=None):
        passes.append(len(x))
        rows = x[:reference] if normalisation == "support" and reference is not None else x
        centred = x - rows.mean(0) if normalisation != "layer" else x - x.mean((1, 2), keepdims=True)
        return jnp.tanh(centred.reshape(len(x), -1) @ params["w"])

    model = Model(linear_model().init, apply, normalisation, D)
    learner = make_learner(name, model, optax.sgd(1.0), ways=N, inner_steps=2, inner_lr=RATE)
    params = learner.init(jax.random.key(0)).params
    x, y, query_x, _ = jax.tree.map(lambda leaf: leaf[0], episodes)
    expected = learner.predict(learner.adapt(params, MASKS[0], x, y), MASKS[0], x, query_x)
    passes.clear()
    found = learner.solve(params, MASKS[0], x, y, query_x)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (passes == [len(x) + len(query_x)]) == (name == "anil" and normalisation != "batch_transductive")


def test_a_learner_rematerialises_as_it_is_told_and_finds_the_same(episodes):
    found = []
    for remat in (None, False, True):
        learner = learner_of("maml", remat=remat)
        state = learner.init(jax.random.key(0))
        assert ("remat" in str(jax.make_jaxpr(learner.step)(state, MASKS, episodes))) == bool(remat)
        found.append(gradient_of(learner, state, episodes))
    for other in found[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), found[0], other)
