"""Masks relaxed from logits, so that the gradient of a loss with respect to the mask moves them.

| name         | mask                                       | the gradient goes through      | published as            |
|--------------|--------------------------------------------|--------------------------------|-------------------------|
| softmax      | softmax(logits / t), small entries pruned  | the mask                       | DARTS, MetaNAS, T-NAS   |
| gumbel       | softmax((logits + g) / t), g ~ Gumbel(0,1) | the mask                       | FBNet, Wu et al. 2019   |
| gumbel_hard  | one-hot at the largest entry of gumbel's   | gumbel's                       | GDAS, Dong & Yang 2019  |
| binary_gates | one-hot, drawn from softmax(logits)        | softmax(logits), of all or two | ProxylessNAS, Cai 2019  |
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.types import Array


class Relaxation(NamedTuple):
    """A way from logits to a mask; logits float32 [E,O] are -inf where a slot has no such choice.

    surrogate(key, logits, temperature) -> float32 [E,O] on the simplex, which the gradient goes through
    harden(key, surrogate) -> the mask float32 [E,O] that the network computes with
    temperature(first, last, share) -> float32 [], the temperature when `share` of the steps, 0 to 1, is done
    moves(key, logits) -> bool [E,O], which logits a step moves
    keeps_mass: whether a step leaves sum exp(logits) over what it moves in a slot as it was
    """

    surrogate: Callable[[Array, Array, Array], Array]
    harden: Callable[[Array, Array], Array]
    temperature: Callable[[float, float, Array], Array]
    moves: Callable[[Array, Array], Array]
    keeps_mass: bool


def linear(first: float, last: float, share: Array) -> Array:
    """Return first + share * (last - first), MetaNAS's annealing (Elsken et al. 2020)."""
    return first + share * (last - first)


def exponential(first: float, last: float, share: Array) -> Array:
    """Return first * (last / first)^share, FBNet's annealing: 5 exp(-0.045 epoch) ends at 0.087 after 90 epochs."""
    return first * (last / first) ** share


def softmax(prune: float = 0.0) -> Relaxation:
    """Return the tempered softmax; entries below `prune`, the largest excepted, are 0 and leave their share to others.

    A pruned choice gets no gradient; it comes back if the other logits fall.
    """

    def surrogate(key: Array, logits: Array, temperature: Array) -> Array:
        del key
        share = jax.nn.softmax(logits / temperature)
        kept = share >= jnp.minimum(prune, share.max(-1, keepdims=True))
        return jax.nn.softmax(jnp.where(kept, logits / temperature, -jnp.inf))

    return Relaxation(surrogate, _as_it_is, linear, _all, False)


def gumbel() -> Relaxation:
    """Return the Gumbel-softmax."""
    return Relaxation(_gumbel, _as_it_is, exponential, _all, False)


def gumbel_hard() -> Relaxation:
    """Return the one-hot Gumbel-softmax with the gradient of the soft one; the mask is a draw from softmax(logits).

    The relaxation is GDAS's. That its temperature falls as FBNet's does is our choice, not the publication's.
    """

    def harden(key: Array, surrogate: Array) -> Array:
        del key
        return jax.nn.one_hot(surrogate.argmax(-1), surrogate.shape[-1])

    return Relaxation(_gumbel, harden, exponential, _all, False)


def binary_gates(mode: str = "full") -> Relaxation:
    """Return ProxylessNAS's gates: dL/dlogit_i = sum_j dL/dgate_j p_j (delta_ij - p_i), from the gates' gradient.

    Args:
        mode: "full": p is the softmax of all logits. "two": two choices a slot are drawn without replacement, p is the
            softmax of their logits alone, only these move, and then both shift so that sum exp(logits) over the pair
            stays (section 3.2.1). The published saving of memory is none here: a folded supernet computes every
            mixture at one price.
    """

    def surrogate(key: Array, logits: Array, temperature: Array) -> Array:
        del temperature
        return jax.nn.softmax(jnp.where(pair(key, logits), logits, -jnp.inf) if mode == "two" else logits)

    def harden(key: Array, surrogate: Array) -> Array:
        drawn = jax.random.categorical(jax.random.fold_in(key, 1), jnp.log(surrogate))
        return jax.nn.one_hot(drawn, surrogate.shape[-1])

    return Relaxation(surrogate, harden, linear, pair if mode == "two" else _all, mode == "two")


def pair(key: Array, logits: Array) -> Array:
    """Return bool [E,O], two different choices a slot drawn by softmax(logits); one where a slot has but one."""
    _, top = jax.lax.top_k(_noisy(key, logits), min(2, logits.shape[-1]))
    chosen = jax.nn.one_hot(top, logits.shape[-1]).sum(-2) > 0
    return chosen & jnp.isfinite(logits)


def _noisy(key: Array, logits: Array) -> Array:
    return logits + jax.random.gumbel(key, logits.shape)


def _gumbel(key: Array, logits: Array, temperature: Array) -> Array:
    return jax.nn.softmax(_noisy(key, logits) / temperature)


def _as_it_is(key: Array, surrogate: Array) -> Array:
    del key
    return surrogate


def _all(key: Array, logits: Array) -> Array:
    del key
    return jnp.isfinite(logits)
