"""Leaves of a body that the inner loop does not move, and norms that differ from step to step.

A leaf is told by the names on its path, which are those of `nets/`: "norm" and "norms" hold the parameters of norms, of
which those that begin with "task_" are TaskNorm's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from atnas_jax.types import Array, Params

Where = Callable[[tuple], bool]  # path of a leaf -> whether it is meant


def in_norm(path: tuple) -> bool:
    """Return whether a leaf belongs to a norm."""
    return any(part in jax.tree_util.keystr(path) for part in ("['norm']", "['norms']"))


def of_task_norm(path: tuple) -> bool:
    """Return whether a leaf weighs TaskNorm's statistics.

    Such a number, which its own step would multiply by the square of the number of images, is learned outside alone.
    """
    return "['task_" in jax.tree_util.keystr(path)


def any_leaf(body: Params, where: Where) -> bool:
    """Return whether any leaf is meant."""
    return any(where(path) for path, _ in jax.tree_util.tree_leaves_with_path(body))


def hold(body: Params, source: Params, where: Where) -> Params:
    """Return `body` with the leaves that are meant taken from `source`: a gradient by `body` then leaves them out."""
    return jax.tree_util.tree_map_with_path(lambda path, a, b: b if where(path) else a, body, source)


def stack_norms(body: Params, rows: int) -> Params:
    """Return a body whose norms have one row a step, float [rows,...] each, all the same at the start."""

    def one(path, leaf):
        return jnp.broadcast_to(leaf, (rows, *leaf.shape)) if in_norm(path) else leaf

    return jax.tree_util.tree_map_with_path(one, body)


def norms_of_step(body: Params, step: int | Array) -> Params:
    """Return the plain body of one inner step of a body of `stack_norms`; steps past the last take the last row.

    Per-step scales and biases (Antoniou et al. 2019, section 4, BNWB): row i serves the loss of step i, the last row
    the queries.
    """

    def one(path, leaf):
        return leaf[jnp.minimum(step, leaf.shape[0] - 1)] if in_norm(path) else leaf

    return jax.tree_util.tree_map_with_path(one, body)
