"""The inner loop: a few differentiable optimiser steps on the support set."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from atnas_jax.types import Array, Params, PyTree

REMAT_ABOVE = 2  # inner steps, of a loop that is differentiated twice and looked at in its end alone
REMAT_ANY_ABOVE = 10  # of every other


def inner_loop(
    loss: Callable[[Params], Array],
    params: Params,
    optimiser: optax.GradientTransformation,
    steps: int | Array,
    *,
    first_order: bool = False,
    remat: bool | None = None,
) -> Params:
    """Return params after `steps` updates: p_{i+1} = p_i + optimiser(grad loss(p_i)) (MAML, Finn et al. 2017, eq. 1).

    With a traced number of steps one program serves every number, but the loop has no reverse-mode derivative.

    Args:
        loss: params -> scalar, the support loss.
        params: what the inner loop moves.
        optimiser: any optax transform.
        steps: I; an int, or an int32 [] where nothing differentiates through the loop.
        first_order: treat the inner gradients as constants (FOMAML, Finn et al. 2017, section 5.2).
        remat: compute each step again in the backward pass, so that the memory of a gradient through the loop is flat
            in `steps`. None: above `REMAT_ABOVE` steps, from where on the benchmark's second-order steps take no longer
            by it on a CPU (0.98 to 1.12 times as fast) and up to three times less memory; of first order, or with
            `after`, which would be computed again too, above `REMAT_ANY_ABOVE`.

    Returns:
        The adapted params, differentiable with respect to the given ones.
    """
    return numbered_loop(lambda p, _: loss(p), params, optimiser, steps, first_order=first_order, remat=remat)[0]


def numbered_loop(
    loss: Callable[[Params, Array], Array],
    params: Params,
    optimiser: optax.GradientTransformation,
    steps: int | Array,
    *,
    after: Callable[[Params, Array], PyTree] | None = None,
    first_order: bool = False,
    remat: bool | None = None,
) -> tuple[Params, PyTree]:
    """Return what `inner_loop` does of a loss that takes the number of the step, and what is seen after each step.

    Args:
        loss: (params, step int32 []) -> scalar.
        params, optimiser, steps, first_order, remat: as in `inner_loop`.
        after: (params, steps taken int32 []) -> a pytree of arrays; needs a static number of steps, at least 1.

    Returns:
        (the adapted params, the pytree of `after` with a leading I; None without it).
    """
    if is_zero(steps):
        return params, None

    def step(carry, number):
        params, state = carry
        grads = jax.grad(loss)(params, number)
        grads = jax.lax.stop_gradient(grads) if first_order else grads
        updates, state = optimiser.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), None if after is None else after(params, number + 1)

    start = (params, optimiser.init(params))
    if not isinstance(steps, int):
        return jax.lax.fori_loop(0, steps, lambda i, carry: step(carry, i)[0], start)[0], None
    remat = recomputes(steps, first_order, after is not None) if remat is None else remat
    (params, _), seen = jax.lax.scan(jax.checkpoint(step) if remat else step, start, jnp.arange(steps))
    return params, seen


def recomputes(steps: int, first_order: bool, looks: bool = False) -> bool:
    """Return whether a loop that is not told computes its steps again; `looks` is whether it has an `after`."""
    return steps > (REMAT_ANY_ABOVE if first_order or looks else REMAT_ABOVE)


def settling_loop(
    loss: Callable[[Params, Array], Array],
    params: Params,
    optimiser: optax.GradientTransformation,
    steps: int | Array,
    tolerance: float,
) -> tuple[Params, Array]:
    """Return what `numbered_loop` does but for the steps after the loss has settled, and how many were taken.

    No step follows one whose own gradient found the loss below `tolerance`, less than that below the loss of the step
    before, or not finite; so nothing is computed only to decide. It has no reverse-mode derivative, and under vmap it
    takes as long as its longest row.

    Args:
        loss, params, optimiser: as in `numbered_loop`.
        steps: the most, an int or an int32 [].
        tolerance: in units of the loss, above 0.

    Returns:
        (the adapted params, steps taken int32 []).
    """

    def going(carry):
        _, _, number, _, room = carry
        return (number < steps) & (room >= tolerance)

    def step(carry):
        params, state, number, before, _ = carry
        now, grads = jax.value_and_grad(loss)(params, number)
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state, number + 1, now, jnp.minimum(before - now, now)

    endless = jnp.full((), jnp.inf, jax.eval_shape(loss, params, jnp.int32(0)).dtype)
    params, _, taken, _, _ = jax.lax.while_loop(
        going, step, (params, optimiser.init(params), jnp.int32(0), endless, endless)
    )
    return params, taken


def is_zero(steps: int | Array) -> bool:
    """Return whether it is known before running that there is no step."""
    return isinstance(steps, int) and steps == 0
