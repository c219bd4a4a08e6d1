"""The score-function estimator as a value: the shared piece of all searches that move a distribution by its samples."""

import jax
import jax.numpy as jnp

from atnas_jax.types import Array


def expectation(values: Array, logp: Array) -> Array:
    """Return the mean of `values`, with the gradient of the expectation that the samples stand for.

    mean_i v_i exp(l_i - stop(l_i)): the value is the plain mean, as the ratio is exactly 1; the gradient is
    mean_i (dv_i + v_i dl_i), the score-function estimator plus what `values` itself depends on (EvoGrad, Uber 2019; the
    "magic box" of DiCE, Foerster et al. 2018, 1802.05098). Differentiate it for REINFORCE or evolution strategies;
    apply it to squared deviations for the variance of a population's behaviour, and so on.

    Args:
        values: float [n,...], of n samples.
        logp: float [n], log-probability of each under the distribution that it was drawn from.
    """
    ratio = jnp.exp(logp - jax.lax.stop_gradient(logp))
    return jnp.mean(values * ratio.reshape(ratio.shape + (1,) * (values.ndim - 1)), axis=0)
