"""Samplers by name, for configs and flags."""

from collections.abc import Callable

import jax.numpy as jnp

from atnas_jax.search.samplers import Sampler, policy, pool, progressive, sandwich, stage_at, strictly_fair, uniform
from atnas_jax.space.extremes import opening_stages, slot_kind
from atnas_jax.space.slots import SearchSpace
from atnas_jax.types import Array, PyTree, Strategy

SAMPLERS = ("fair", "uniform", "sandwich", "progressive", "pool", "policy")


def make_sampler(
    name: str,
    space: SearchSpace,
    strategy: Strategy,
    *,
    tasks: int,
    order: tuple[str, ...],
    opened: int,
) -> Callable[[PyTree, Array], Sampler]:
    """Return at(search, step) -> the `Sampler` of that moment, whose rows are for the outer steps step, step + 1, ...

    Args:
        name: one of `SAMPLERS`.
        space: of the genotypes.
        strategy: whose state `search` is; "policy" asks it.
        tasks: T, rows of one outer step.
        order: of the kinds of slots that "progressive" opens, see `opening_stages`.
        opened: outer step from which "progressive" allows everything.

    Raises:
        ValueError: the name is unknown, "sandwich" has less than two rows a step, or `order` is wrong.
    """
    if name not in SAMPLERS:
        raise ValueError(f"search.sampler={name!r} is unknown; choose one of {', '.join(SAMPLERS)}")
    if name == "sandwich" and tasks < 2:
        raise ValueError(f"search.sampler 'sandwich' needs train.tasks 2 or more, for both extremes; it is {tasks}")
    if name in ("fair", "uniform"):
        return lambda search, step: {"fair": strictly_fair, "uniform": uniform}[name]
    if name == "sandwich":
        return lambda search, step: lambda key, space, n: sandwich(key, space, n, tasks)
    if name == "pool":
        return lambda search, step: lambda key, space, n: pool(key, search.population, search.fitness[:, 0], n)
    if name == "policy":
        return lambda search, step: lambda key, space, n: policy(key, strategy.ask, search, n)
    stages = opening_stages(space, order)

    def of_steps(search: PyTree, step: Array) -> Sampler:
        def sample(key: Array, space: SearchSpace, n: int) -> Array:
            stage = stage_at(step + jnp.arange(n) // tasks, len(stages), opened)
            return progressive(key, space, n, jnp.asarray(stages)[stage])

        return sample

    return of_steps


def width_openings(space: SearchSpace, order: tuple[str, ...], opened: int) -> tuple[int, ...]:
    """Return the outer steps from which "progressive" allows a narrower width, ascending; empty if it never did not.

    Args: as in `make_sampler`.
    """
    stages, width = opening_stages(space, order), [slot_kind(name) == "width" for name in space.names]
    opening = [stage for stage in range(1, len(stages)) if (stages[stage] != stages[stage - 1])[width].any()]
    # The first step of a stage by `stage_at`, which rounds down.
    return tuple(sorted({-(-stage * opened // (len(stages) - 1)) for stage in opening})) if opened else ()
