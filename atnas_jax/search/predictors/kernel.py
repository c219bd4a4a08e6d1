"""Kernel ridge regression on one-hot slots: a ridge on slots and pairs of slots, and a Gaussian process.

Both look at genotypes through how many slots agree, m. The inner product of one-hot slots is m, that of all one-hot
pairs of slots is m(m-1)/2: a ridge on both features needs no more than an [n,n] system, whatever the space. The
evidence sets its strength (MacKay 1992), so nothing has to be tuned to the noise of an evaluation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

from atnas_jax.search.checks import check_range
from atnas_jax.search.predictors.base import Predictor, check_targets, to_targets
from atnas_jax.space.slots import SearchSpace, genotype_of, mask_of
from atnas_jax.types import Array

Kernel = Callable[[Array, Array], Array]  # agreeing slots m [...] and a parameter [] -> covariance [...], 1 at m = E


class KernelFit(NamedTuple):
    """The posterior of a Gaussian process with covariance scale^2 * kernel and noise scale^2 * noise."""

    rows: Array  # int32 [n,E], what it was fitted to
    filled: Array  # bool [n]
    weights: Array  # float32 [n], (K + noise I)^-1 (y - centre); 0 where not filled
    factor: Array  # float32 [n,n], the lower Cholesky factor of K + noise I
    centre: Array  # float32 [], mean of the targets
    scale: Array  # float32 [], deviation of the prior
    parameter: Array  # float32 [], of the kernel


def ridge(space: SearchSpace, *, penalties: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)) -> Predictor:
    """Return ridge regression on one-hot slots and all pairs of slots, in closed form.

    Kernel (m + m(m-1)/2) / (E + E(E-1)/2) with m agreeing slots.

    Args:
        space: of the genotypes.
        penalties: of the squared weights, relative to the kernel's diagonal; the evidence picks one per fit.

    Raises:
        ValueError: no penalty, or one that is not positive.
    """

    def kernel(agreeing: Array, parameter: Array) -> Array:
        return agreeing * (1 + agreeing) / (space.num_slots * (1 + space.num_slots))

    return _kernel_predictor(space, kernel, (1.0,), penalties, "rank")


def gp(
    space: SearchSpace,
    *,
    lengths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0),
    noises: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0),
    targets: str = "rank",
) -> Predictor:
    """Return a Gaussian process with covariance exp(-(E-m) / (length * E)), m of the E slots agreeing.

    That is the radial basis function of the distance between one-hot genotypes.

    Args:
        space: of the genotypes.
        lengths: share of the slots whose change takes the covariance to 1/e; the evidence picks one per fit.
        noises: variance of the noise relative to the prior's; the evidence picks one per fit.
        targets: see `base.to_targets`.

    Raises:
        ValueError: no length or noise, or one that is not positive; unknown targets.
    """

    def kernel(agreeing: Array, length: Array) -> Array:
        return jnp.exp((agreeing / space.num_slots - 1) / length)

    return _kernel_predictor(space, kernel, lengths, noises, targets)


def _kernel_predictor(
    space: SearchSpace, kernel: Kernel, parameters: tuple[float, ...], noises: tuple[float, ...], kind: str
) -> Predictor:
    check_targets(kind)
    for name, values in (("lengths", parameters), ("penalties or noises", noises)):
        check_range(f"number of {name}", len(values), 1, None)
        check_range(f"smallest of {name}", min(values), 1e-6, None)
    grid = jnp.asarray([(p, n) for p in parameters for n in noises], jnp.float32)

    def agreeing(codes: Array, rows: Array) -> Array:
        return jnp.einsum("ceo,neo->cn", codes, mask_of(space, rows))

    def init(key: Array, n: int) -> KernelFit:
        rows, zeros = jnp.full((n, space.num_slots), -1, jnp.int32), jnp.zeros(n, jnp.float32)
        return KernelFit(rows, zeros > 0, zeros, jnp.eye(n), jnp.float32(0.5), jnp.float32(1), grid[0, 0])

    def fit(key: Array, fitted: KernelFit, genotypes: Array, fitness: Array, filled: Array) -> KernelFit:
        y, count = to_targets(kind, fitness, filled), jnp.maximum(filled.sum(), 1)
        centre = y.sum() / count
        y = jnp.where(filled, y - centre, 0)
        shared = agreeing(mask_of(space, genotypes), genotypes)
        both = filled[:, None] & filled

        def try_one(setting: Array) -> tuple[Array, KernelFit]:
            # Rows that are not filled are independent of all others and of variance 1: they add 0 to every sum below.
            covariance = jnp.where(both, kernel(shared, setting[0]), 0)
            factor = jnp.linalg.cholesky(covariance + jnp.diag(jnp.where(filled, setting[1], 1)))
            weights = cho_solve((factor, True), y)
            variance = jnp.maximum(y @ weights / count, 1e-12)
            evidence = -0.5 * count * jnp.log(variance) - jnp.log(jnp.diag(factor)).sum()
            found = KernelFit(genotypes, filled, weights, factor, centre, jnp.sqrt(variance), setting[0])
            return jnp.where(jnp.isfinite(evidence), evidence, -jnp.inf), found

        # One after the other: jaxlib's batched Cholesky waits inside XLA's own pool for threads of that pool, so two
        # devices that factorise at the same moment wait for ever.
        evidence, found = jax.lax.map(try_one, grid)
        return jax.tree.map(lambda leaf: leaf[jnp.argmax(evidence)], found)

    def covariances(fitted: KernelFit, codes: Array) -> Array:
        return jnp.where(fitted.filled, kernel(agreeing(codes, fitted.rows), fitted.parameter), 0)

    def mean(fitted: KernelFit, codes: Array) -> Array:
        return fitted.centre + covariances(fitted, codes) @ fitted.weights

    def deviation(fitted: KernelFit, codes: Array) -> Array:
        explained = solve_triangular(fitted.factor, covariances(fitted, codes).T, lower=True)
        return fitted.scale * jnp.sqrt(jnp.maximum(1 - jnp.square(explained).sum(0), 0))

    def encode(fitted: KernelFit, genotypes: Array) -> Array:
        return mask_of(space, genotypes)

    def decode(fitted: KernelFit, codes: Array) -> Array:
        return genotype_of(space, codes)

    return Predictor(init, fit, encode, mean, decode, deviation)
