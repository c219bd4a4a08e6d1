"""The largest and the smallest network of a space, and the stages in which the choices between them open."""

import numpy as np

from atnas_jax.space.cost import op_weights
from atnas_jax.space.slots import SearchSpace

KINDS = ("op", "depth", "width", "inputs", "pool")  # of slots, by their names
_EXTENT = {"conv5": 5, "sep5": 5, "dil3": 5, "conv3": 3, "sep3": 3, "max3": 3, "avg3": 3}  # of a window, dilated


def slot_kind(name: str) -> str:
    """Return the kind of a slot of this name, one of `KINDS`."""
    return next(kind for kind in KINDS if kind in name)


def size_of(kind: str, choice: str) -> tuple[int, ...]:
    """Return what choices of one slot are ordered by, ascending.

    An op by the extent of its window, then by its weights at equal channels, "none" below all; depth and width by
    their number; the inputs of a node by how late they are; no last pool after one, as its embedding is larger.
    """
    if kind == "op":
        return (0 if choice == "none" else _EXTENT.get(choice, 1), op_weights(choice, 32, 32))
    if kind == "pool":
        return (int(choice == "none"),)
    return tuple(int(number) for number in reversed(choice.split("+")))


def largest(space: SearchSpace) -> np.ndarray:
    """Return int32 [E], in every slot the largest choice by `size_of`, the first of equals.

    In a chain that is the largest op extent, full width and full depth: the teacher of in-place distillation (Yu et al.
    2020, BigNAS, 3.1; Cai et al. 2020, Once-for-All, 3.3).
    """
    return _extreme(space, largest_first=True)


def smallest(space: SearchSpace) -> np.ndarray:
    """Return int32 [E], in every slot the smallest choice by `size_of`; "none" only where there is nothing else."""
    return _extreme(space, largest_first=False)


def _extreme(space: SearchSpace, largest_first: bool) -> np.ndarray:
    genotype = []
    for name, choices in zip(space.names, space.choices, strict=True):
        kind = slot_kind(name)
        useful = [choice for choice in choices if choice != "none" or kind == "pool"] or list(choices)
        best = (max if largest_first else min)(useful, key=lambda choice, kind=kind: size_of(kind, choice))
        genotype.append(choices.index(best))
    return np.asarray(genotype, np.int32)


def opening_stages(space: SearchSpace, order: tuple[str, ...]) -> np.ndarray:
    """Return bool [G,E,O]: which choices are allowed in each stage of progressive shrinking (Cai et al. 2020, 3.3).

    Stage 0 has the largest choice alone in every slot whose kind is in `order`; slots of other kinds are open from the
    start. Then the kinds open one after the other, and within a kind one size a stage, from large to small: ops by the
    extent of their window (all of one extent together), depth and width by their number. What is open stays open; the
    last stage has everything.

    Args:
        space: a chain or cell space.
        order: kinds, first to open first, such as ("op", "depth", "width"); one that no slot has adds no stage.

    Raises:
        ValueError: a kind is unknown or named twice.
    """
    kinds = [slot_kind(name) for name in space.names]
    if odd := [kind for kind in order if kind not in KINDS or order.count(kind) > 1]:
        raise ValueError(f"search.progressive {order!r} has {odd[0]!r} twice or unknown; allowed: {', '.join(KINDS)}")
    now = np.arange(space.max_choices) < np.asarray(space.cards)[:, None]
    staged = np.isin(kinds, order)
    now[staged] = np.arange(space.max_choices) == largest(space)[staged, None]
    stages = [now]
    for kind in order:
        slots = [slot for slot, own in enumerate(kinds) if own == kind]
        sizes = {slot: [size_of(kind, choice)[0] for choice in space.choices[slot]] for slot in slots}
        for limit in sorted({size for own in sizes.values() for size in own}, reverse=True):
            opened = stages[-1].copy()
            for slot, own in sizes.items():
                opened[slot, : len(own)] |= np.asarray(own) >= limit
            if (opened != stages[-1]).any():
                stages.append(opened)
    return np.stack(stages)
