"""Reptile and Leap: first-order learners that look at where the inner loop went, not through it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from atnas_jax.meta.adapt import Inner, Task, make_adapt, make_predict, make_solve, make_task
from atnas_jax.meta.heads import Head
from atnas_jax.meta.losses import accuracy, cross_entropy
from atnas_jax.meta.maml import init_params, outer_step
from atnas_jax.types import Array, Episode, MetaLearner, MetaState, Model, Params


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
        params = init_params(key, model, head, inner)
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
    step = outer_step(task_gradient, outer, task_batch, axis)
    return MetaLearner(init, adapt, predict, solve, step, padded=inner.padded)


class PathLength(NamedTuple):
    """Which length Leap shortens.

    loss: the path runs over the loss surface, (theta, L(theta)), not over the parameters alone
    norm: a segment counts by its length; without, by half its square (the energy of the path)
    """

    loss: bool = True
    norm: bool = True


LENGTH = PathLength()


def leap(
    model: Model,
    head: Head,
    ways: int,
    inner: Inner,
    outer: optax.GradientTransformation,
    *,
    length: PathLength = LENGTH,
    task_batch: int = 1,
    axis: str | None = None,
) -> MetaLearner:
    """Return Leap: the meta-parameters from which the tasks' inner loops are shortest (Flennerhag et al. 2019).

    The gradient of a task is sum_i [(theta_i - theta_{i+1}) - dL_i grad L(theta_i)] / l_i (eq. 7 with the identity for
    the Jacobian), with dL_i = -|L(theta_{i+1}) - L(theta_i)|, so that a step which raises the loss pulls no other way,
    and l_i = sqrt(|theta_{i+1} - theta_i|^2 + dL_i^2). Without both it is Reptile's theta_0 - theta_I. The head takes
    part when it is a matrix, as in `reptile`. Nothing differentiates through the loop, whose memory is flat in I.

    Args: as in `maml`; `inner.steps` is static.
    """
    adapt, predict = make_adapt(model, head, ways, inner), make_predict(model)
    make = make_task(model, head, ways, inner)

    def init(key: Array) -> MetaState:
        params = init_params(key, model, head, inner)
        return MetaState(jnp.zeros((), jnp.int32), params, outer.init(params))

    def task_gradient(params: Params, mask: Array, episode: Episode) -> tuple[Params, dict[str, Array]]:
        task = make(params, mask, episode.support_x, episode.support_y)
        parts = ["body"]
        if jax.tree.structure(task.start["head"]) == jax.tree.structure(params["head"]):
            parts.append("head")
        fast, found = path_gradient(task, inner.steps, parts, length)
        adapted = task.whole(fast, inner.steps)
        logits = predict(adapted, mask, episode.support_x, episode.query_x)
        metrics = {"loss": cross_entropy(logits, episode.query_y), "accuracy": accuracy(logits, episode.query_y)}
        return jax.tree.map(jnp.zeros_like, params) | found, metrics

    solve = make_solve(model, inner, adapt, predict)
    step = outer_step(task_gradient, outer, task_batch, axis)
    return MetaLearner(init, adapt, predict, solve, step, padded=inner.padded)


def path_gradient(task: Task, steps: int, parts: list[str], length: PathLength) -> tuple[Params, Params]:
    """Return the adapted parameters of a task, and Leap's gradient by those of its start that `parts` names."""
    value_and_grad = jax.value_and_grad(task.loss)

    def chosen(fast):
        return {name: fast[name] for name in parts}

    def step(carry, number):
        fast, state, (value, grads), total = carry
        updates, state = task.optimiser.update(grads, state, fast)
        moved = optax.apply_updates(fast, updates)
        after = value_and_grad(moved, number + 1)
        segment, drop = jax.tree.map(jnp.subtract, chosen(fast), chosen(moved)), -jnp.abs(after[0] - value)
        drop = drop if length.loss else jnp.zeros_like(drop)
        scale = 1.0
        if length.norm:
            square = optax.tree.norm(segment, squared=True) + jnp.square(drop)
            scale = jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1.0)), 0.0)
        add = jax.tree.map(lambda t, d, g: t + scale * (d - drop * g), total, segment, chosen(grads))
        return (moved, state, after, add), None

    start = task.start
    carry = (start, task.optimiser.init(start), value_and_grad(start, 0), jax.tree.map(jnp.zeros_like, chosen(start)))
    (fast, _, _, total), _ = jax.lax.scan(step, carry, jnp.arange(steps))
    return fast, total
