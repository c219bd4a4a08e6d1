"""Zero-cost proxies by name, from a config."""

from collections.abc import Callable

import jax.numpy as jnp
from ml_collections import ConfigDict

from atnas_jax.devices import AXIS, Axis, map_rows
from atnas_jax.job.costs import feasibility, make_cost
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.meta.adapt import first_body
from atnas_jax.nets.conv import in_full
from atnas_jax.nets.supernet import make_activations, make_supernet
from atnas_jax.proxies import Proxy, grad_norm, naswot, score_by_proxy, synflow
from atnas_jax.space.expected import CostTables
from atnas_jax.space.slots import SearchSpace, mask_of
from atnas_jax.types import Array, Episode, Params

COSTS = ("params", "macs")


def make_proxy(
    name: str,
    config: ConfigDict,
    space: SearchSpace,
    image_shape: tuple[int, int, int],
    ways: int,
    padded: bool = False,
) -> Proxy:
    """Return the proxy called `name`, one of `PROXIES`, of the run's supernet; naswot and synflow are in float32.

    All see the body as it is before the first inner step; `padded` is as of `MetaLearner`.
    """
    net, settings = config.net, {"execution": config.net.execution, "conv": in_full(config.net.conv)}
    if name == "grad_norm":
        return grad_norm(evaluation_learner(config, space, image_shape, ways, inner_steps=0, padded=padded))
    if name == "naswot":
        proxy = naswot(make_activations(space, normalisation=net.normalisation, **settings), padded)
    else:
        proxy = synflow(make_supernet(space, image_shape, normalisation="none", readout=net.readout, **settings))
    step_norms = config.learner.step_norms
    return lambda params, *support: proxy(params | {"body": first_body(params, step_norms)}, *support)


def support_score(
    config: ConfigDict,
    space: SearchSpace,
    image_shape: tuple[int, int, int],
    ways: int,
    axis: Axis | None = None,
    padded: bool = False,
) -> Callable[[Params, Array, Array], Callable[[Array], Array] | None]:
    """Return of(params, support_x, support_y) -> the `score` of `adapt_architecture`: None with adapt.score "loss".

    With "mix" it is NASWOT, which joins the loss; `padded` is as of `MetaLearner`.
    """
    if config.adapt.score == "loss":
        return lambda params, x, y: None
    name = "naswot" if config.adapt.score == "mix" else config.adapt.score
    proxy = make_proxy(name, config, space, image_shape, ways, padded)
    return lambda params, x, y: lambda masks: map_rows(lambda mask: proxy(params, mask, x, y), masks, axis=axis)


def make_score(
    config: ConfigDict, space: SearchSpace, image_shape: tuple[int, int, int], latency: CostTables | None = None
) -> Callable[[Array, Params, Episode], Array]:
    """Return score(genotypes [n,E], params, episodes) -> float32 [n], by which search.prefilter keeps.

    "params" and "macs" are larger for larger networks and so keep the largest; what is beyond the limits of the config
    scores -inf.
    """
    name, ways = config.search.prefilter, config.protocol.ways
    feasible = feasibility(config, space, image_shape, latency)
    cost = make_cost(config, space, image_shape, ways)
    proxy = None if name in COSTS else make_proxy(name, config, space, image_shape, ways)

    def score(genotypes: Array, params: Params, episodes: Episode) -> Array:
        if proxy is None:
            values = cost(genotypes)[:, COSTS.index(name)].astype(jnp.float32)
        else:
            values = score_by_proxy(proxy, params, mask_of(space, genotypes), episodes, config.search.batch, AXIS)
        return values if feasible is None else jnp.where(feasible(genotypes), values, -jnp.inf)

    return score
