"""One genotype as a plain network: exact widths, only the chosen ops, no mask, and its weights cut out of the supernet."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.nets.block import init_norm, normalise, relu
from atnas_jax.nets.cell import cell_inputs, first_edge, init_unit, stem
from atnas_jax.nets.chain import down, finish, init_block, op_stride
from atnas_jax.nets.ops import apply_op, init_op
from atnas_jax.nets.supernet import check_names, embed
from atnas_jax.space.cell import CELLS, cell_resolutions, input_pairs, node_slot
from atnas_jax.space.chain import DEPTH_SLOT, chain_resolutions, op_slot, width_slot
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, Model, Params


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
    """A family's part: init(key) and body(params, x, reference) -> feature map; pick(params) -> the weights, uncut."""

    init: Callable[[Array], Params]
    body: Callable[[Params, Array, int | None], Array]
    pick: Callable[[Params], Params]
    size: tuple[int, int]  # height and width of the last feature map
    channels: tuple[int, int]  # of the last feature map: this network's, the supernet's


def make_subnet(
    space: SearchSpace,
    genotype: np.ndarray,
    image_shape: tuple[int, int, int],
    *,
    normalisation: str = "support",
    readout: str = "flatten",
    conv: str = "auto",
) -> Subnet:
    """Return the network of one genotype; it computes what the supernet computes under the genotype's mask.

    Args:
        space: a chain or cell space.
        genotype: int32 [E], concrete: the network is built from it.
        image_shape: (H, W, C) of the images.
        normalisation: as of the supernet.
        readout: as of the supernet.
        conv: see `nets/conv.py`.

    Returns:
        Subnet. The leaves of `cut(params)` and of the head hold as many numbers as `space/cost.py` counts.

    Raises:
        ValueError: an unknown name, or a genotype that is not of this space.
    """
    check_names(normalisation, readout, conv)
    genes = _genes(space, genotype)
    build = {"chain": _plain_chain, "cell": _plain_cell}[space.family]
    plain = build(space.spec, genes, image_shape, normalisation, conv)
    shapes = jax.eval_shape(plain.init, jax.random.key(0))

    def apply(params: Params, x: Array, mask: Array | None = None, reference: int | None = None) -> Array:
        del mask
        return embed(plain.body(params, x, reference), readout)

    def cut(params: Params) -> Params:
        # Narrower networks own the first channels, so cutting a leaf to its new shape is all there is.
        return jax.tree.map(lambda like, leaf: leaf[tuple(map(slice, like.shape))], shapes, plain.pick(params))

    (h, w), (own, widest) = plain.size, plain.channels
    area = h * w if readout == "flatten" else 1
    kept = (np.arange(area)[:, None] * widest + np.arange(own)).reshape(-1).astype(np.int32)
    return Subnet(Model(plain.init, apply, normalisation, len(kept)), cut, kept)


def _genes(space: SearchSpace, genotype: np.ndarray) -> list[int]:
    genes = np.asarray(genotype)
    if genes.shape != (space.num_slots,) or np.any(genes < 0) or np.any(genes >= np.asarray(space.cards)):
        raise ValueError(f"genotype {genes.tolist()} is outside this space; choices per slot: {list(space.cards)}")
    return genes.tolist()


def _plain_chain(spec, genes, image_shape, normalisation, conv) -> _Plain:
    depth = spec.depths[genes[DEPTH_SLOT]]
    ops = [spec.ops[block][genes[op_slot(block)]] for block in range(depth)]
    widths = [spec.widths[genes[width_slot(block)]] for block in range(depth)]
    inputs = [image_shape[2], *widths]

    def init(key):
        keys = jax.random.split(key, depth)
        return {f"block{b}": init_block(keys[b], (ops[b],), inputs[b], widths[b]) for b in range(depth)}

    def body(params, x, reference):
        for block, stride in enumerate(spec.strides):
            if block >= depth:
                x = down(x, spec, stride)
                continue
            own, op, width = params[f"block{block}"], ops[block], widths[block]
            y = apply_op(op, own.get(op, {}), x, width, op_stride(spec, block), conv)
            x = finish(spec, block, y, x, jnp.ones(width, x.dtype), own["norm"], normalisation, reference)
        return x

    def pick(params):
        names = [(f"block{block}", {op, "norm"}) for block, op in enumerate(ops)]
        return {block: {name: params[block][name] for name in own & params[block].keys()} for block, own in names}

    size = chain_resolutions(spec, *image_shape[:2])[-1]
    return _Plain(init, body, pick, size, (widths[-1], spec.widths[-1]))


def _plain_cell(spec, genes, image_shape, normalisation, conv) -> _Plain:
    width, out = spec.channels, spec.nodes * spec.channels
    cells = [_cell_edges(spec, genes, CELLS[layer in spec.reductions]) for layer in range(spec.layers)]

    def init(key):
        stem_key, *keys = jax.random.split(key, 1 + spec.layers)
        params = {"stem": init_unit(stem_key, 3, image_shape[2], width)}
        for layer, edges in enumerate(cells):
            before, last, *rest = jax.random.split(keys[layer], 2 + len(edges))
            params[f"cell{layer}"] = {
                "before": init_unit(before, 1, out if layer > 1 else width, width),
                "last": init_unit(last, 1, out if layer > 0 else width, width),
                "edges": [init_op(k, op, width, width) for k, (_, op, _) in zip(rest, edges, strict=True)],
                "norms": jax.tree.map(lambda leaf: jnp.stack([leaf] * spec.nodes), init_norm(width)),
            }
        return params

    def cell(params, inputs, edges, reference):
        states = list(inputs)
        terms = [apply_op(op, {}, 0, 0, 0, conv) for _, op, _ in ()]
        return states, terms

    def body(params, x, reference):
        before = last = stem(params["stem"], spec, x, normalisation, reference, conv)
        for layer, edges in enumerate(cells):
            own = params[f"cell{layer}"]
            states = list(cell_inputs(own, spec, layer, before, last, normalisation, reference, conv))
            for node in range(spec.nodes):
                both = range(2 * node, 2 * node + 2)
                total = sum(apply_op(edges[e][1], own["edges"][e], states[edges[e][0]], width, 1, conv) for e in both)
                norm = jax.tree.map(lambda leaf, node=node: leaf[node], own["norms"])
                states.append(relu(normalise(total, jnp.ones(width, x.dtype), norm, normalisation, reference)))
            before, last = last, jnp.concatenate(states[2:], -1)
        return last

    return None
