"""Normalisations, each saying which images it looks at.

| name               | statistics over                                    | sees other queries |
|--------------------|----------------------------------------------------|--------------------|
| support            | the support images, for support and queries (MetaBN, Bronskill et al. 2020, section 3) | no |
| tasknorm           | a learned mixture of the support's and the image's own (TaskNorm-I, ib., section 4)     | no |
| batch_transductive | the batch itself: queries are normalised by queries (MAML's published numbers)         | YES |
| instance           | height and width of one image, per channel         | no                 |
| group              | groups of 8 channels of one image                  | no                 |
| layer              | all of one image                                   | no                 |

No running statistics exist, hence nothing is mutable and a subnet needs no re-calibration.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from atnas_jax.types import Array, Params, PyTree, Reference

NORMALISATIONS = ("support", "batch_transductive", "instance", "group", "layer", "tasknorm")
LEARNED = {"tasknorm": ("task_scale", "task_offset")}  # numbers of a norm besides scale and bias of its channels
GROUP = 8
EPSILON = 1e-5
CANCELLED = 8.0  # a mean square may be so many times the variance that is computed from it: three bits are lost


def other_normalisation(name: str) -> str | None:
    """Return the normalisation of the other mode that the same weights allow, or None if there is none."""
    return {"support": "batch_transductive", "batch_transductive": "support"}.get(name)


def is_transductive(name: str) -> bool:
    """Return whether a query's logits depend on the other queries under this normalisation."""
    return name == "batch_transductive"


def check_normalisation(name: str) -> None:
    """Raise ValueError unless `name` is a known normalisation."""
    if name not in (*NORMALISATIONS, "none"):
        raise ValueError(f"net.normalisation={name!r} is unknown; choose one of {', '.join(NORMALISATIONS)}")


def normaliser(
    x: Array, channels: Array, name: str, reference: Reference, norm: Params | None = None
) -> tuple[Array, Array]:
    """Return the mean and the inverse standard deviation that normalise x.

    Args:
        x: float [n,H,W,C], the sum of the candidate ops.
        channels: float [C], 1 where the channel exists in this subnet; group and layer statistics leave the rest out.
        name: one of `NORMALISATIONS`, or "none": mean 0 and inverse 1.
        reference: with `support` and `tasknorm`, the number of leading rows whose statistics serve all rows, or bool
            [n], which rows those are; None means all rows.
        norm: the norm's parameters, of which the `LEARNED` ones of this normalisation are read.

    Returns:
        mean and inverse standard deviation, float32 at least, broadcastable to [n,H,W,C].
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # a sum of many bfloat16 numbers is none
    if name == "none":
        return jnp.zeros((), x.dtype), jnp.ones((), x.dtype)
    if name in ("support", "batch_transductive"):
        reference = reference if name == "support" else None
        mean, variance = _marked_moments(x, reference) if is_marked(reference) else moments(x, reference)
        return mean, lax.rsqrt(variance + EPSILON)
    if name in ("instance", "tasknorm"):
        mean = x.mean((1, 2), keepdims=True)
        variance = jnp.square(x - mean).mean((1, 2), keepdims=True)
        if name == "tasknorm":
            mean, variance = _task_statistics(mean, variance, reference, norm)
        return mean, lax.rsqrt(variance + EPSILON)
    size = GROUP if name == "group" else x.shape[-1]
    group = jnp.arange(x.shape[-1]) // size
    member = (group[:, None] == group[None, :]) * channels[None, :]  # [C,C], row c: who shares c's statistics
    share = member / jnp.maximum(member.sum(1, keepdims=True), 1.0)
    mean = (x.mean((1, 2)) @ share.T)[:, None, None, :]
    variance = (jnp.square(x - mean).mean((1, 2)) @ share.T)[:, None, None, :]
    return mean, lax.rsqrt(variance + EPSILON)


def is_marked(reference: Reference) -> bool:
    """Return whether rows are marked one by one, and not the first ones."""
    return not (reference is None or isinstance(reference, int))


def _marked_moments(x: Array, marks: Array) -> tuple[Array, Array]:
    """Return what `moments` does, over the rows that are marked bool [n]."""
    marks = marks[:, None, None, None]
    number = (marks.sum() * x.shape[1] * x.shape[2]).astype(x.dtype)
    rows = jnp.where(marks, x, 0)  # what is not finite in another row stays there
    mean = rows.sum((0, 1, 2)) / number
    return mean, jnp.where(marks, jnp.square(rows - mean), 0).sum((0, 1, 2)) / number


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def moments(x: Array, reference: int | None) -> tuple[Array, Array]:
    """Return mean and variance [C] over the first `reference` rows of x [n,H,W,C], or over all.

    The derivative is written down: that of the compiler keeps x - mean, an array as large as x, for it.
    """
    rows = x[:reference]
    mean = rows.mean((0, 1, 2))
    return mean, lax.platform_dependent(rows, mean, cpu=_variance_from_squares, default=_variance)


def _variance(x: Array, mean: Array) -> Array:
    return jnp.square(x - mean).mean((0, 1, 2))


def _variance_from_squares(x: Array, mean: Array) -> Array:
    """Return `_variance`, as mean(x^2) - mean^2 where no channel loses much by that.

    A CPU sums squares as it reads them, but writes down x - mean, an array as large as x. Under vmap it does both.
    """
    squares = jnp.square(x).mean((0, 1, 2))
    variance = squares - jnp.square(mean)
    return lax.cond((squares <= CANCELLED * variance).all(), lambda: variance, lambda: _variance(x, mean))


def held(by_channel: PyTree) -> PyTree:
    """Return the same numbers a channel, computed on their own.

    Or XLA computes them anew for every value that they scale or shift: 5 % of a step of a net with strides, and where a
    supernet picks them from the mask, two fifths of an evaluation.
    """
    return lax.optimization_barrier(by_channel)


def _moments_backward(reference, kept, cotangent):
    x, mean = kept
    rows, (by_mean, by_variance) = x[:reference], cotangent
    number = rows.size // rows.shape[-1]
    slope = (2.0 / number) * by_variance
    slope, shift = held(slope), held(by_mean / number - mean * slope)
    by_rows = rows * slope + shift
    return (jnp.pad(by_rows, ((0, x.shape[0] - rows.shape[0]), (0, 0), (0, 0), (0, 0))),)


def _moments_forward(x, reference):
    found = moments(x, reference)
    return found, (x, found[0])


moments.defvjp(_moments_forward, _moments_backward)


def _task_statistics(mean: Array, variance: Array, reference: Reference, norm: Params) -> tuple[Array, Array]:
    """Mix statistics of each image, float [n,1,1,C], with those of the support (Bronskill et al. 2020, section 4).

    a = sigmoid(scale * |D| + offset), |D| being the number of support images; m = a m_BN + (1 - a) m_IN;
    v = a (v_BN + (m_BN - m)^2) + (1 - a) (v_IN + (m_IN - m)^2). Images are of one size, so that the support's own
    statistics are m_BN = mean_D m_IN and v_BN = mean_D v_IN + var_D m_IN.
    """
    if is_marked(reference):
        marks = reference[:, None, None, None]
        rows, support, spread = marks.sum(), jnp.where(marks, mean, 0), variance

        def over_support(values):
            return jnp.where(marks, values, 0).sum(0, keepdims=True) / rows
    else:
        support, spread = mean[:reference], variance[:reference]
        rows = support.shape[0]

        def over_support(values):
            return values.mean(0, keepdims=True)

    share = jax.nn.sigmoid(norm["task_scale"] * rows + norm["task_offset"]).astype(mean.dtype)
    mean_all = over_support(support)
    variance_all = over_support(spread + jnp.square(support - mean_all))
    mixed = share * mean_all + (1 - share) * mean
    spread = share * (variance_all + jnp.square(mean_all - mixed))
    return mixed, spread + (1 - share) * (variance + jnp.square(mean - mixed))
