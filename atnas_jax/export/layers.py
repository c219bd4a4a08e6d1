"""From one genotype and the weights cut out for it to the layers of `reader.py`, which every format is written from."""

from collections.abc import Mapping

import numpy as np

from atnas_jax.export.reader import Layer
from atnas_jax.nets.norm import EPSILON, GROUP
from atnas_jax.nets.ops import CONV_SIZE, POOLS, SEPARABLE_SIZE
from atnas_jax.nets.subnet import chosen_edges
from atnas_jax.space.cell import CELLS, CellSpec, cell_resolutions
from atnas_jax.space.chain import DEPTH_SLOT, ChainSpec, chain_resolutions, op_slot, pools_last, width_slot
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Params

Part = tuple[list[Layer], str]  # layers, and the name of what comes out of them


def make_layers(
    space: SearchSpace,
    genotype: np.ndarray,
    body: Params,
    head: Params | None,
    *,
    image_shape: tuple[int, int, int],
    normalise: tuple[tuple[float, ...], tuple[float, ...]],
    normalisation: str,
    readout: str,
) -> tuple[Layer, ...]:
    """Return the layers of a network; normalisations by a support take the batch for it, see `bake`.

    Args:
        space: a chain or cell space.
        genotype: int32 [E].
        body: weights of the plain subnet, of `Subnet.cut`.
        head: {"w": [D,N], "b": [N]} of the plain subnet's embedding, or None: the embedding is the output.
        image_shape: (H, W, C).
        normalise: mean and deviation per channel, of x/255.
        normalisation, readout: as of the supernet.
    """
    mean, deviation = (np.asarray(value, np.float32) for value in normalise)
    first = Layer("pixels", "pixels", ("images",), {}, {"mean": mean, "deviation": deviation})
    family = {"chain": _chain, "cell": _cell}[space.family]
    layers, last = family(space.spec, np.asarray(genotype).tolist(), body, image_shape, normalisation)
    end = [_plain("embedding", {"flatten": "flatten", "mean": "mean"}[readout], last)]
    if head is not None:
        end.append(Layer("logits", "linear", ("embedding",), {}, _arrays(head)))
    return (first, *layers, *end)


def _chain(spec: ChainSpec, genes: list[int], params: Params, image_shape: tuple[int, int, int], name: str) -> Part:
    depth, x, have, layers = spec.depths[genes[DEPTH_SLOT]], "pixels", image_shape[2], []
    sizes = chain_resolutions(spec, *image_shape[:2])
    for block, stride in enumerate(spec.strides):
        at = f"block{block}"
        passed, down = _down(at, spec, stride, sizes[block], x)
        if block >= depth:
            layers, x = layers + passed, down
            continue
        op, own = spec.ops[block][genes[op_slot(block)]], params[at]
        width = spec.widths[genes[width_slot(block)]]
        striding = stride if spec.downsample == "stride" else 1
        new, out = _op(f"{at}/{op}", op, own.get(op, {}), x, have, width, striding)
        layers += [*new, _norm(f"{at}/norm", out, own["norm"], name), _plain(f"{at}/relu", "relu", f"{at}/norm")]
        out = f"{at}/relu"
        if stride == 2 and spec.downsample == "pool":
            layers.append(_max2(f"{at}/pool", sizes[block], out))
            out = f"{at}/pool"
        if spec.residual:
            cut, kept = _channels(f"{at}/input", down, have, width)
            layers += [*passed, *cut, _plain(f"{at}/sum", "add", out, kept)]
            out = f"{at}/sum"
        x, have = out, width
    if pools_last(spec, genes):
        layers.append(_max2("last/pool", sizes[-1], x))
        x = "last/pool"
    return layers, x


def _down(at: str, spec: ChainSpec, stride: int, size: tuple[int, int], x: str) -> Part:
    if stride == 1:
        return [], x
    if spec.downsample == "stride":
        return [_plain(f"{at}/down", "every2", x)], f"{at}/down"
    return [_max2(f"{at}/down", size, x)], f"{at}/down"


def _cell(spec: CellSpec, genes: list[int], params: Params, image_shape: tuple[int, int, int], name: str) -> Part:
    sizes = cell_resolutions(spec, *image_shape[:2])
    layers, before = _unit("stem", params["stem"], "pixels", spec.stem_stride, name)
    last = before
    for layer in range(spec.layers):
        at, own, stride = f"cell{layer}", params[f"cell{layer}"], 2 if layer in spec.reductions else 1
        further = 1 if sizes[max(layer - 1, 0)] == sizes[layer] else 2  # that of the input before the last
        states = []
        for which, x, by in (("before", before, stride * further), ("last", last, stride)):
            layers.append(_plain(f"{at}/{which}/relu", "relu", x))
            new, out = _unit(f"{at}/{which}", own[which], f"{at}/{which}/relu", by, name)
            layers, states = layers + new, [*states, out]
        for node, edges in enumerate(chosen_edges(spec, genes, CELLS[layer in spec.reductions])):
            new, out = _node(f"{at}/node{node}", edges, own[f"node{node}"], states, spec.channels, name)
            layers, states = layers + new, [*states, out]
        layers.append(_plain(f"{at}/nodes", "concat", *states[2:]))
        before, last = last, f"{at}/nodes"
    return layers, last


def _node(at: str, edges: list[tuple[int, str]], own: Params, states: list[str], width: int, name: str) -> Part:
    layers, sides = [], []
    for side, (state, op) in zip("ab", edges, strict=True):
        new, out = _op(f"{at}/{side}/{op}", op, own[side], states[state], width, width, 1)
        layers, sides = layers + new, [*sides, out]
    layers += [_plain(f"{at}/sum", "add", *sides), _norm(f"{at}/norm", f"{at}/sum", own["norm"], name)]
    return [*layers, _plain(f"{at}/relu", "relu", f"{at}/norm")], f"{at}/relu"


def _unit(at: str, own: Params, x: str, stride: int, name: str) -> Part:
    conv = Layer(f"{at}/conv", "conv", (x,), {"stride": stride, "dilation": 1}, _arrays({"kernel": own["kernel"]}))
    return [conv, _norm(f"{at}/norm", conv.name, own["norm"], name)], f"{at}/norm"


def _op(at: str, op: str, own: Params, x: str, have: int, width: int, stride: int) -> Part:
    """Return a candidate op, as `nets.ops.apply_op` computes it."""
    if op in CONV_SIZE:
        return [Layer(at, "conv", (x,), {"stride": stride, "dilation": 1 + (op == "dil3")}, _arrays(own))], at
    if op in SEPARABLE_SIZE:
        depthwise = Layer(
            f"{at}/depthwise", "depthwise", (x,), {"stride": stride}, _arrays({"kernel": own["depthwise"]})
        )
        point = _arrays({"kernel": own["pointwise"]})
        return [depthwise, Layer(at, "conv", (depthwise.name,), {"stride": 1, "dilation": 1}, point)], at
    layers = []
    if op in POOLS:
        layers, x = [Layer(at, op, (x,), {"stride": stride}, {})], at
    elif stride == 2:
        layers, x = [_plain(f"{at}/every2", "every2", x)], f"{at}/every2"
    cut, x = _channels(f"{at}/channels", x, have, width)
    layers += cut
    return (layers, x) if op != "none" else ([*layers, _plain(at, "zeros", x)], at)


def _channels(at: str, x: str, have: int, width: int) -> Part:
    return ([], x) if have == width else ([Layer(at, "channels", (x,), {"channels": width}, {})], at)


def _max2(at: str, size: tuple[int, int], x: str) -> Layer:
    return Layer(at, "max2", (x,), {"rows": min(2, size[0]), "columns": min(2, size[1])}, {})


def _norm(at: str, x: str, own: Params, name: str) -> Layer:
    width = len(own["scale"])
    kind = {
        "support": {"kind": "batch"},
        "batch_transductive": {"kind": "batch"},
        "tasknorm": {"kind": "task"},
        "instance": {"kind": "group", "size": 1},
        "group": {"kind": "group", "size": GROUP},
        "layer": {"kind": "group", "size": width},
    }[name]
    return Layer(at, "norm", (x,), kind | {"epsilon": EPSILON}, _arrays(own))


def _plain(at: str, op: str, *inputs: str) -> Layer:
    return Layer(at, op, inputs, {}, {})


def _arrays(arrays: Mapping[str, object]) -> dict[str, np.ndarray]:
    return {role: np.asarray(value, np.float32) for role, value in arrays.items()}
