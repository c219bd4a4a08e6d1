"""How long the parts of every network of a space take on this device, one table for all genotypes.

A part is a block with its own op alone (op, normalisation, relu, pooling), or one edge of a cell, its inputs, the sum
of a node; it runs many times in one program, so that the call of a program does not count. A network is taken for the
sum of its parts, as in the look-up tables of ProxylessNAS and FBNet; the down-sampling beyond a chain's depth is left
out. What fuses across parts in a whole network is not seen.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.bench.timing import compile_program, in_turns
from atnas_jax.nets.block import init_norm, normalise, relu
from atnas_jax.nets.cell import cell_inputs, init_inputs, init_stem, stem_of
from atnas_jax.nets.chain import finish, init_block, op_stride
from atnas_jax.nets.ops import apply_op, init_op
from atnas_jax.nets.pool import max_pool2
from atnas_jax.nets.supernet import check_last_pool, embed
from atnas_jax.space.cell import CellSpec, cell_resolutions
from atnas_jax.space.chain import ChainSpec, chain_resolutions, pooled_size
from atnas_jax.space.expected import CostTables
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, Params

REPEATS = 16  # runs of a part in one call


class Piece(NamedTuple):
    """A part to be timed: apply(params, *inputs [n,...]) and the shapes [...] of its inputs."""

    apply: Callable[..., Array]
    params: Params
    inputs: tuple[tuple[int, ...], ...]


class Setting(NamedTuple):
    """What all parts of a network share."""

    image_shape: tuple[int, int, int]  # H, W, C
    readout: str = "flatten"
    ways: int = 5
    normalisation: str = "support"
    conv: str = "auto"
    dtype: str = "float32"


def measure(space: SearchSpace, setting: Setting, images: int = 1, rounds: int = 7) -> CostTables:
    """Return milliseconds of the parts of a space's networks, medians over rounds in turns.

    Args:
        space: a chain or cell space.
        setting: of the networks.
        images: n, how many images a network takes at a time.
        rounds: how often each part is timed.

    Raises:
        ValueError: a last pool is no choice in these networks.
    """
    check_last_pool(space, setting.image_shape, setting.readout)
    pieces, assemble = {"chain": _chain, "cell": _cell}[space.family](space.spec, setting)
    runs = {name: _program(piece, images, setting.dtype) for name, piece in pieces.items()}
    taken = in_turns(runs, rounds)
    return assemble({name: 1e3 * float(np.median(seconds)) / REPEATS for name, seconds in taken.items()})


def _program(piece: Piece, images: int, dtype: str) -> Callable[[], Array]:
    rng = np.random.default_rng(0)
    inputs = tuple(jnp.asarray(rng.normal(size=(REPEATS, images, *shape)), dtype) for shape in piece.inputs)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), piece.params)

    def repeated(params, inputs):
        return jax.lax.map(lambda given: piece.apply(params, *given), inputs)

    return compile_program(repeated, (params, inputs)).run


def _head(setting: Setting, shape: tuple[int, ...], pooled: bool = False) -> Piece:
    size, channels = pooled_size(shape[:2]) if pooled else shape[:2], shape[-1]
    features = channels * (int(np.prod(size)) if setting.readout == "flatten" else 1)
    params = {"w": jnp.ones((features, setting.ways)), "b": jnp.zeros(setting.ways)}

    def apply(own, x):
        return embed(max_pool2(x) if pooled else x, setting.readout) @ own["w"] + own["b"]

    return Piece(apply, params, (shape,))


def _chain(spec: ChainSpec, setting: Setting):
    """Return the pieces of a chain by name, and milliseconds by name -> CostTables."""
    sizes, pieces = chain_resolutions(spec, *setting.image_shape[:2]), {}

    def block(number, op, c_in, c_out):
        def apply(own, x):
            stride = op_stride(spec, number)
            y = apply_op(op, own.get(op, {}), x, c_out, stride, setting.conv)
            ones = jnp.ones(c_out, x.dtype)
            return finish(spec, number, y, x, ones, own["norm"], setting.normalisation, None)

        shape = (*sizes[number], c_in)
        return Piece(apply, init_block(jax.random.key(0), (op,), c_in, c_out, setting.normalisation), (shape,))

    def name_of(number, op, c_in, c_out):
        return f"{op} {c_in}-{c_out} {sizes[number]}/{spec.strides[number]}"

    def blocks():
        for number, ops in enumerate(spec.ops):
            inputs = spec.widths if number else setting.image_shape[2:]
            yield number, [[[(number, op, i, o) for o in spec.widths] for i in inputs] for op in ops]

    for _, table in blocks():  # equal parts of several blocks are timed once
        pieces |= {name_of(*each): block(*each) for rows in table for row in rows for each in row}
    ends = {"": False} | ({" after a pool": True} if spec.last_pool else {})
    for end, pooled in ends.items():
        pieces |= {f"head {width}{end}": _head(setting, (*sizes[-1], width), pooled) for width in spec.widths}

    def assemble(ms):
        parts = [[[[ms[name_of(*each)] for each in row] for row in rows] for rows in table] for _, table in blocks()]
        rest = jnp.float32([[ms[f"head {width}{end}"] for end in ends] for width in spec.widths])
        return CostTables(tuple(map(jnp.float32, parts)), rest if spec.last_pool else rest[:, 0])

    return pieces, assemble


def _cell(spec: CellSpec, setting: Setting):
    """Return the pieces of a stack of cells by name, and milliseconds by name -> CostTables."""
    sizes, width, out = cell_resolutions(spec, *setting.image_shape[:2]), spec.channels, spec.nodes * spec.channels
    name, conv, key, pieces = setting.normalisation, setting.conv, jax.random.key(0), {}
    layers = [(layer, int(layer in spec.reductions), sizes[layer + 1]) for layer in range(spec.layers)]

    def edge(op):
        return lambda own, x: apply_op(op, own, x, width, 1, conv)

    def inputs(layer):
        return lambda own, before, last: cell_inputs(own, spec, layer, before, last, name, None, conv)

    def node(own, x):
        return relu(normalise(x, jnp.ones(width, x.dtype), own, name, None))

    stem = init_stem(key, spec, setting.image_shape[2], name)
    pieces["stem"] = Piece(lambda own, x: stem_of(own, spec, x, name, None, conv), stem, (setting.image_shape,))
    for layer, _, size in layers:
        before, last = (width if layer < 2 else out), (width if layer < 1 else out)
        shapes = ((*sizes[max(layer - 1, 0)], before), (*sizes[layer], last))
        pieces[f"inputs {layer}"] = Piece(inputs(layer), init_inputs(key, spec, before, last, name), shapes)
        pieces[f"node {size}"] = Piece(node, init_norm(width, name), ((*size, width),))
        for op in spec.ops:
            pieces[f"{op} {size}"] = Piece(edge(op), init_op(key, op, width, width), ((*size, width),))
    pieces["head"] = _head(setting, (*sizes[-1], out))

    def assemble(ms):
        parts = np.zeros((2, len(spec.ops)))
        for _, kind, size in layers:
            parts[kind] += [ms[f"{op} {size}"] for op in spec.ops]
        rest = ms["stem"] + ms["head"]
        rest += sum(ms[f"inputs {layer}"] + spec.nodes * ms[f"node {size}"] for layer, _, size in layers)
        return CostTables(tuple(map(jnp.float32, parts)), jnp.float32(rest))

    return pieces, assemble
