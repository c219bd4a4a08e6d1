"""A search space as slots: each slot of a genotype picks one of a few named choices."""

import math
from collections.abc import Hashable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.types import Array

# conv: dense; dil3: 3x3, dilation 2; sep: depthwise then pointwise, nothing between; avg3: by 9, at borders too.
OPS = ("conv1", "conv3", "conv5", "dil3", "sep3", "sep5", "max3", "avg3", "identity", "none")


@dataclass(frozen=True)
class SearchSpace:
    """A static, hashable product of slots.

    Args:
        family: "chain" or "cell".
        spec: the `ChainSpec` or `CellSpec` that the slots were made from; this file does not look inside.
        names: the names of the E slots.
        choices: per slot, the names of its choices.
    """

    family: str
    spec: Hashable
    names: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]

    @property
    def cards(self) -> tuple[int, ...]:
        """How many choices each slot has."""
        return tuple(len(names) for names in self.choices)

    @property
    def num_slots(self) -> int:
        """E."""
        return len(self.names)

    @property
    def max_choices(self) -> int:
        """O, the largest number of choices over slots."""
        return max(self.cards)

    @property
    def size(self) -> int:
        """How many genotypes there are; several may mean one network."""
        return math.prod(self.cards)


def choice_mask(space: SearchSpace) -> np.ndarray:
    """Return bool [E,O]: which entries of a mask are choices, the others being padding."""
    return np.arange(space.max_choices) < np.asarray(space.cards)[:, None]


def mask_of(space: SearchSpace, genotype: Array) -> Array:
    """Return the one-hot mask float32 [...,E,O] of genotypes int32 [...,E]; padding is zero."""
    return jax.nn.one_hot(genotype, space.max_choices, dtype=jnp.float32)


def genotype_of(space: SearchSpace, mask: Array) -> Array:
    """Return the likeliest genotype int32 [...,E] of a mask [...,E,O]; padding is never picked."""
    return jnp.argmax(jnp.where(choice_mask(space), mask, -jnp.inf), axis=-1).astype(jnp.int32)


def uniform_mask(space: SearchSpace) -> Array:
    """Return the mask float32 [E,O] that mixes all choices of a slot equally."""
    real = choice_mask(space)
    return jnp.asarray(real / real.sum(-1, keepdims=True), jnp.float32)


def random_genotypes(key: Array, space: SearchSpace, n: int) -> Array:
    """Return n genotypes int32 [n,E], each slot uniform and independent."""
    return jax.random.randint(key, (n, space.num_slots), 0, jnp.asarray(space.cards, jnp.int32), jnp.int32)


def slot_groups(space: SearchSpace, groups: int) -> np.ndarray:
    """Return int32 [E], the number of the group of each slot: consecutive slots, sizes that differ by 1 at most."""
    parts = np.array_split(np.arange(space.num_slots), groups)
    return np.repeat(np.arange(groups, dtype=np.int32), [part.size for part in parts])


def check_ops(ops: tuple[str, ...], where: str) -> None:
    """Raise ValueError unless `ops` are distinct, known and at least one."""
    unknown = [op for op in ops if op not in OPS]
    if unknown:
        raise ValueError(f"{where}: unknown op {unknown[0]!r}; allowed: {', '.join(OPS)}")
    if not ops or len(set(ops)) != len(ops):
        raise ValueError(f"{where}: {ops!r} must name at least one op, and none twice")
