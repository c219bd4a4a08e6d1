"""Other encodings of the same network, which NAO augments its pool with (Luo et al. 2018, 1808.07233, and its code).

- **cell**: two neighbouring nodes of which the later does not read the earlier change places. Where a node reads both,
  the lower state comes first in its encoding, so its two ops change places as well: the swap of the two (input, op)
  pairs that NAO names, which alone is no other encoding here. All orders of the nodes are a few such swaps apart.
- **chain**: what is written in the slots of blocks beyond the depth says nothing.

The same network means the same function of weights of its own; in a supernet the two encodings of a cell have weights
in different places, and so different scores. A chain's have the same.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from atnas_jax.space.cell import CELLS, CellSpec, input_pairs
from atnas_jax.space.chain import DEPTH_SLOT, blocks_of_slots
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array


def equivalents(space: SearchSpace) -> Callable[[Array], Array]:
    """Return int32 [n,E] -> int32 [n,A,E], A encodings of each network, its own first and repeated where it has fewer.

    A is 1 + 2(B-1) for a cell space of B nodes, 1 + O for a chain.

    Args:
        space: a chain or cell space.
    """
    return {"chain": _of_chain, "cell": _of_cell}[space.family](space)


def _of_chain(space: SearchSpace) -> Callable[[Array], Array]:
    block_of = blocks_of_slots(space)

    def encodings(genotypes: Array) -> Array:
        depth = jnp.asarray(space.spec.depths)[genotypes[:, DEPTH_SLOT]]
        unread = block_of >= depth[:, None]
        choices = np.arange(space.max_choices)[:, None] % np.asarray(space.cards)
        written = [jnp.where(unread, row, genotypes) for row in choices]
        return jnp.stack([genotypes, *written], axis=1)

    return encodings


def _of_cell(space: SearchSpace) -> Callable[[Array], Array]:
    spec = space.spec

    def encodings(genotypes: Array) -> Array:
        cells = jnp.asarray(genotypes).reshape(-1, len(CELLS), spec.nodes, 3)
        swapped = [
            cells.at[:, cell].set(swap_nodes(spec, cells[:, cell], node)).reshape(genotypes.shape)
            for cell in range(len(CELLS))
            for node in range(spec.nodes - 1)
        ]
        return jnp.stack([genotypes, *swapped], axis=1)

    return encodings


def swap_nodes(spec: CellSpec, rows: Array, node: int) -> Array:
    """Return int32 [n,B,3], cells with `node` and the next one in each other's place, or as they are.

    Args:
        spec: of the cells.
        rows: int32 [n,B,3], per node the number of its pair of inputs, op_a and op_b.
        node: the earlier of the two, 0..B-2; a cell whose later one reads it stays as it is.
    """
    pairs, numbers = _pair_tables(spec)
    places, states, first = np.arange(spec.nodes), np.arange(2 + spec.nodes), 2 + node
    taken = pairs[places, rows[..., 0]]  # [n,B,2]
    free = (taken[:, node + 1] != first).all(-1)
    order = np.where(places == node, node + 1, np.where(places == node + 1, node, places))
    renamed = np.where(states == first, first + 1, np.where(states == first + 1, first, states))
    inputs, ops = jnp.asarray(renamed)[taken[:, order]], rows[:, order, 1:]
    turned = inputs[..., :1] > inputs[..., 1:]
    inputs, ops = (jnp.where(turned, both[..., ::-1], both) for both in (inputs, ops))
    number = numbers[np.arange(spec.nodes), inputs[..., 0], inputs[..., 1]]
    return jnp.where(free[:, None, None], jnp.concatenate([number[..., None], ops], -1), rows).astype(jnp.int32)


def _pair_tables(spec: CellSpec) -> tuple[Array, Array]:
    """Return int [B,pairs,2], the states of each pair of inputs of a node, and int [B,2+B,2+B], the pair's number."""
    pairs = np.zeros((spec.nodes, len(input_pairs(spec.nodes - 1)), 2), np.int32)
    numbers = np.zeros((spec.nodes, 2 + spec.nodes, 2 + spec.nodes), np.int32)
    for node in range(spec.nodes):
        for number, (low, high) in enumerate(input_pairs(node)):
            pairs[node, number], numbers[node, low, high] = (low, high), number
    return jnp.asarray(pairs), jnp.asarray(numbers)


def canonical(space: SearchSpace, genotypes: np.ndarray) -> np.ndarray:
    """Return the same networks as genotypes int32 [n,E] with 0 in the slots of blocks beyond a chain's depth."""
    rows = np.array(genotypes, np.int32)
    if space.family == "chain":
        depths = np.asarray(space.spec.depths)[rows[:, DEPTH_SLOT]]
        rows[blocks_of_slots(space) >= depths[:, None]] = 0
    return rows


def distinct(space: SearchSpace, genotypes: np.ndarray) -> np.ndarray:
    """Return the first genotype of each network of int32 [n,E], in their order."""
    return genotypes[np.sort(np.unique(canonical(space, genotypes), axis=0, return_index=True)[1])]
