"""Limits by repair: a genotype that costs too much is made cheaper slot by slot, instead of being drawn again."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.space.slots import SearchSpace, choice_mask
from atnas_jax.types import Array, Strategy

Repair = Callable[[Array], Array]  # int32 [n,E] -> int32 [n,E]


def cheaper(space: SearchSpace, cost: Callable[[Array], Array], limit: float) -> Repair:
    """Return the repair that changes one slot after the other until cost <= limit.

    Of all changes of one slot it takes the dearest that keeps the limit; while none does, the cheapest. Where no change
    is cheaper it stops, and the genotype stays beyond the limit, to be told -inf.

    Args:
        space: of the genotypes.
        cost: int32 [n,E] -> float [n]; inf for what must not be.
        limit: of the cost.
    """
    slot, choice = (jnp.asarray(places, jnp.int32) for places in np.nonzero(choice_mask(space)))

    def one(genotype: Array) -> Array:
        def step(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            now, paid, _ = carry
            near = jnp.where(jnp.arange(space.num_slots) == slot[:, None], choice[:, None], now)
            costs = cost(near)
            fits = costs <= limit
            wanted = jnp.argmax(jnp.where(fits.any(), jnp.where(fits, costs, -jnp.inf), -costs))
            lower = costs[wanted] < paid
            return jnp.where(lower, near[wanted], now), jnp.where(lower, costs[wanted], paid), lower

        def goes_on(carry: tuple[Array, Array, Array]) -> Array:
            return (carry[1] > limit) & carry[2]

        return jax.lax.while_loop(goes_on, step, (genotype, cost(genotype[None])[0], jnp.bool_(True)))[0]

    return jax.vmap(one)


def repaired(strategy: Strategy, repair: Repair) -> Strategy:
    """Return the strategy with all that it asks repaired; it must be told what was asked, as always."""
    return strategy._replace(ask=lambda key, state: repair(strategy.ask(key, state)))
