"""MAML and the learners that differ from it in what moves, which derivative is kept and what else is learned."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from atnas_jax.devices import sum_rows
from atnas_jax.meta.adapt import Inner, make_adapt, make_blockwise, make_predict, make_solve
from atnas_jax.meta.distill import Teacher, distillation
from atnas_jax.meta.heads import Head
from atnas_jax.meta.held import stack_norms
from atnas_jax.meta.losses import accuracy, cross_entropy
from atnas_jax.meta.rates import init_rates, init_step_rates
from atnas_jax.meta.scale_shift import NAME, init_scale_shift
from atnas_jax.meta.stages import NEVER, Early, staged, step_weights
from atnas_jax.types import Array, Episode, MetaLearner, MetaState, Model, Params


class Learned(NamedTuple):
    """What is meta-learned besides body and head.

    rate: where Meta-SGD's rates start, one a weight; None: there are none
    step_rate: where the rates of MAML++ start, one a layer and step; None: there are none
    scale_shift: scales and shifts of the kernels, see `scale_shift.py`
    """

    rate: float | None = None
    step_rate: float | None = None
    scale_shift: bool = False


NOTHING_ELSE = Learned()


def init_params(key: Array, model: Model, head: Head, inner: Inner, learned: Learned = NOTHING_ELSE) -> Params:
    """Return the meta-parameters; what is learned besides body and head starts at `learned`."""
    body_key, head_key = jax.random.split(key)
    params = {"body": model.init(body_key), "head": head.init(head_key, model.features)}
    if learned.rate is not None:
        params["rates"] = init_rates(params["body"], model.features, learned.rate)
    if learned.step_rate is not None:
        params["step_rates"] = init_step_rates(params["body"], inner.steps, learned.step_rate)
    if learned.scale_shift:
        params[NAME] = init_scale_shift(params["body"])
    if inner.step_norms:
        params["body"] = stack_norms(params["body"], inner.steps + 1)
    return params


def outer_step(
    task_gradient: Callable[[Params, Array, Episode], tuple[Params, dict[str, Array]]],
    outer: optax.GradientTransformation,
    task_batch: int,
    axis: str | None = None,
) -> Callable[..., tuple[MetaState, dict[str, Array]]]:
    """Return step(state, masks [T,E,O], episodes [T,...]): the mean of task gradients through the outer optimiser.

    Where the loss or the gradient is not finite, only the step moves on, and the metric "skipped" is True.

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
        norm = optax.global_norm(grads)
        finite = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"])
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (optax.apply_updates(state.params, updates), opt_state),
            (state.params, state.opt_state),
        )
        return MetaState(state.step + 1, params, opt_state), metrics | {"gradient_norm": norm, "skipped": ~finite}

    return step


def maml(
    model: Model,
    head: Head,
    ways: int,
    inner: Inner,
    outer: optax.GradientTransformation,
    *,
    learned: Learned = NOTHING_ELSE,
    early: Early = NEVER,
    teacher: Teacher | None = None,
    task_batch: int = 1,
    axis: str | None = None,
) -> MetaLearner:
    """Return MAML: min_theta mean_t L_query(adapt(theta, support_t)) (Finn et al. 2017, eq. 1 and algorithm 2).

    FOMAML is `inner.first_order`, ANIL and BOIL are `inner.adapted`, Meta-SGD is `learned.rate`, MAML++ is the rest.

    Args:
        model: the network.
        head: the head, see `make_head`.
        ways: N of the training episodes.
        inner: the inner loop.
        outer: an optax transform for the meta-parameters.
        learned: what is learned besides body and head.
        early: what the first outer steps do differently.
        teacher: adds in-place distillation to the query loss, see `distillation`; the metric "loss" is without it.
        task_batch: episodes differentiated together.
        axis: the mapped axis of the devices that share the tasks, see `devices.py`; None is one device.
    """
    adapt, predict = make_adapt(model, head, ways, inner), make_predict(model)
    solve = make_solve(model, inner, adapt, predict)
    taught = distillation(solve, teacher)

    def init(key: Array) -> MetaState:
        params = init_params(key, model, head, inner, learned)
        return MetaState(jnp.zeros((), jnp.int32), params, outer.init(params))

    def step(state: MetaState, masks: Array, episodes: Episode) -> tuple[MetaState, dict[str, Array]]:
        def gradient(first_order: bool, every_step: bool) -> Callable:
            now = inner._replace(first_order=first_order or inner.first_order)
            run = make_solve(model, now, make_adapt(model, head, ways, now), predict, every_step)
            weights = step_weights(state.step, inner.steps, early.every_step) if every_step else None
            return jax.grad(lambda *task: query_loss(run, weights, taught, *task), has_aux=True)

        return outer_step(staged(early, gradient, state.step), outer, task_batch, axis)(state, masks, episodes)

    return MetaLearner(init, adapt, predict, solve, step, make_blockwise(model, inner, adapt), inner.padded)


def query_loss(
    solve: Callable[..., Array],
    weights: Array | None,
    taught: Callable[[Params, Episode, Array], Array | float],
    params: Params,
    mask: Array,
    episode: Episode,
) -> tuple[Array, dict[str, Array]]:
    """Return the query loss of one task and its metrics, those after the last step.

    With `weights` float [I], `solve` gives the logits after every step and the loss is the weighted sum over them.
    `taught` is what `distillation` adds.
    """
    logits = solve(params, mask, episode.support_x, episode.support_y, episode.query_x)
    if weights is None:
        loss = total = cross_entropy(logits, episode.query_y)
    else:
        losses = jax.vmap(cross_entropy, in_axes=(0, None))(logits, episode.query_y)
        logits, loss, total = logits[-1], losses[-1], weights @ losses
    return total + taught(params, episode, logits), {"loss": loss, "accuracy": accuracy(logits, episode.query_y)}
