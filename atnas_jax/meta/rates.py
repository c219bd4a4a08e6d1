"""Learned inner rates: one a weight (Meta-SGD), or one a layer and step (MAML++)."""

import jax
import jax.numpy as jnp
import optax

from atnas_jax.types import Array, Params


def init_rates(body: Params, features: int, rate: float) -> Params:
    """Return Meta-SGD's learned rates at their start: {"body", "head": {"w": [D], "b": []}}, one value a weight."""
    like = {"body": body, "head": {"w": jnp.zeros(features), "b": jnp.zeros(())}}
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, rate), like)


def init_step_rates(body: Params, steps: int, rate: float) -> Params:
    """Return learned rates a layer and step at their start, [I] for each leaf of {"body", "head": {"w", "b"}}.

    A leaf is a layer: the kernel of one op of a block, or of one op on all edges of a cell.
    """
    return jax.tree.map(lambda _: jnp.full(steps, rate), {"body": body, "head": {"w": 0, "b": 0}})


def with_rates(
    optimiser: optax.GradientTransformation, params: Params, moving: tuple[str, ...], ways: int
) -> optax.GradientTransformation:
    """Return the inner optimiser with the learned rates of what moves, if `params` has any."""
    if "step_rates" in params:
        return scaled_by_step(optimiser, {name: params["step_rates"][name] for name in moving})
    return scaled(optimiser, rates_for(params, moving, ways))


def rates_for(params: Params, moving: tuple[str, ...], ways: int) -> Params | None:
    """Return the learned rates of what moves, the head's one column repeated for every class, or None."""
    if "rates" not in params:
        return None
    rates = {name: params["rates"][name] for name in moving}
    if "head" in rates:
        rates["head"] = {"w": jnp.tile(rates["head"]["w"][:, None], (1, ways)), "b": jnp.tile(rates["head"]["b"], ways)}
    return rates


def scaled(optimiser: optax.GradientTransformation, rates: Params | None) -> optax.GradientTransformation:
    """Return the optimiser with its updates multiplied by `rates`, a pytree like the params; None changes nothing."""
    if rates is None:
        return optimiser

    def update(updates, state, params=None):
        del params
        return jax.tree.map(jnp.multiply, updates, rates), state

    return optax.chain(optimiser, optax.GradientTransformation(lambda params: optax.EmptyState(), update))


def scaled_by_step(optimiser: optax.GradientTransformation, rates: Params) -> optax.GradientTransformation:
    """Return the optimiser with the updates of step i multiplied by row i of `rates`.

    Learned per-layer per-step rates, LSLR (Antoniou et al. 2019, section 4): theta_{i+1} = theta_i - a_i grad_i, with
    its own a_i for every layer.

    Args:
        optimiser: an optax transform.
        rates: a pytree like the params, [I] each; steps past I take the last row.
    """

    def update(updates, step: Array, params=None):
        del params
        row = jax.tree.map(lambda rate: rate[jnp.minimum(step, rate.shape[0] - 1)], rates)
        return jax.tree.map(jnp.multiply, updates, row), step + 1

    own = optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)
    return optax.chain(optimiser, own)
