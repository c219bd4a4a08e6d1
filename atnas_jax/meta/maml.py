"""Adaptation by gradient, and the learners that differ in what moves and which derivative is kept.

Meta-parameters are a dict: "body" (the supernet), "head" (see `heads.py`) and, for Meta-SGD, "rates". Adapted
parameters are {"body", "head": {"w", "b"}}.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from atnas_jax.devices import sum_rows
from atnas_jax.meta.heads import Head, logits_of
from atnas_jax.meta.inner import inner_loop, is_zero
from atnas_jax.meta.losses import accuracy, cross_entropy
from atnas_jax.types import Array, Episode, MetaLearner, MetaState, Model, Params

ADAPTED = {"all": ("body", "head"), "head": ("head",), "body": ("body",)}


class Inner(NamedTuple):
    """The settings of the inner loop.

    adapted: "all", "head" (ANIL, Raghu et al. 2020) or "body" (BOIL, Oh et al. 2021)
    steps: I, see `inner_loop`
    optimiser: an optax transform; with learned rates its updates are multiplied by them
    first_order: drop the second derivatives
    """

    adapted: str
    steps: int | Array
    optimiser: optax.GradientTransformation
    first_order: bool = False


def embed_support(model: Model, body: Params, mask: Array, x: Array) -> Array:
    """Return the embedding [S,D] of support images, normalised by themselves."""
    return model.apply(body, x, mask, None)


def embed_query(model: Model, body: Params, mask: Array, support_x: Array, query_x: Array) -> Array:
    """Return the embedding [Q,D] of queries; only a normalisation by the support needs the support images."""
    if model.normalisation not in ("support", "tasknorm"):
        return model.apply(body, query_x, mask, None)
    return embed_both(model, body, mask, support_x, query_x)[1]


def embed_both(model: Model, body: Params, mask: Array, support_x: Array, query_x: Array) -> tuple[Array, Array]:
    """Return the embeddings [S,D] and [Q,D] in one pass; batch statistics, if any, are those of the support."""
    rows = support_x.shape[0]
    embedded = model.apply(body, jnp.concatenate([support_x, query_x]), mask, rows)
    return embedded[:rows], embedded[rows:]


def make_adapt(model: Model, head: Head, ways: int, inner: Inner) -> Callable[..., Params]:
    """Return adapt(params, mask [E,O], support_x [S,H,W,C], support_y [S], features=None) -> {"body", "head"}.

    The head is built from the meta-parameters (and, for prototypes, the support), then `inner.steps` steps of the
    support cross-entropy move what `inner.adapted` names. With "rates" in params (Meta-SGD, Li et al. 2017, eq. 3)
    every update is multiplied elementwise by its own learned rate. `features` [S,D] is the embedding of the support
    under params, where the caller has it.
    """
    moving = ADAPTED[inner.adapted]

    def adapt(params: Params, mask: Array, support_x: Array, support_y: Array, features: Array | None = None) -> Params:
        # A body that stays where it is embeds the support once, for the head and for every step.
        once = head.uses_support or ("body" not in moving and not is_zero(inner.steps))
        if features is None:
            features = embed_support(model, params["body"], mask, support_x) if once else jnp.zeros((1, model.features))
        start = {"body": params["body"], "head": head.build(params["head"], features, support_y, ways)}
        fixed = {name: start[name] for name in start if name not in moving}

        def loss(fast):
            now = fixed | fast
            embedding = features if "body" in fixed else embed_support(model, now["body"], mask, support_x)
            return cross_entropy(logits_of(now["head"], embedding), support_y)

        optimiser = scaled(inner.optimiser, rates_for(params, moving, ways))
        fast = {name: start[name] for name in moving}
        return fixed | inner_loop(loss, fast, optimiser, inner.steps, first_order=inner.first_order)

    return adapt


def rates_for(params: Params, moving: tuple[str, ...], ways: int) -> Params | None:
    """Return the learned rates of what moves, the head's one column repeated for every class, or None."""
    if "rates" not in params:
        return None
    rates = {name: params["rates"][name] for name in moving}
    if "head" in rates:
        rates["head"] = {"w": jnp.tile(rates["head"]["w"][:, None], (1, ways)), "b": jnp.tile(rates["head"]["b"], ways)}
    return rates


def scaled(optimiser: optax.GradientTransformation, rates: Params | None) -> optax.GradientTransformation:
    """Return the optimiser with its updates multiplied by `rates`, a pytree like the params; None changes nothing."""
    if rates is None:
        return optimiser

    def update(updates, state, params=None):
        del params
        return jax.tree.map(jnp.multiply, updates, rates), state

    return optax.chain(optimiser, optax.GradientTransformation(lambda params: optax.EmptyState(), update))


def make_predict(model: Model) -> Callable[..., Array]:
    """Return predict(adapted, mask, support_x, query_x) -> logits float32 [Q,N]."""

    def predict(adapted: Params, mask: Array, support_x: Array, query_x: Array) -> Array:
        return logits_of(adapted["head"], embed_query(model, adapted["body"], mask, support_x, query_x))

    return predict


def make_solve(
    model: Model, inner: Inner, adapt: Callable[..., Params], predict: Callable[..., Array]
) -> Callable[..., Array]:
    """Return solve(params, mask, support_x, support_y, query_x) -> logits float32 [Q,N] after adaptation.

    A body that stays where it is embeds support and queries in one pass, if the queries have no say in the statistics.
    """
    at_once = "body" not in ADAPTED[inner.adapted] and model.normalisation != "batch_transductive"

    def solve(params: Params, mask: Array, support_x: Array, support_y: Array, query_x: Array) -> Array:
        if not at_once:
            return predict(adapt(params, mask, support_x, support_y), mask, support_x, query_x)
        support, query = embed_both(model, params["body"], mask, support_x, query_x)
        return logits_of(adapt(params, mask, support_x, support_y, support)["head"], query)

    return solve


def init_params(key: Array, model: Model, head: Head, rate: float | None) -> Params:
    """Return the meta-parameters; with `rate`, Meta-SGD's learned rates start there, one value a weight."""
    body_key, head_key = jax.random.split(key)
    params = {"body": model.init(body_key), "head": head.init(head_key, model.features)}
    if rate is not None:
        like = {"body": params["body"], "head": {"w": jnp.zeros(model.features), "b": jnp.zeros(())}}
        params["rates"] = jax.tree.map(lambda leaf: jnp.full_like(leaf, rate), like)
    return params


def outer_step(
    task_gradient: Callable[[Params, Array, Episode], tuple[Params, dict[str, Array]]],
    outer: optax.GradientTransformation,
    task_batch: int,
    axis: str | None = None,
) -> Callable[..., tuple[MetaState, dict[str, Array]]]:
    """Return step(state, masks [T,E,O], episodes [T,...]): the mean of task gradients through the outer optimiser.

    Tasks run `task_batch` at a time: 1 keeps the working set in a CPU's cache and lets masks branch; larger chunks
    fill a GPU and need a supernet of folded execution. Devices take equal shares, see `devices.py`, where gradients are
    summed on the way and never stacked over T.
    """

    def step(state: MetaState, masks: Array, episodes: Episode) -> tuple[MetaState, dict[str, Array]]:
        tasks = masks.shape[0]
        if tasks % task_batch:
            raise ValueError(f"train.tasks={tasks} is not a multiple of train.task_batch={task_batch}")
        chunks = jax.tree.map(lambda x: x.reshape(tasks // task_batch, task_batch, *x.shape[1:]), (masks, episodes))

        def gradient(chunk):
            if task_batch == 1:
                return task_gradient(state.params, *jax.tree.map(lambda x: x[0], chunk))
            found = jax.vmap(task_gradient, in_axes=(None, 0, 0))(state.params, *chunk)
            return jax.tree.map(lambda x: x.sum(0), found)

        total = sum_rows(gradient, chunks, axis)
        grads, metrics = jax.tree.map(lambda x: x / tasks, total)
        updates, opt_state = outer.update(grads, state.opt_state, state.params)
        metrics = metrics | {"gradient_norm": optax.global_norm(grads)}
        return MetaState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics

    return step


def maml(
    model: Model,
    head: Head,
    ways: int,
    inner: Inner,
    outer: optax.GradientTransformation,
    *,
    rate: float | None = None,
    task_batch: int = 1,
    axis: str | None = None,
) -> MetaLearner:
    """Return MAML: min_theta mean_t L_query(adapt(theta, support_t)) (Finn et al. 2017, eq. 1 and algorithm 2).

    FOMAML is `inner.first_order`, ANIL and BOIL are `inner.adapted`, Meta-SGD is `rate`.

    Args:
        model: the network.
        head: the head, see `make_head`.
        ways: N of the training episodes.
        inner: the inner loop.
        outer: an optax transform for the meta-parameters.
        rate: Meta-SGD's first learned rate; None keeps the inner optimiser's own.
        task_batch: episodes differentiated together.
        axis: the mapped axis of the devices that share the tasks, see `devices.py`; None is one device.
    """
    adapt, predict = make_adapt(model, head, ways, inner), make_predict(model)
    solve = make_solve(model, inner, adapt, predict)

    def init(key: Array) -> MetaState:
        params = init_params(key, model, head, rate)
        return MetaState(jnp.zeros((), jnp.int32), params, outer.init(params))

    def task_loss(params: Params, mask: Array, episode: Episode) -> tuple[Array, dict[str, Array]]:
        logits = solve(params, mask, episode.support_x, episode.support_y, episode.query_x)
        loss = cross_entropy(logits, episode.query_y)
        return loss, {"loss": loss, "accuracy": accuracy(logits, episode.query_y)}

    step = outer_step(jax.grad(task_loss, has_aux=True), outer, task_batch, axis)
    return MetaLearner(init, adapt, predict, solve, step)


def reptile(
    model: Model,
    head: Head,
    ways: int,
    inner: Inner,
    outer: optax.GradientTransformation,
    *,
    task_batch: int = 1,
    axis: str | None = None,
) -> MetaLearner:
    """Return Reptile: theta += outer(mean_t (adapt(theta, support_t) - theta)) (Nichol et al. 2018, algorithm 1).

    The difference is handed to `outer` as a gradient, so `optax.sgd(epsilon)` is the published rule. The head moves
    too when it is a matrix; other heads are built anew for every task and keep their meta-parameters.

    Args: as in `maml`.
    """
    adapt, predict = make_adapt(model, head, ways, inner), make_predict(model)

    def init(key: Array) -> MetaState:
        params = init_params(key, model, head, None)
        return MetaState(jnp.zeros((), jnp.int32), params, outer.init(params))

    def task_gradient(params: Params, mask: Array, episode: Episode) -> tuple[Params, dict[str, Array]]:
        adapted = adapt(params, mask, episode.support_x, episode.support_y)
        logits = predict(adapted, mask, episode.support_x, episode.query_x)
        moved = {"body": adapted["body"], "head": params["head"]}
        if jax.tree.structure(adapted["head"]) == jax.tree.structure(params["head"]):
            moved["head"] = adapted["head"]
        metrics = {"loss": cross_entropy(logits, episode.query_y), "accuracy": accuracy(logits, episode.query_y)}
        return jax.tree.map(jnp.subtract, params, moved), metrics

    solve = make_solve(model, inner, adapt, predict)
    return MetaLearner(init, adapt, predict, solve, outer_step(task_gradient, outer, task_batch, axis))
