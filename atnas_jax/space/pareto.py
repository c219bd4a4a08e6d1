"""Non-dominated ranks and crowding distance (Deb et al. 2002, section III). All objectives are maximised."""

import jax
import jax.numpy as jnp

from atnas_jax.types import Array


def dominates(points: Array) -> Array:
    """Return bool [n,n], at [i,j] whether i dominates j: nowhere worse, somewhere better. `points` is float [n,M]."""
    a, b = points[:, None], points[None]
    return jnp.all(a >= b, -1) & jnp.any(a > b, -1)


def pareto_front(points: Array) -> Array:
    """Return bool [n]: which of `points` float [n,M] no other dominates; equal points are all kept."""
    return ~jnp.any(dominates(points), axis=0)


def pareto_ranks(points: Array) -> Array:
    """Return int32 [n], the front of each of `points` float [n,M]: 0 is not dominated, 1 only by front 0, and so on."""
    beats = dominates(points)

    def peel(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        front, ranks = carry
        left = ranks < 0
        free = left & ~jnp.any(beats & left[:, None], axis=0)
        return front + 1, jnp.where(free, front, ranks)

    ranks = jnp.full(points.shape[0], -1, jnp.int32)
    return jax.lax.while_loop(lambda carry: jnp.any(carry[1] < 0), peel, (jnp.int32(0), ranks))[1]


def crowding_distance(points: Array, ranks: Array) -> Array:
    """Return float32 [n], how alone each point is on its own front; the ends of a front are inf.

    Sum over objectives of (next - previous on the front) / (largest - smallest on the front). An objective that is
    constant or not finite on a front adds 0.

    Args:
        points: float [n,M], maximised.
        ranks: int32 [n], from `pareto_ranks`.
    """
    return jax.vmap(_crowding_of_one, in_axes=(1, None))(points, ranks).sum(0)


def _crowding_of_one(values: Array, ranks: Array) -> Array:
    n = values.shape[0]
    order = jnp.lexsort((values, ranks))
    v, r = values[order], ranks[order]
    first = jnp.concatenate([jnp.ones(1, bool), r[1:] != r[:-1]])
    last = jnp.concatenate([r[1:] != r[:-1], jnp.ones(1, bool)])
    span = (jax.ops.segment_max(v, r, n) - jax.ops.segment_min(v, r, n))[r]
    gap = jnp.roll(v, -1) - jnp.roll(v, 1)
    inner = jnp.where(jnp.isfinite(span) & (span > 0), gap / jnp.where(span > 0, span, 1.0), 0.0)
    return jnp.zeros(n, jnp.float32).at[order].set(jnp.where(first | last, jnp.inf, inner))
