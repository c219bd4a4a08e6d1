"""What a config counts as cost: parameters, multiply-adds, measured latency; as a limit, an objective, in the loss."""

import json
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from atnas_jax.job.budget import architecture_steps
from atnas_jax.nets.norm import LEARNED
from atnas_jax.search.scalarise import FACTORS, TERMS, factor, loss_with_cost
from atnas_jax.search.variation import Feasible
from atnas_jax.space.cost import cost_model, cost_report
from atnas_jax.space.expected import CostTables, cost_of, exact_tables, expected_cost, tables_from_dict
from atnas_jax.space.slots import SearchSpace
from atnas_jax.space.text import space_from_dict
from atnas_jax.types import Array

COSTS = ("params", "macs", "latency")


def load_latency(path: str, space: SearchSpace, image_shape: tuple[int, int, int]) -> CostTables | None:
    """Read what `launch.measure_latency` wrote, milliseconds; "" is None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another kind, or of another space or image shape.
    """
    if not path:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        measured, shape = space_from_dict(record["space"]), tuple(record["image_shape"])
    except FileNotFoundError:
        raise FileNotFoundError(f"search.latency {path} does not exist; launch.measure_latency writes one") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"search.latency {path} is no table of launch.measure_latency ({error})") from error
    if measured != space or shape != image_shape:
        raise ValueError(
            f"search.latency {path} was measured for another space or for images {list(shape)}; "
            "run launch.measure_latency with this config"
        )
    return tables_from_dict(space, record)


def make_cost(
    config: ConfigDict, space: SearchSpace, image_shape: tuple[int, int, int], ways: int
) -> Callable[[Array], Array]:
    """Return genotypes int32 [...,E] -> parameters and multiply-adds int32 [...,2] of the config's networks."""
    return cost_model(space, image_shape, config.net.readout, ways, _per_norm(config))


def count_cost(
    config: ConfigDict, space: SearchSpace, image_shape: tuple[int, int, int], ways: int, genotype: np.ndarray
) -> tuple[int, int]:
    """Return what `make_cost` does of one genotype int32 [E], counted on the host, where nothing is compiled."""
    rows = cost_report(space, genotype, image_shape, config.net.readout, ways, _per_norm(config))
    return sum(row[1] for row in rows), sum(row[2] for row in rows)


def costs_of(
    names: tuple[str, ...],
    config: ConfigDict,
    space: SearchSpace,
    image_shape: tuple[int, int, int],
    latency: CostTables | None,
) -> Callable[[Array], Array]:
    """Return genotypes int32 [n,E] -> float32 [n,len(names)], the costs of these names of `COSTS`."""
    exact = make_cost(config, space, image_shape, config.protocol.ways)
    measured = None if latency is None else cost_of(space, latency)

    def costs(genotypes: Array) -> Array:
        counts = exact(genotypes).astype(jnp.float32)
        columns = [measured(genotypes) if name == "latency" else counts[:, COSTS.index(name)] for name in names]
        return jnp.stack(columns, -1) if columns else counts[:, :0]

    return costs


def feasibility(
    config: ConfigDict, space: SearchSpace, image_shape: tuple[int, int, int], latency: CostTables | None = None
) -> Feasible | None:
    """Return int32 [n,E] -> bool [n], whether genotypes keep the limits of the config, or None without limits.

    Args: as of `share_of_limits`.
    """
    used = share_of_limits(config, space, image_shape, latency)
    return None if used is None else lambda genotypes: used(genotypes) <= 1


def share_of_limits(
    config: ConfigDict, space: SearchSpace, image_shape: tuple[int, int, int], latency: CostTables | None = None
) -> Callable[[Array], Array] | None:
    """Return int32 [n,E] -> float32 [n], what genotypes use of the tightest limit, or None without limits.

    More than 1 is beyond a limit, exactly so however large the costs are.

    Args:
        config, space, image_shape: of the run.
        latency: milliseconds, see `load_latency`; needed by search.max_latency_ms alone.
    """
    limits, slowest = (config.search.max_params, config.search.max_macs), config.search.max_latency_ms
    if not any(limits) and not slowest:
        return None
    cost = make_cost(config, space, image_shape, config.protocol.ways)
    bounds = jnp.asarray([limit or jnp.iinfo(jnp.int32).max for limit in limits])

    def used(genotypes: Array) -> Array:
        costs = cost(genotypes)
        shares = (costs / bounds).astype(jnp.float32)
        above = jnp.maximum(shares, jnp.nextafter(jnp.float32(1), jnp.float32(2)))
        most = jnp.where(costs <= bounds, jnp.minimum(shares, 1), above).max(-1)
        return jnp.maximum(most, cost_of(space, latency)(genotypes) / slowest) if slowest else most

    return used


def fitness_factor(
    config: ConfigDict, space: SearchSpace, image_shape: tuple[int, int, int], latency: CostTables | None
) -> Callable[[Array], Array] | None:
    """Return genotypes int32 [n,E] -> float32 [n], what search.scalarise multiplies accuracy by, or None."""
    search = config.search
    if search.scalarise not in FACTORS:
        return None
    cost = costs_of((search.scalarise_cost,), config, space, image_shape, latency)
    times = factor(search.scalarise, search.target, search.scalarise_weight)
    return lambda genotypes: times(cost(genotypes)[:, 0])


def gradient_options(
    config: ConfigDict, space: SearchSpace, image_shape: tuple[int, int, int], latency: CostTables | None
) -> dict[str, Any]:
    """Return what a config adds to the options of a gradient strategy: its steps, and the cost in its loss."""
    search, steps = config.search, config.search.generations * architecture_steps(config)
    if search.scalarise not in TERMS:
        return {"steps": steps}
    name, tables = search.scalarise_cost, latency
    if name != "latency":
        readout, ways = config.net.readout, config.protocol.ways
        tables = exact_tables(space, image_shape, readout, ways, name, _per_norm(config))
    expected = expected_cost(space, tables)
    return {
        "steps": steps,
        "objective": loss_with_cost(search.scalarise, expected, search.target, search.scalarise_weight),
    }


def _per_norm(config: ConfigDict) -> int:
    return len(LEARNED.get(config.net.normalisation, ()))
