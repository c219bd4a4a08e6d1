"""Zero-cost proxies: what a subnet promises before anything is trained, from one pass over a support set.

They know parameters and multiply-adds in disguise (Abdelfattah et al. 2021, zero-cost proxies): compare with those two.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from atnas_jax.devices import Axis, map_rows
from atnas_jax.meta.losses import cross_entropy
from atnas_jax.types import Array, Episode, MetaLearner, Model, Params

# (meta-parameters, mask [E,O], support images [S,H,W,C], support labels int32 [S]) -> float32 [], larger promises more
Proxy = Callable[[Params, Array, Array, Array], Array]
PROXIES = ("naswot", "grad_norm", "synflow")
FAINT = 2.0**-80  # the image of SynFlow, a power of two that rounds nothing: flows from 1e-14 to 1e60 are then float32


def code_kernel(activations: tuple[tuple[Array, Array], ...]) -> Array:
    """Return K [S,S], K_ij = N_A - Hamming(c_i, c_j) over the binary codes c of all ReLUs (Mellor et al. 2021, eq. 1).

    Computed as the sum over layers of c c^T + (1-c)(1-c)^T, exact while N_A < 2**24. A ReLU that the subnet does not
    have counts neither in the codes nor in their length N_A: its code would be the same for every image.

    Args:
        activations: per layer, values after the ReLU float [S,h,w,C] and which channels are there, 0 or 1 [C]; see
            `nets.supernet.make_activations`.
    """
    total = 0.0
    for values, present in activations:
        on = (values > 0).astype(jnp.float32)
        rows = len(on)
        alike = [(code * present).reshape(rows, -1) @ code.reshape(rows, -1).T for code in (on, 1.0 - on)]
        total = total + sum(alike)
    return total


def log_determinant(kernel: Array) -> Array:
    """Return log|det K| of a `code_kernel` [S,S]; -inf where two codes are equal, which rounding might hide."""
    equal = (kernel >= kernel[0, 0]) & ~jnp.eye(len(kernel), dtype=bool)
    return jnp.where(equal.any(), -jnp.inf, jnp.linalg.slogdet(kernel)[1])


def naswot(activations: Callable[..., tuple[tuple[Array, Array], ...]], padded: bool = False) -> Proxy:
    """Return log|det K_H| of the ReLU codes of the support (Mellor et al. 2021, NAS without training, eq. 1 and 2).

    Published at random weights; here at the meta-learned ones.

    Args:
        activations: (body parameters, images, mask, reference=None) -> see `code_kernel`.
        padded: whether images of label -1 are padding.
    """

    def score(params: Params, mask: Array, images: Array, labels: Array) -> Array:
        if not padded:
            return log_determinant(code_kernel(activations(params["body"], images, mask)))
        real = labels >= 0
        kernel = code_kernel(activations(params["body"], images, mask, real))
        # An image more that is like no other and of length 1 leaves the determinant as it is.
        return log_determinant(jnp.where(real[:, None] & real, kernel, jnp.eye(len(labels))))

    return score


def grad_norm(learner: MetaLearner) -> Proxy:
    """Return the norm of the support loss's gradient by body and head (Abdelfattah et al. 2021, 3.1).

    Args:
        learner: one that takes no inner step, so that this is the gradient of the first.
    """

    def score(params: Params, mask: Array, images: Array, labels: Array) -> Array:
        def loss(adapted):
            real = (labels >= 0,) if learner.padded else ()
            return cross_entropy(learner.predict(adapted, mask, images, images, *real), labels, learner.padded)

        return optax.global_norm(jax.grad(loss)(learner.adapt(params, mask, images, labels)))

    return score


def synflow(model: Model) -> Proxy:
    """Return log sum_theta |theta| dR/d|theta|, R the sum of the embedding of an image of ones (Tanaka et al. 2020, 4).

    Weights are replaced by their magnitudes and biases by 0, so that R is a product of layers, of which each in a plain
    chain has the same share, R itself. Images matter by their shape alone. R is as large as the image, and is computed
    of a faint one; its derivatives are those of log R, times R.

    Args:
        model: without normalisation, which would undo the magnitudes: `make_supernet(..., normalisation="none")`.
    """

    def positive(path, leaf):
        return jnp.zeros_like(leaf) if path[-1].key == "bias" else jnp.abs(leaf)

    def score(params: Params, mask: Array, images: Array, labels: Array) -> Array:
        del labels
        body = jax.tree_util.tree_map_with_path(positive, params["body"])
        faint = jnp.full_like(images[:1], FAINT)
        flow, slopes = jax.value_and_grad(lambda body: jnp.log(model.apply(body, faint, mask).sum()))(body)
        products = jax.tree.map(lambda weight, by: (weight * by).sum(), body, slopes)
        shares = jnp.log(sum(jax.tree.leaves(products)))
        return jnp.where(flow > -jnp.inf, flow - math.log(FAINT) + shares, -jnp.inf)

    return score


def score_by_proxy(
    proxy: Proxy, params: Params, masks: Array, episodes: Episode, batch: int = 1, axis: Axis | None = None
) -> Array:
    """Return float32 [P], the mean of a proxy over the support sets of episodes.

    Args:
        proxy: to score by.
        params: meta-parameters.
        masks: float32 [P,E,O].
        episodes: a batch with leading T, of which the support alone is read.
        batch: pairs of mask and episode that are vmapped together.
        axis: the mapped axis of the devices that share the pairs, see `devices.py`.
    """
    number, tasks = masks.shape[0], episodes.support_y.shape[0]

    def one(pair):
        x, y = episodes.support_x[pair // number], episodes.support_y[pair // number]
        return proxy(params, masks[pair % number], x, y)

    return map_rows(one, jnp.arange(number * tasks), batch, axis).reshape(tasks, number).mean(0)
