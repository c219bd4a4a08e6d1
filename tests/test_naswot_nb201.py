"""NASWOT against its published values on NAS-Bench-201, by a network of those cells; skipped where the table is absent.

The network is written from Dong & Yang 2020 (2001.00326), section 2.1 and figure 1: a stem of 16 channels, three stages
of five cells with 16, 32 and 64 channels, a residual block of stride 2 between them. The codes go through the kernel
of this package.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from atnas_jax.nets.block import init_norm, normalise
from atnas_jax.nets.conv import conv
from atnas_jax.nets.pool import mean_pool3
from atnas_jax.proxies import code_kernel, log_determinant

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NONE, SKIP, CONV1, CONV3, POOL = range(5)
WIDTHS, CELLS, IMAGES = (16, 32, 64), 5, 32


def init(key):
    """Return the weights of all cells, [CELLS,6,...] a stage, of which an architecture uses its own."""

    def unit(at, size, c_in, c_out, *leading):
        kernel = jax.random.normal(jax.random.fold_in(key, at), (*leading, size, size, c_in, c_out))
        norm = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*leading, c_out)), init_norm(c_out))
        return {"kernel": kernel * (2 / (size * size * c_in)) ** 0.5, "norm": norm}

    params = {"stem": unit(0, 3, 3, WIDTHS[0]), "last": init_norm(WIDTHS[-1])}
    params["classes"] = {"w": jnp.zeros((WIDTHS[-1], 10)), "b": jnp.zeros(10)}
    for stage, width in enumerate(WIDTHS):
        sizes = {"conv1": 1, "conv3": 3}
        params[f"cells{stage}"] = {
            op: unit(10 * stage + s, s, width, width, CELLS, len(EDGES)) for op, s in sizes.items()
        }
        if stage:
            before = WIDTHS[stage - 1]
            a, b, down = unit(10 * stage + 4, 3, before, width), unit(10 * stage + 5, 3, width, width), None
            down = unit(10 * stage + 6, 1, before, width)["kernel"]
            params[f"block{stage}"] = {"a": a, "b": b, "down": down}
    return params


def norm_of(y, norm):
    return normalise(y, jnp.ones(y.shape[-1]), norm, "batch_transductive", None)


def unit_of(own, x, stride=1):
    return norm_of(conv(x, own["kernel"], stride, 1, "lax"), own["norm"])


def mean_pool(x):
    """The mean of the 3x3 window, of what lies inside the image."""
    return mean_pool3(x) / mean_pool3(jnp.ones((1, *x.shape[1:3], 1)))


def codes_of(value, times):
    """K of the ReLUs that see `value`, of which there are `times`."""
    zero = jnp.zeros((len(value),) * 2)
    return lax.cond(times > 0, lambda: code_kernel(((value, jnp.full(value.shape[-1], times)),)), lambda: zero)


def cell(own, architecture, x):
    """Return the cell's output and the kernel of its ReLUs, one before each convolution."""
    nodes, kernel = [x], 0.0
    convolves = ((architecture == CONV1) | (architecture == CONV3)).astype(jnp.float32)
    for node in range(1, 4):
        leaving = np.asarray([source == node - 1 for source, _ in EDGES])
        kernel += codes_of(nodes[-1], (convolves * leaving).sum())
        total = jnp.zeros_like(x)
        for edge, (source, target) in enumerate(EDGES):
            if target == node:
                w = jax.tree.map(lambda leaf, edge=edge: leaf[edge], own)
                ops = (
                    lambda w, v: jnp.zeros_like(v),
                    lambda w, v: v,
                    lambda w, v: unit_of(w["conv1"], jnp.maximum(v, 0)),
                    lambda w, v: unit_of(w["conv3"], jnp.maximum(v, 0)),
                    lambda w, v: mean_pool(v),
                )
                total += lax.switch(architecture[edge], ops, w, nodes[source])
        nodes.append(total)
    return nodes[3], kernel


@jax.jit
def kernel_of(params, architecture, x):
    """Return K [n,n] of the ReLU codes of images [n,32,32,3] in the network of cells int [6]."""
    x, kernel = unit_of(params["stem"], x), 0.0
    for stage in range(len(WIDTHS)):
        if stage:
            own, first = params[f"block{stage}"], jnp.maximum(x, 0)
            inner = unit_of(own["a"], first, 2)
            kernel += code_kernel(((x, jnp.ones(x.shape[-1])), (inner, jnp.ones(inner.shape[-1]))))
            halves = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4))
            x = conv(halves, own["down"], 1, 1, "lax") + unit_of(own["b"], jnp.maximum(inner, 0))

        def one(carry, own):
            y, found = cell(own, architecture, carry[0])
            return (y, carry[1] + found), None

        (x, kernel), _ = lax.scan(one, (x, kernel + jnp.zeros((len(x),) * 2)), params[f"cells{stage}"])
    return kernel + code_kernel(((norm_of(x, params["last"]), jnp.ones(x.shape[-1])),))


def spearman(a, b):
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return np.corrcoef(*ranks)[0, 1]


def test_the_network_has_the_published_number_of_parameters():
    """0.073306 M, and 0.24304 M for each 3x3 and 0.028 M for each 1x1 convolution of a cell, classes included."""
    shapes = jax.eval_shape(init, jax.random.key(0))

    def size(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    fixed = size({name: own for name, own in shapes.items() if not name.startswith("cells")})
    edges = [sum(size(shapes[f"cells{stage}"][op]) for stage in range(3)) / len(EDGES) for op in ("conv1", "conv3")]
    assert (fixed, *edges) == (73_306, 28_000, 243_040)


def test_naswot_orders_199_cells_as_published(shared_data):
    """Spearman with NAS-Bench-Suite-Zero's nwot on its 199 cells; its own agreement across data sets is .98.

    Of the same cells, its correlation with accuracy is hardly more than that of the number of parameters.
    """
    with np.load(shared_data / "tabular" / "nb201.npz") as file:
        names = list(file["extra_proxy_names"])
        published, accuracy = file["extra_proxies"][..., names.index("nwot")], file["test200"][:, 0]
        cells, params = file["arch"].astype(np.int32), file["params_m"][:, 0]
    chosen = np.flatnonzero(np.isfinite(published).all(1))
    assert len(chosen) == 199
    with np.load(shared_data / "cifar_fs_60perclass_32.npz") as file:
        rows = np.random.default_rng(0).choice(len(file["labels"]), IMAGES, replace=False)
        images = file["images"][np.sort(rows)].astype(np.float32)
    images = (images - images.mean((0, 1, 2))) / images.std((0, 1, 2))
    weights, found = jax.jit(init)(jax.random.key(0)), []
    for number in chosen:
        kernel = kernel_of(weights, jnp.asarray(cells[number]), images)
        convolutions = np.isin(cells[number], (CONV1, CONV3)).sum()
        # 16 x 32^2 codes a convolution in the first stage, half of it in the second, a quarter in the third.
        relus = 16 * 32**2 * (CELLS * convolutions * 1.75 + 1 + 0.5 + 0.5 + 0.25 + 0.25)
        np.testing.assert_array_equal(jnp.diagonal(kernel), relus)
        found.append(float(log_determinant(kernel)))
    agreement = [spearman(found, published[chosen, data]) for data in range(3)]
    by_accuracy = [spearman(score, accuracy[chosen]) for score in (found, params[chosen])]
    print(f"nwot {np.round(agreement, 3)}, accuracy by nwot {by_accuracy[0]:.3f}, by params {by_accuracy[1]:.3f}")
    assert min(agreement) >= 0.9
    assert by_accuracy[0] > 0.7 and abs(by_accuracy[0] - by_accuracy[1]) < 0.1
