"""Strategies by name, for configs and flags."""

import functools
import inspect

from atnas_jax.search.asng import asng
from atnas_jax.search.coevolution import coevolution
from atnas_jax.search.genetic import genetic
from atnas_jax.search.gradient import gradient
from atnas_jax.search.guided import nao, predictor_search
from atnas_jax.search.islands import islands
from atnas_jax.search.mdenas import mdenas
from atnas_jax.search.nsga2 import nsga2
from atnas_jax.search.random_search import random_search
from atnas_jax.search.regularised import regularised_evolution
from atnas_jax.search.reinforce import reinforce
from atnas_jax.search.staged import staged
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Strategy

STRATEGIES = {
    "random": random_search,
    "genetic": genetic,
    "regularised": regularised_evolution,
    "nsga2": nsga2,
    "reinforce": reinforce,
    "mdenas": mdenas,
    "asng": asng,
    "coevolution": coevolution,
    "staged": staged,
    "islands": islands,
    "nao": nao,
    "predictor": predictor_search,
}
GUIDED = ("nao", "predictor")  # these fit a predictor whenever they are asked
BY_PLACE = ("coevolution", "islands")  # whose `tell` knows a row by its place among those that were asked
BY_GRADIENT = {  # these learn by `tell_grad`
    name: functools.partial(gradient, relaxation=name) for name in ("softmax", "gumbel", "gumbel_hard", "binary_gates")
}


def make_strategy(name: str, space: SearchSpace, **options: object) -> Strategy:
    """Return the strategy of that name with these options.

    Raises:
        ValueError: the name or an option is unknown, or an option is out of range.
    """
    known = STRATEGIES | BY_GRADIENT
    if name not in known:
        raise ValueError(f"strategy {name!r} is unknown; allowed: {', '.join(known)}")
    allowed = [p for p in inspect.signature(known[name]).parameters if p not in ("space", "relaxation")]
    for option in options:
        if option not in allowed:
            raise ValueError(f"option {option!r} of strategy {name!r} is unknown; allowed: {', '.join(allowed)}")
    return known[name](space, **options)
