"""When a run puts the channels of its supernet in order: before narrower widths open, see `nets/reorder.py`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from atnas_jax.meta.adapt import first_body
from atnas_jax.nets.reorder import channel_groups, channel_orders, movable, reordered
from atnas_jax.search.sampling import width_openings
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import MetaState


def reordering(config: ConfigDict, space: SearchSpace) -> Callable[[MetaState], MetaState]:
    """Return meta -> the same, with its channels in order if a narrower width opens at its outer step.

    Raises:
        ValueError: search.reorder_channels is set, and there is nothing to put in order or no moment to do it.
    """
    search = config.search
    if not search.reorder_channels:
        return lambda meta: meta
    if problem := _problem(config, space):
        raise ValueError(f"search.reorder_channels {problem}")
    groups = channel_groups(space, _head_has_weights(config))
    openings = jnp.asarray(_openings(config, space), jnp.int32)

    def at_openings(meta: MetaState) -> MetaState:
        def reorder(meta):
            return reordered(meta, channel_orders(space, first_body(meta.params, config.learner.step_norms), groups))

        return jax.lax.cond(jnp.isin(meta.step, openings), reorder, lambda meta: meta, meta)

    return at_openings


def _openings(config: ConfigDict, space: SearchSpace) -> tuple[int, ...]:
    opened = round(config.search.open_by * config.train.steps)
    return width_openings(space, tuple(config.search.progressive), opened)


def _head_has_weights(config: ConfigDict) -> bool:
    return config.learner.head in ("vector", "matrix") or config.learner.name == "meta_sgd"


def _problem(config: ConfigDict, space: SearchSpace) -> str:
    if space.family != "chain":
        return f"sorts channels that have widths; space.family {space.family!r} has none, take 'chain'"
    if config.search.sampler != "progressive" or not _openings(config, space):
        return (
            "sorts channels before narrower widths open; take search.sampler 'progressive', 'width' in "
            "search.progressive, two of space.chain.widths or more, and search.open_by above 0"
        )
    if config.net.normalisation == "group":
        return "would move channels between the groups of net.normalisation 'group'; take another one"
    if not movable(space, channel_groups(space, _head_has_weights(config))):
        return (
            "finds no channels to sort: ops without weights, residuals and heads with weights keep the order of "
            "theirs; take a first block of convolutions alone, space.chain.residual False and head 'prototypes'"
        )
    return ""
