"""The optimiser of the meta-parameters that a config describes."""

import jax
import optax
from ml_collections import ConfigDict

from atnas_jax.meta.average import averaged
from atnas_jax.meta.scale_shift import freeze_after
from atnas_jax.types import Params, PyTree


def outer_schedule(config: ConfigDict) -> optax.Schedule:
    """Return step -> learning rate of the outer optimiser."""
    rate, steps = config.train.outer_lr, config.train.steps
    return {"cosine": optax.cosine_decay_schedule(rate, float(steps)), "constant": optax.constant_schedule(rate)}[
        config.train.schedule
    ]


def outer_optimiser(config: ConfigDict) -> optax.GradientTransformation:
    """Return the optimiser of the meta-parameters: clipping, Adam (SGD for Reptile), decay and average as they are set.

    Weight decay is decoupled (Loshchilov & Hutter 2019, algorithm 2) and spares norms, rates and the temperature.
    """
    train, rate = config.train, outer_schedule(config)
    parts = [optax.clip(train.clip_elements)] if train.clip_elements else []
    parts += [optax.clip_by_global_norm(train.clip)] if train.clip else []
    if config.learner.name == "reptile":
        parts += [optax.sgd(rate)]
    else:
        decay = train.weight_decay
        parts += [optax.adamw(rate, weight_decay=decay, mask=is_kernel) if decay else optax.adam(rate)]
    outer = optax.chain(*parts)
    outer = freeze_after(outer, config.learner.freeze_after) if config.learner.name == "mtl" else outer
    return averaged(outer, train.ema) if train.ema else outer


def is_kernel(params: Params) -> PyTree:
    """Return which leaves weigh the inputs of a convolution, as a pytree of bool."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[0].key == "body" and path[-1].key in ("kernel", "depthwise", "pointwise"), params
    )
