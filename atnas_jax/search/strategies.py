"""Strategies by name, for configs and flags."""

import inspect

from atnas_jax.search.genetic import genetic
from atnas_jax.search.guided import nao, predictor_search
from atnas_jax.search.nsga2 import nsga2
from atnas_jax.search.random_search import random_search
from atnas_jax.search.regularised import regularised_evolution
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Strategy

STRATEGIES = {
    "random": random_search,
    "genetic": genetic,
    "regularised": regularised_evolution,
    "nsga2": nsga2,
    "nao": nao,
    "predictor": predictor_search,
}


def make_strategy(name: str, space: SearchSpace, **options: object) -> Strategy:
    """Return the strategy of that name with these options.

    Raises:
        ValueError: the name or an option is unknown, or an option is out of range.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r} is unknown; allowed: {', '.join(STRATEGIES)}")
    allowed = [p for p in inspect.signature(STRATEGIES[name]).parameters if p != "space"]
    for option in options:
        if option not in allowed:
            raise ValueError(f"option {option!r} of strategy {name!r} is unknown; allowed: {', '.join(allowed)}")
    return STRATEGIES[name](space, **options)
