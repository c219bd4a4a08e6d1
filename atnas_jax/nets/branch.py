"""One of several functions run, and one of several derivatives."""

from collections.abc import Callable, Sequence

import jax
from jax import lax

from atnas_jax.types import Array, PyTree


def run_branch(index: Array, branches: Sequence[Callable[..., PyTree]], operands: tuple[PyTree, ...]) -> PyTree:
    """Return branches[index](*operands), reverse mode only; its derivative is a branch again, at every order.

    Under differentiation `lax.switch` would hand the residuals of all branches on, those not taken filled with zeros.
    Here a derivative keeps the operands alone and computes its own branch again.

    Args:
        index: int32 [], which branch; one outside is clamped.
        branches: pure functions of the operands that return arrays of the same shapes and close over no traced value.
        operands: pytrees of float arrays.
    """

    @jax.custom_vjp
    def run(index, operands):
        return lax.switch(index, branches, *operands)

    def backward(kept, cotangent):
        index, operands = kept
        derivatives = [lambda given, y, branch=branch: jax.vjp(branch, *given)[1](y) for branch in branches]
        return None, run_branch(index, derivatives, (operands, cotangent))

    run.defvjp(lambda index, operands: (run(index, operands), (index, operands)), backward)
    return run(index, operands)
