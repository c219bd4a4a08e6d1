"""The inner loop: a few differentiable optimiser steps on the support set."""

from collections.abc import Callable

import jax
import optax

from atnas_jax.types import Array, Params

REMAT_ABOVE = 10  # inner steps, whose residuals are still small: 3 MB a step for Conv4 on five 28x28 images


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
            in `steps`; a second-order step takes up to 1.7 times as long. None: where steps > `REMAT_ABOVE`.

    Returns:
        The adapted params, differentiable with respect to the given ones.
    """
    if is_zero(steps):
        return params

    def step(carry, _):
        params, state = carry
        grads = jax.grad(loss)(params)
        grads = jax.lax.stop_gradient(grads) if first_order else grads
        updates, state = optimiser.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    start = (params, optimiser.init(params))
    if not isinstance(steps, int):
        return jax.lax.fori_loop(0, steps, lambda _, carry: step(carry, None)[0], start)[0]
    remat = steps > REMAT_ABOVE if remat is None else remat
    return jax.lax.scan(jax.checkpoint(step) if remat else step, start, length=steps)[0][0]


def is_zero(steps: int | Array) -> bool:
    """Return whether it is known before running that there is no step."""
    return isinstance(steps, int) and steps == 0
