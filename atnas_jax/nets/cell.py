"""The masked supernet of the cell family, see `space/cell.py` for how cells are wired."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.nets.block import init_norm, normalise, relu
from atnas_jax.nets.conv import conv
from atnas_jax.nets.ops import chosen_op, he_normal, init_ops, mixed_op
from atnas_jax.space.cell import CellSpec, input_pairs, node_slot
from atnas_jax.types import Array, Params, Reference


class CellSupernet(nn.Module):
    """All stacks of cells of a space in one set of weights; attributes as in `ChainSupernet`."""

    spec: CellSpec
    normalisation: str
    execution: str
    implementation: str

    @nn.compact
    def __call__(self, x: Array, mask: Array, reference: Reference = None) -> Array:
        """Map images [n,H,W,C] under a mask [E,O] to the last feature map [n,h,w,B*C]."""
        spec = self.spec
        stem = self.param("stem", init_stem, spec, x.shape[-1], self.normalisation)
        before = last = stem_of(stem, spec, x, self.normalisation, reference, self.implementation)
        self.sow("intermediates", "relus", (relu(last), jnp.ones(last.shape[-1])))
        for layer in range(spec.layers):
            params = self.param(f"cell{layer}", init_cell, spec, before.shape[-1], last.shape[-1], self.normalisation)
            inputs = cell_inputs(params, spec, layer, before, last, self.normalisation, reference, self.implementation)
            cell = "reduce" if layer in spec.reductions else "normal"
            rows = mask[node_slot(spec, cell, 0) :][: 3 * spec.nodes].reshape(spec.nodes, 3, -1)
            run = self._chosen_cell if self.execution == "switch" else self._mixed_cell
            before, last = last, run(params, inputs, rows, reference)
            self.sow("intermediates", "relus", (last, jnp.ones(last.shape[-1])))
        return last

    def _chosen_cell(self, params, inputs, rows, reference):
        """Scan over the nodes, so that a cell compiles each op twice and not once an edge."""
        spec = self.spec
        ones = jnp.ones(spec.channels, inputs[0].dtype)
        states = jnp.concatenate([jnp.stack(inputs), jnp.zeros((spec.nodes, *inputs[0].shape), inputs[0].dtype)])
        pairs, first = jnp.asarray(pair_table(spec)), jnp.asarray(first_edge(spec))

        def node(states, at):
            j, row, norm = at
            pair = pairs[j, jnp.argmax(row[0])]
            total = 0.0
            for side in range(2):
                weights, ops = pick_row(params["edges"], first[j] + pair[side]), row[1 + side, : len(spec.ops)]
                total += chosen_op(spec.ops, weights, ops, states[pair[side]], spec.channels, 1, self.implementation)
            new = relu(normalise(total, ones, norm, self.normalisation, reference))
            return states.at[2 + j].set(new), None

        states, _ = jax.lax.scan(node, states, (jnp.arange(spec.nodes), rows, params["norms"]))
        return jnp.concatenate(list(states[2:]), -1)

    def _mixed_cell(self, params, inputs, rows, reference):
        """Fold every edge into one convolution, weighted by how likely the edge and its ops are."""
        spec, states = self.spec, list(inputs)
        for j in range(spec.nodes):
            pairs = np.asarray(input_pairs(j))
            total = 0.0
            for i in range(2 + j):
                likely = [(rows[j, 0, : len(pairs)] * (pairs[:, side] == i)).sum() for side in range(2)]
                weights = sum(likely[side] * rows[j, 1 + side, : len(spec.ops)] for side in range(2))
                edge = pick_row(params["edges"], first_edge(spec)[j] + i)
                total += mixed_op(spec.ops, edge, weights, states[i], spec.channels, 1, self.implementation)
            ones, norm = jnp.ones(spec.channels, total.dtype), pick_row(params["norms"], j)
            states.append(relu(normalise(total, ones, norm, self.normalisation, reference)))
        return jnp.concatenate(states[2:], -1)


def pick_row(params: Params, row: int | Array) -> Params:
    """Return one row of every leaf."""
    return jax.tree.map(lambda leaf: leaf[row], params)


def first_edge(spec: CellSpec) -> np.ndarray:
    """Return int [B]: the number of the edge from state 0 to each node; edge (i, j) is first_edge[j] + i."""
    return np.cumsum([0] + [2 + j for j in range(spec.nodes - 1)])


def pair_table(spec: CellSpec) -> np.ndarray:
    """Return int [B,pairs,2], the pairs of inputs of each node, padded with the first pair."""
    most = len(input_pairs(spec.nodes - 1))
    rows = [list(input_pairs(j)) for j in range(spec.nodes)]
    return np.asarray([row + row[:1] * (most - len(row)) for row in rows])


def init_unit(key: Array, size: int, c_in: int, c_out: int, name: str) -> Params:
    """Return the weights of a convolution with its norm."""
    return {"kernel": he_normal(key, (size, size, c_in, c_out), size * size * c_in), "norm": init_norm(c_out, name)}


def init_stem(key: Array, spec: CellSpec, c_in: int, name: str) -> Params:
    """Return the weights of the stem."""
    return init_unit(key, 3, c_in, spec.channels, name)


def stem_of(params: Params, spec: CellSpec, x: Array, name: str, reference: Reference, implementation: str) -> Array:
    """Return the stem's output, float [n,h,w,C]."""
    return unit(params, x, spec.stem_stride, name, reference, implementation)


def unit(params: Params, x: Array, stride: int, name: str, reference: Reference, implementation: str) -> Array:
    """Convolve and normalise; float [n,H,W,c] -> [n,ceil(H/stride),ceil(W/stride),C]."""
    y = conv(x, params["kernel"], stride, 1, implementation)
    return normalise(y, jnp.ones(y.shape[-1], y.dtype), params["norm"], name, reference)


def init_cell(key: Array, spec: CellSpec, c_before: int, c_last: int, name: str) -> Params:
    """Return the weights of one cell: "before", "last" (preprocessing), "edges" [edges,...] and "norms" [B,...]."""
    inputs_key, edges_key = jax.random.split(key)
    edges = sum(2 + j for j in range(spec.nodes))

    def one_edge(edge_key):
        return init_ops(edge_key, spec.ops, spec.channels, spec.channels)

    return init_inputs(inputs_key, spec, c_before, c_last, name) | {
        "edges": jax.vmap(one_edge)(jax.random.split(edges_key, edges)),
        "norms": jax.tree.map(lambda leaf: jnp.stack([leaf] * spec.nodes), init_norm(spec.channels, name)),
    }


def init_inputs(key: Array, spec: CellSpec, c_before: int, c_last: int, name: str) -> Params:
    """Return the weights "before" and "last" that preprocess the inputs of a cell."""
    before, last = jax.random.split(key)
    return {
        "before": init_unit(before, 1, c_before, spec.channels, name),
        "last": init_unit(last, 1, c_last, spec.channels, name),
    }


def cell_inputs(
    params: Params, spec: CellSpec, layer: int, before: Array, last: Array, name: str, reference: Reference, impl: str
) -> tuple[Array, Array]:
    """Return the two preprocessed inputs of a cell, float [n,h,w,C] each."""
    stride = 2 if layer in spec.reductions else 1
    extra = 1 if before.shape[1:3] == last.shape[1:3] else 2
    return (
        unit(params["before"], relu(before), stride * extra, name, reference, impl),
        unit(params["last"], relu(last), stride, name, reference, impl),
    )
