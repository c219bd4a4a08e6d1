"""What a predictor is, what it is trained on, and how it is used alone: fit, predict, climb its slope.

PNAS, BANANAS and Once-for-All rank candidates by a predictor, NAO climbs one, a Gaussian process adds its doubt: they
differ in the predictor and in the proposer alone, so any of the one goes with any of the other.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.types import Array, PyTree

TARGETS = ("rank", "minmax")
Equivalents = Callable[[Array], Array]  # int32 [n,E] -> int32 [n,A,E], A encodings of each network


class Predictor(NamedTuple):
    """A regression from genotypes to fitness as pure functions; n rows may hold fewer, `filled` says which.

    init(key, n) -> fitted, before it has seen any fitness
    fit(key, fitted, genotypes int32 [n,E], fitness float32 [n], filled bool [n]) -> fitted
    encode(fitted, genotypes int32 [c,E]) -> codes float32 [c,E,D]
    mean(fitted, codes [c,E,D]) -> float32 [c], in units of `to_targets`; differentiable in the codes
    decode(fitted, codes [c,E,D]) -> int32 [c,E]
    deviation(fitted, codes [c,E,D]) -> float32 [c], of the posterior of the mean; None where there is none
    """

    init: Callable[[Array, int], PyTree]
    fit: Callable[..., PyTree]
    encode: Callable[..., Array]
    mean: Callable[..., Array]
    decode: Callable[..., Array]
    deviation: Callable[..., Array] | None


def fit_to(key: Array, predictor: Predictor, genotypes: Array, fitness: Array) -> PyTree:
    """Return `predictor` fitted to genotypes int32 [n,E] and their fitness float32 [n], from a fresh start."""
    key_init, key_fit = jax.random.split(key)
    fitted = predictor.init(key_init, genotypes.shape[0])
    return predictor.fit(key_fit, fitted, genotypes, fitness, jnp.ones(genotypes.shape[0], bool))


def predict(predictor: Predictor, fitted: PyTree, genotypes: Array) -> Array:
    """Return the predicted fitness float32 [c] of genotypes int32 [c,E], in units of `to_targets`."""
    return predictor.mean(fitted, predictor.encode(fitted, genotypes))


def climb(predictor: Predictor, fitted: PyTree, genotypes: Array) -> Callable[[Array | float], Array]:
    """Return eta -> genotypes int32 [c,E], those that the predictor's slope leads to (NAO, 1808.07233, 3.2).

    h_t' = normalise(h_t + eta * df/dh_t) for all slots t at once, the slope f' being taken at eta = 0; then decode.
    """
    codes = predictor.encode(fitted, genotypes)
    slope = jax.grad(lambda codes: predictor.mean(fitted, codes).sum())(codes)
    return lambda eta: predictor.decode(fitted, unit(codes + eta * slope))


def unit(x: Array) -> Array:
    """Return x of length 1 along the last axis; zero stays zero, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def to_targets(kind: str, fitness: Array, filled: Array) -> Array:
    """Return what a predictor learns, float32 [n] from 0 (worst) to 1 (best), 0 in rows that are not filled.

    Args:
        kind: "rank": the share of the other rows that are worse, ties by halves; "minmax": fitness scaled linearly, as
            NAO published it. A few failures of very low fitness then leave the good end no room.
        fitness: float32 [n]; -inf counts as the worst finite one under "minmax".
        filled: bool [n].
    """
    if kind == "rank":
        worse = (fitness < fitness[:, None]) + 0.5 * (fitness == fitness[:, None])
        # A row ties with itself, hence the half.
        below = jnp.where(filled, worse, 0).sum(-1) - 0.5
        return jnp.where(filled, below / jnp.maximum(filled.sum() - 1, 1), 0).astype(jnp.float32)
    finite = filled & jnp.isfinite(fitness)
    low = jnp.min(jnp.where(finite, fitness, jnp.inf))
    span = jnp.max(jnp.where(finite, fitness, -jnp.inf)) - low
    return jnp.where(finite & (span > 0), (fitness - low) / jnp.where(span > 0, span, 1), 0).astype(jnp.float32)


def check_targets(kind: str) -> None:
    """Raise ValueError unless `kind` is one of `TARGETS`."""
    if kind not in TARGETS:
        raise ValueError(f"targets={kind!r} is unknown; allowed: {', '.join(TARGETS)}")


def pairwise_accuracy(predicted: Array, fitness: Array) -> Array:
    """Return the share of pairs of unequal fitness that `predicted` orders right, ties by halves; float32 [].

    Args:
        predicted: float32 [n], in any unit.
        fitness: float32 [n].
    """
    better = fitness[:, None] > fitness
    right = (predicted[:, None] > predicted) + 0.5 * (predicted[:, None] == predicted)
    return jnp.where(better, right, 0).sum() / better.sum()
