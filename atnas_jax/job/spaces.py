"""The space that a config describes, and the network of it that is made by hand."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from atnas_jax.space import cell, chain
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array


def make_space(config: ConfigDict) -> SearchSpace:
    """Build the search space that a config describes."""
    if config.space.family == "chain":
        given = config.space.chain.to_dict()
        ops = tuple(given.pop("ops"))
        blocks = (ops,) * len(given["strides"]) if isinstance(ops[0], str) else tuple(map(tuple, ops))
        lists = {name: tuple(given[name]) for name in ("widths", "depths", "strides")}
        return chain.chain_space(chain.ChainSpec(ops=blocks, **{**given, **lists}))
    given = config.space.cell.to_dict()
    lists = {name: tuple(given[name]) for name in ("ops", "reductions")}
    return cell.cell_space(cell.CellSpec(**{**given, **lists}))


def hand_made(space: SearchSpace) -> Array:
    """Return the genotype int32 [E] of the hand-made network of a space, Conv4 for a chain of four blocks."""
    return jnp.asarray({"chain": chain, "cell": cell}[space.family].hand_made(space))


def control_space(space: SearchSpace) -> SearchSpace:
    """Return the space whose hand-made network is the control, trained alone: the given one, as a rule.

    A chain of more than four blocks has a hand-made network deeper than Conv4, so its control is in a space of Conv4
    alone: four blocks of 3x3 convolutions of the largest width, each of which halves the image.
    """
    if space.family != "chain" or len(space.spec.ops) <= 4:
        return space
    return chain.chain_space(
        chain.ChainSpec((("conv3",),) * 4, space.spec.widths[-1:], (4,), (2,) * 4, space.spec.downsample)
    )


def check_hand_made(config: ConfigDict, space: SearchSpace) -> None:
    """Raise ValueError, in one line, where a run needs the hand-made network of its space and there is none."""
    users = {"search.anchor to 'never'": config.search.anchor != "never"}
    users["meta_test.conv4 to False"] = config.meta_test.conv4 and control_space(space) is space
    if not any(users.values()):
        return
    try:
        hand_made(space)
    except ValueError as error:
        without = " and ".join(setting for setting, used in users.items() if used)
        raise ValueError(f"{error}; add it, or set {without}") from error
