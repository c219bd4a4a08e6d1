"""Meta-weight averaging: an exponential moving average of the meta-parameters, which is what is then evaluated."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from atnas_jax.types import Array, MetaState, Params, PyTree


class AveragedState(NamedTuple):
    """What `averaged` carries; it is part of `MetaState.opt_state`, and so of every checkpoint."""

    count: Array  # int32 [], updates seen
    mean: Params  # the average of the parameters, debiased
    inner: PyTree  # of the optimiser itself


def averaged(optimiser: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Return the same optimiser, which keeps a debiased average of what its updates lead to.

    m_t = m_{t-1} + (1-d)/(1-d^t) (p_t - m_{t-1}), that is (1-d) sum_i d^{t-i} p_i / (1-d^t): averaging of iterates
    (Polyak & Juditsky 1992) with weights that decay, and the correction for its start of Kingma & Ba 2015, section 3.

    Args:
        optimiser: an optax transform.
        decay: d in 0..1, exclusive; the average reaches back about 1/(1-d) updates.
    """

    def init(params: Params) -> AveragedState:
        return AveragedState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.array, params), optimiser.init(params))

    def update(updates, state, params):
        updates, inner = optimiser.update(updates, state.inner, params)
        count = state.count + 1
        share = (1 - decay) / -jnp.expm1(count * math.log(decay))
        new = optax.apply_updates(params, updates)
        mean = jax.tree.map(lambda m, p: (m + share * (p - m)).astype(m.dtype), state.mean, new)
        return updates, AveragedState(count, mean, inner)

    return optax.GradientTransformation(init, update)


def evaluated(state: MetaState) -> Params:
    """Return the meta-parameters that are evaluated and saved: the average where one is kept, else the last ones."""
    return state.opt_state.mean if isinstance(state.opt_state, AveragedState) else state.params
