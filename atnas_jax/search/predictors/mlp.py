"""A perceptron on one-hot slots, the accuracy predictor of Once-for-All (Cai et al. 2020, 3.4)."""

import jax.numpy as jnp

from atnas_jax.search.checks import check_range
from atnas_jax.search.predictors.base import Predictor, check_targets, to_targets
from atnas_jax.search.predictors.training import adam, gaussian, minimise, perceptron, squashed
from atnas_jax.space.slots import SearchSpace, choice_mask, genotype_of, mask_of
from atnas_jax.types import Array, Params

CLIP = 5.0


def mlp(
    space: SearchSpace,
    *,
    width: int = 128,
    layers: int = 2,
    fit_steps: int = 300,
    batch: int = 64,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-4,
    targets: str = "rank",
) -> Predictor:
    """Return a perceptron on one-hot slots: the squared error of a sigmoid output, by Adam; a refit goes on training.

    Once-for-All takes 3 layers of 400 for 16,000 evaluations; the defaults are for hundreds.

    Args:
        space: of the genotypes.
        width, layers: of the hidden layers.
        fit_steps: steps of Adam per fit.
        batch: rows of a step.
        learning_rate, weight_decay: of Adam.
        targets: see `base.to_targets`.

    Raises:
        ValueError: a number below 1, or unknown targets.
    """
    check_targets(targets)
    for name, value in (("width", width), ("layers", layers), ("fit_steps", fit_steps), ("batch", batch)):
        check_range(name, value, 1, None)
    real = choice_mask(space)

    def init(key: Array, n: int) -> Params:
        return gaussian(key, perceptron((real.size, *(width,) * layers, 1)))

    def mean(fitted: Params, codes: Array) -> Array:
        return squashed(fitted, (codes * real).reshape(codes.shape[0], -1))

    def fit(key: Array, fitted: Params, genotypes: Array, fitness: Array, filled: Array) -> Params:
        goal, masks = to_targets(targets, fitness, filled), mask_of(space, genotypes)

        def loss(params: Params, rows: Array) -> Array:
            return jnp.square(mean(params, masks[rows]) - goal[rows]).mean()

        optimiser = adam(learning_rate, fit_steps, weight_decay, CLIP)
        return minimise(key, loss, fitted, filled, steps=fit_steps, batch=batch, optimiser=optimiser)

    def encode(fitted: Params, genotypes: Array) -> Array:
        return mask_of(space, genotypes)

    def decode(fitted: Params, codes: Array) -> Array:
        return genotype_of(space, codes)

    return Predictor(init, fit, encode, mean, decode, None)
