"""Ask for more than is wanted, and keep what a cheap score likes best."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from atnas_jax.types import Array, PyTree


def prefilter(ask: Callable[[Array, PyTree], Array], score: Callable[..., Array], factor: int) -> Callable[..., Array]:
    """Return ask(key, state, *given) -> int32 [P,E]: the best P, by score, of what `factor` asks propose.

    As NAS without training helps evolution (Mellor et al. 2021, assisted regularised evolution): the score picks who is
    evaluated. A row that every ask repeats in its place whatever the key, such as an elite or the first population, is
    always kept; a copy of an earlier row comes last. Order is kept, so that elites stay in front, but not places: a
    strategy of `BY_PLACE`, whose `tell` knows a row by its place, cannot be asked so.

    Args:
        ask: of a strategy, (key, state) -> int32 [P,E].
        score: (genotypes int32 [n,E], *given) -> float32 [n], larger is better; NaN is worst.
        factor: how many times as many are proposed, at least 1.

    Raises:
        ValueError: the factor is less than 1.
    """
    if factor < 1:
        raise ValueError(f"search.prefilter_factor is {factor}; it must be 1 or more")

    def asked(key: Array, state: PyTree, *given: PyTree) -> Array:
        proposed = jax.lax.map(lambda k: ask(k, state), jax.random.split(key, factor))
        fixed = (proposed == proposed[0]).all((0, 2)) & (factor > 1)
        rows = proposed.reshape(-1, proposed.shape[-1])
        copies = jnp.tril((rows[:, None] == rows).all(-1), -1).any(-1)
        values = score(rows, *given)
        values = jnp.where(jnp.isnan(values), -jnp.inf, values)
        size = proposed.shape[1]
        first = jnp.concatenate([fixed, jnp.zeros(rows.shape[0] - size, bool)])
        # By kept first, then no copy, then score; lexsort takes the last key first.
        best = jnp.lexsort((-values, copies, ~first))[:size]
        return rows[jnp.sort(best)]

    return asked
