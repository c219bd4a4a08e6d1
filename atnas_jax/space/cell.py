"""The cell family: normal and reduction cells of B nodes, each node the sum of two ops on two earlier states.

The pairs of inputs are those of MetaNAS (Elsken et al. 2020); the network around the cells is ours. Stem: 3x3
convolution to C channels, norm. Cell k takes the outputs of cells k-1 and k-2 (the stem where there is none). Each of
the two is preprocessed: relu, 1x1 convolution to C channels, norm. A reduction cell strides both by 2 there, and an
input with twice the resolution of the other strides by 2 once more, so all states of a cell have one shape. Node j =
relu(norm(op_a(x_i) + op_b(x_k))), i < k. The output of a cell is its B nodes, concatenated: B*C channels.
"""

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from atnas_jax.space.slots import SearchSpace, check_ops

CELLS = ("normal", "reduce")


@dataclass(frozen=True)
class CellSpec:
    """A stack of cells.

    Args:
        ops: the ops of every edge.
        nodes: B, intermediate nodes of a cell.
        layers: number of cells.
        reductions: indices of the reduction cells, ascending.
        channels: C, channels of every node.
        stem_stride: 1 or 2.
    """

    ops: tuple[str, ...]
    nodes: int
    layers: int
    reductions: tuple[int, ...]
    channels: int
    stem_stride: int = 1


def input_pairs(node: int) -> tuple[tuple[int, int], ...]:
    """Return the pairs of states that node 0..B-1 may take; 0 and 1 are the cell's inputs (k-2, k-1), 2.. its nodes."""
    return tuple(combinations(range(2 + node), 2))


def node_slot(spec: CellSpec, cell: str, node: int) -> int:
    """Return the slot of the inputs of a node; its op_a and op_b are the next two."""
    return 3 * (CELLS.index(cell) * spec.nodes + node)


def cell_space(spec: CellSpec) -> SearchSpace:
    """Return the space with slots "{cell}{node}.inputs", ".op_a" (on the lower state) and ".op_b", per cell and node.

    Raises:
        ValueError: the spec contradicts itself, in one line.
    """
    _check(spec)
    names, choices = [], []
    for cell in CELLS:
        for node in range(spec.nodes):
            names += [f"{cell}{node}.inputs", f"{cell}{node}.op_a", f"{cell}{node}.op_b"]
            choices += [tuple(f"{i}+{k}" for i, k in input_pairs(node)), tuple(spec.ops), tuple(spec.ops)]
    return SearchSpace("cell", spec, tuple(names), tuple(choices))


def hand_made(space: SearchSpace) -> np.ndarray:
    """Return int32 [E]: conv3 on every edge, each node fed by the two states just before it.

    Raises:
        ValueError: conv3 is not among the ops.
    """
    spec = space.spec
    if "conv3" not in spec.ops:
        raise ValueError(f"the hand-made cell needs op 'conv3'; the ops are {', '.join(spec.ops)}")
    conv = spec.ops.index("conv3")
    nodes = [(len(input_pairs(node)) - 1, conv, conv) for node in range(spec.nodes)]
    return np.asarray(nodes * len(CELLS), np.int32).reshape(-1)


def cell_resolutions(spec: CellSpec, height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Return the (height, width) of the stem's output and, after it, of every cell's output: layers + 1 pairs."""

    def down(size: int, stride: int) -> int:
        return -(-size // stride)

    sizes = [(down(height, spec.stem_stride), down(width, spec.stem_stride))]
    for layer in range(spec.layers):
        stride = 2 if layer in spec.reductions else 1
        sizes.append((down(sizes[-1][0], stride), down(sizes[-1][1], stride)))
    return tuple(sizes)


def _check(spec: CellSpec) -> None:
    check_ops(spec.ops, "cell")
    for name in ("nodes", "layers", "channels"):
        if getattr(spec, name) < 1:
            raise ValueError(f"cell: {name} is {getattr(spec, name)}; it must be at least 1")
    if any(layer not in range(spec.layers) for layer in spec.reductions):
        raise ValueError(f"cell: reductions {spec.reductions!r} must be indices of cells, 0 to {spec.layers - 1}")
    if any(a >= b for a, b in pairwise(spec.reductions)):
        raise ValueError(f"cell: reductions {spec.reductions!r} must ascend")
    if spec.stem_stride not in (1, 2):
        raise ValueError(f"cell: stem_stride is {spec.stem_stride}; allowed: 1, 2")
