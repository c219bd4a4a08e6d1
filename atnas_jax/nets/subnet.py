"""One genotype as a plain network without masks: exact widths, the chosen ops alone, and how to cut its weights out."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.nets.block import init_norm, normalise, relu
from atnas_jax.nets.cell import cell_inputs, first_edge, init_inputs, init_stem, pick_row, stem_of
from atnas_jax.nets.chain import down, finish, init_block, op_stride
from atnas_jax.nets.elastic import nested_ops, small_op
from atnas_jax.nets.ops import apply_op, init_op
from atnas_jax.nets.pool import max_pool2
from atnas_jax.nets.supernet import check_last_pool, check_maps, check_names, embed, in_dtype
from atnas_jax.space.cell import CELLS, CellSpec, cell_resolutions, input_pairs, node_slot
from atnas_jax.space.chain import DEPTH_SLOT, ChainSpec, chain_resolutions, op_slot, pooled_size, pools_last, width_slot
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, Model, Params, Reference


class Subnet(NamedTuple):
    """A plain network and how it lies in the supernet.

    model: its `apply(params, x, mask=None, reference=None)` ignores the mask; `init(key)` starts it from scratch.
    cut: the supernet's parameters (the learner's "body") -> this network's
    kept: int32 [D'], where this network's embedding lies in the supernet's [D], whose other entries are zero; a head
        {"w": [D,N], "b": [N]} is cut to {"w": w[kept], "b": b}.
    """

    model: Model
    cut: Callable[[Params], Params]
    kept: np.ndarray


class _Plain(NamedTuple):
    """What a family says of one genotype.

    init: key -> parameters
    body: (parameters, x, reference) -> last feature map
    pick: the supernet's parameters -> those of the chosen ops, not yet cut
    places: int [h*w], where the places of the last feature map lie in the supernet's
    own, widest: its channels, here and in the supernet
    """

    init: Callable[[Array], Params]
    body: Callable[[Params, Array, int | None], Array]
    pick: Callable[[Params], Params]
    places: np.ndarray
    own: int
    widest: int


def make_subnet(
    space: SearchSpace,
    genotype: np.ndarray,
    image_shape: tuple[int, int, int],
    *,
    normalisation: str = "support",
    readout: str = "flatten",
    conv: str = "auto",
    dtype: str = "float32",
) -> Subnet:
    """Return the network of one genotype; it computes what the supernet computes under the genotype's mask.

    Args:
        space: a chain or cell space.
        genotype: int32 [E], concrete: the network is built from it.
        image_shape: (H, W, C) of the images.
        normalisation: as of the supernet.
        readout: as of the supernet.
        conv: see `nets/conv.py`.
        dtype: as of the supernet.

    Returns:
        Subnet. The leaves of `cut(params)` and of the head hold as many numbers as `space/cost.py` counts.

    Raises:
        ValueError: an unknown name, a genotype that is not of this space, or maps too small for the normalisation.
    """
    check_names(normalisation, readout, conv, dtype=dtype)
    check_last_pool(space, image_shape, readout)
    genes = _genes(space, genotype)
    chain = space.family == "chain"
    check_maps(space, image_shape, normalisation, space.spec.depths[genes[DEPTH_SLOT]] if chain else None)
    build = {"chain": _plain_chain, "cell": _plain_cell}[space.family]
    plain = build(space.spec, genes, image_shape, normalisation, conv)
    shapes = jax.eval_shape(plain.init, jax.random.key(0))

    def apply(params: Params, x: Array, mask: Array | None = None, reference: Reference = None) -> Array:
        del mask
        return embed(plain.body(params, x, reference), readout)

    def cut(params: Params) -> Params:
        # Narrower networks own the first channels, so cutting a leaf to its new shape is all there is.
        return jax.tree.map(lambda like, leaf: leaf[tuple(map(slice, like.shape))], shapes, plain.pick(params))

    places = plain.places if readout == "flatten" else np.zeros(1, int)
    kept = (places[:, None] * plain.widest + np.arange(plain.own)).reshape(-1).astype(np.int32)
    return Subnet(Model(plain.init, in_dtype(apply, dtype), normalisation, len(kept)), cut, kept)


def _genes(space: SearchSpace, genotype: np.ndarray) -> list[int]:
    genes = np.asarray(genotype)
    if genes.shape != (space.num_slots,) or np.any(genes < 0) or np.any(genes >= np.asarray(space.cards)):
        raise ValueError(f"genotype {genes.tolist()} is outside this space; choices per slot: {list(space.cards)}")
    return genes.tolist()


def _plain_chain(
    spec: ChainSpec, genes: list[int], image_shape: tuple[int, int, int], normalisation: str, conv: str
) -> _Plain:
    depth = spec.depths[genes[DEPTH_SLOT]]
    ops = [spec.ops[block][genes[op_slot(block)]] for block in range(depth)]
    widths = [spec.widths[genes[width_slot(block)]] for block in range(depth)]
    pooled = pools_last(spec, genes)

    def init(key):
        inputs, keys = [image_shape[2], *widths], jax.random.split(key, depth)
        return {f"block{b}": init_block(keys[b], (ops[b],), inputs[b], widths[b], normalisation) for b in range(depth)}

    def body(params, x, reference):
        for block, stride in enumerate(spec.strides):
            if block >= depth:
                x = down(x, spec, stride)
                continue
            own, op, width = params[f"block{block}"], ops[block], widths[block]
            y = apply_op(op, own.get(op, {}), x, width, op_stride(spec, block), conv)
            x = finish(spec, block, y, x, jnp.ones(width, x.dtype), own["norm"], normalisation, reference)
        return max_pool2(x) if pooled else x

    def pick(params):
        picked = {}
        for block, op in enumerate(ops):
            own = params[f"block{block}"]
            if (large := nested_ops(spec.ops[block], spec.elastic_kernel).get(op)) is not None:
                own = own | {op: small_op(own[large], own[op])}
            picked[f"block{block}"] = {name: own[name] for name in (op, "norm") if name in own}
        return picked

    rows, columns = chain_resolutions(spec, *image_shape[:2])[-1]
    places = np.arange(rows * columns).reshape(rows, columns)
    if pooled:
        rows, columns = pooled_size((rows, columns))
        places = places[:rows, :columns]
    return _Plain(init, body, pick, places.reshape(-1), widths[-1], spec.widths[-1])


def _plain_cell(
    spec: CellSpec, genes: list[int], image_shape: tuple[int, int, int], normalisation: str, conv: str
) -> _Plain:
    width, out = spec.channels, spec.nodes * spec.channels
    cells = [chosen_edges(spec, genes, CELLS[layer in spec.reductions]) for layer in range(spec.layers)]

    def init(key):
        stem_key, key = jax.random.split(key)
        params = {"stem": init_stem(stem_key, spec, image_shape[2], normalisation)}
        for layer, nodes in enumerate(cells):
            keys = jax.random.split(jax.random.fold_in(key, layer), (1 + spec.nodes, 2))
            inputs = (out if layer > 1 else width, out if layer > 0 else width)
            own = init_inputs(keys[0, 0], spec, *inputs, normalisation)
            for node, edges in enumerate(nodes):
                a, b = (init_op(keys[1 + node, i], op, width, width) for i, (_, op) in enumerate(edges))
                own[f"node{node}"] = {"a": a, "b": b, "norm": init_norm(width, normalisation)}
            params[f"cell{layer}"] = own
        return params

    def body(params, x, reference):
        before = last = stem_of(params["stem"], spec, x, normalisation, reference, conv)
        for layer, nodes in enumerate(cells):
            cell = params[f"cell{layer}"]
            states = list(cell_inputs(cell, spec, layer, before, last, normalisation, reference, conv))
            for node, edges in enumerate(nodes):
                own = cell[f"node{node}"]
                a, b = (
                    apply_op(op, own[name], states[state], width, 1, conv)
                    for name, (state, op) in zip("ab", edges, strict=True)
                )
                states.append(relu(normalise(a + b, jnp.ones(width, x.dtype), own["norm"], normalisation, reference)))
            before, last = last, jnp.concatenate(states[2:], -1)
        return last

    def pick(params):
        picked = {"stem": params["stem"]}
        for layer, nodes in enumerate(cells):
            cell = params[f"cell{layer}"]
            own = {"before": cell["before"], "last": cell["last"]}
            for node, edges in enumerate(nodes):
                a, b = (pick_row(cell["edges"].get(op, {}), first_edge(spec)[node] + state) for state, op in edges)
                own[f"node{node}"] = {"a": a, "b": b, "norm": pick_row(cell["norms"], node)}
            picked[f"cell{layer}"] = own
        return picked

    rows, columns = cell_resolutions(spec, *image_shape[:2])[-1]
    return _Plain(init, body, pick, np.arange(rows * columns), out, out)


def chosen_edges(spec: CellSpec, genes: list[int], cell: str) -> list[list[tuple[int, str]]]:
    """Return, per node, the (state, op) of its two edges."""
    nodes = []
    for node in range(spec.nodes):
        pair, *ops = genes[node_slot(spec, cell, node) :][:3]
        nodes.append(list(zip(input_pairs(node)[pair], (spec.ops[op] for op in ops), strict=True)))
    return nodes
