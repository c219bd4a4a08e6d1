"""What the first outer steps do differently: MAML++'s multi-step loss and first-order beginning, in one program."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from atnas_jax.types import Array

FLOOR = 0.03  # least weight of a step that is not the last, as a share of 1/I


class Early(NamedTuple):
    """Until which outer step; 0 is never.

    first_order: second derivatives are dropped (derivative-order annealing)
    every_step: the query loss after every inner step counts (multi-step loss)
    """

    first_order: int = 0
    every_step: int = 0


NEVER = Early()


def step_weights(step: Array, inner_steps: int, until: int) -> Array:
    """Return the weights float32 [I] of the query losses after each inner step.

    Multi-step loss (Antoniou et al. 2019, section 4 and the published code): all begin at 1/I; all but the last fall
    linearly to 0 over `until` outer steps, though never below `FLOOR`/I, and the last takes what they lose.

    Args:
        step: int32 [], the outer step.
        inner_steps: I.
        until: outer steps, at least 1.
    """
    share = jnp.maximum(1.0 - jnp.asarray(step, float) / until, FLOOR) / inner_steps
    weights = jnp.full(inner_steps, share)
    return weights.at[-1].set(1.0 - (inner_steps - 1) * share)


def staged(early: Early, make: Callable[[bool, bool], Callable], step: Array) -> Callable:
    """Return the function that outer step `step` calls; one branch runs, all are compiled.

    Args:
        early: what ends when.
        make: (first order, every step) -> a function of arrays.
        step: int32 [].
    """
    bounds = sorted({bound for bound in early if bound > 0})
    branches = [make(start < early.first_order, start < early.every_step) for start in [0, *bounds]]
    if not bounds:
        return branches[0]
    index = (step >= jnp.asarray(bounds)).sum()
    return lambda *args: lax.switch(index, branches, *args)
