"""The linear head of an episode and where its first value comes from.

| name       | first value                            | meta-learned | any N | source                           |
|------------|----------------------------------------|--------------|-------|----------------------------------|
| matrix     | a learned [D,N] matrix                 | w, b         | no    | MAML, Finn et al. 2017           |
| vector     | one learned vector for all classes     | v            | yes   | UNICORN-MAML, Ye & Chao 2022     |
| zeros      | zeros                                  | -            | yes   |                                  |
| prototypes | squared distance to the support's means | temperature | yes   | Triantafillou et al. 2020, eq. 4 |
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from atnas_jax.types import Array, Params

ABSENT = -1e9  # the bias of a class that is none: exp of it is 0, and a sum with it is finite


class Head(NamedTuple):
    """How a head starts.

    init(key, features D) -> the meta-learned parameters
    build(params, features [S,D], labels [S], ways) -> {"w": [D,N], "b": [N]}; every class needs a support image, as the
        prototype of one that has none is 0 and may win; or see `without_absent`
    uses_support: whether `build` looks at the support images.
    """

    init: Callable[[Array, int], Params]
    build: Callable[[Params, Array, Array, int], Params]
    uses_support: bool


def logits_of(head: Params, features: Array) -> Array:
    """Return features [n,D] @ w [D,N] + b [N]."""
    return features @ head["w"] + head["b"]


def _matrix(ways: int) -> Head:
    def init(key, features):
        return {"w": jax.random.normal(key, (features, ways)) * features**-0.5, "b": jnp.zeros(ways)}

    return Head(init, lambda params, x, y, n: params, False)


def _vector() -> Head:
    def init(key, features):
        return {"v": jax.random.normal(key, (features,)) * features**-0.5}

    def build(params, x, y, ways):
        return {"w": jnp.tile(params["v"][:, None], (1, ways)), "b": jnp.zeros(ways)}

    return Head(init, build, False)


def _zeros() -> Head:
    def build(params, x, y, ways):
        return {"w": jnp.zeros((x.shape[-1], ways)), "b": jnp.zeros(ways)}

    return Head(lambda key, features: {}, build, False)


def _prototypes() -> Head:
    """-t |f - c_n|^2 = 2t c_n.f - t|c_n|^2 - t|f|^2, whose last term is the same for all classes and falls away."""

    def init(key, features):
        return {"log_temperature": jnp.asarray(-0.5 * math.log(features))}

    def build(params, x, y, ways):
        temperature = jnp.exp(params["log_temperature"])
        member = jax.nn.one_hot(y, ways)
        means = (member.T @ x) / jnp.maximum(member.sum(0), 1.0)[:, None]
        return {"w": 2 * temperature * means.T, "b": -temperature * jnp.square(means).sum(-1)}

    return Head(init, build, True)


def without_absent(head: Params, labels: Array) -> Params:
    """Return the head without the classes that have no label in `labels` int32 [S]: their probability is exactly 0."""
    present = (labels[:, None] == jnp.arange(len(head["b"]))).any(0)
    return head | {"b": jnp.where(present, head["b"], ABSENT)}


HEADS = ("prototypes", "vector", "zeros", "matrix")


def make_head(name: str, ways: int) -> Head:
    """Return the head called `name`; `ways` matters to "matrix" alone, whose N is fixed.

    Raises:
        ValueError: an unknown name.
    """
    if name not in HEADS:
        raise ValueError(f"learner.head={name!r} is unknown; choose one of {', '.join(HEADS)}")
    return (
        _matrix(ways) if name == "matrix" else {"vector": _vector, "zeros": _zeros, "prototypes": _prototypes}[name]()
    )
