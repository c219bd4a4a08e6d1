"""Strategies against each other on one table, at equal evaluations, over seeds."""

import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.compiler import QUICKLY
from atnas_jax.rng import stream
from atnas_jax.search.repair import cheaper, repaired
from atnas_jax.search.strategies import STRATEGIES, make_strategy
from atnas_jax.search.tables import Table, best_reported, better_left, cost_of, index_of
from atnas_jax.search.tabular import search_table
from atnas_jax.search.variation import Feasible
from atnas_jax.study.tables import limited, load_table
from atnas_jax.types import Strategy

OVER_LIMIT = ("reject", "repair")
BASELINE = "random"
QUARTILES = (0.25, 0.5, 0.75)


def compare(
    table: str,
    strategies: str = "all",
    *,
    seeds: int = 11,
    evaluations: int = 300,
    limit: str = "",
    over_limit: str = "repair",
    seed: int = 0,
) -> dict[str, Any]:
    """Run strategies on a table and return what `compare_report` shows, of built-in types.

    Args:
        table: see `load_table`.
        strategies: "all", or names with commas between; options follow a name as ":option=value". Random search is
            always among them.
        seeds: runs of each; the k-th run of every strategy has the same key.
        evaluations: of a run.
        limit: see `limited`; "" is none.
        over_limit: "reject": what is beyond the limit is drawn again; "repair": it is made cheaper slot by slot.
        seed: of all keys.

    Raises:
        ValueError: an argument that is not allowed.
        OSError: the table cannot be read.
    """
    if seeds < 1:
        raise ValueError(f"seeds={seeds} is out of range; allowed: 1 to any")
    if over_limit not in OVER_LIMIT:
        raise ValueError(f"over_limit={over_limit!r} is unknown; allowed: {', '.join(OVER_LIMIT)}")
    chosen, made = _parse(strategies), load_table(table)
    feasible, cost, value = limited(made, limit) if limit else (None, "", float("inf"))
    keys = jax.random.split(stream(seed, "compare"), seeds)
    rows = []
    for name, options in chosen.items():
        strategy = strategy_for(made, name.partition(":")[0], options, feasible, cost, value, over_limit)
        began = time.monotonic()
        rows.append({"strategy": name} | measure(strategy, made, keys, evaluations, feasible))
        rows[-1]["seconds"] = time.monotonic() - began
    return {
        "table": table, "genotypes": made.space.size, "evaluations": evaluations, "seeds": seeds, "seed": seed,
        "limit": limit, "limit_value": value if limit else None, "over_limit": over_limit, "rows": rows,
    }  # fmt: skip


def strategy_for(
    table: Table,
    name: str,
    options: dict[str, Any],
    feasible: Feasible | None = None,
    cost: str = "",
    limit: float = float("inf"),
    over_limit: str = "repair",
) -> Strategy:
    """Return the strategy `name` for a table, with the limit on its `cost` kept in the chosen way."""
    options = options | ({"objectives": 1} if name == "nsga2" else {})
    if feasible is None or over_limit == "reject":
        return make_strategy(name, table.space, feasible=feasible, **options)

    def price(rows):
        return jnp.where(feasible(rows) | (cost_of(table, cost, rows) > limit), cost_of(table, cost, rows), jnp.inf)

    return repaired(make_strategy(name, table.space, **options), cheaper(table.space, price, limit))


def measure(
    strategy: Strategy, table: Table, keys: jax.Array, evaluations: int, feasible: Feasible | None
) -> dict[str, Any]:
    """Return quartiles over seeds: better genotypes left, regret, and regret after each evaluation.

    "returned_infeasible" counts runs whose best is infeasible. Until something finite is told,
    there is no regret: None.
    """

    searches = jax.vmap(search_table(strategy, table, evaluations, feasible))
    # Compiling takes seconds, hundreds of evaluations a tenth of one.
    found = jax.jit(searches, compiler_options=QUICKLY)(keys)
    best = jax.vmap(strategy.best)(found.state)
    fine = table.valid[index_of(table.space, best)] if feasible is None else feasible(best)
    regrets = float(best_reported(table, feasible)) - np.asarray(found.reported)
    return {
        "better_left": _quartiles(better_left(table, best, feasible)),
        "regret": _quartiles(regrets[:, -1]),
        "curve": [list(row) for row in zip(*map(_quartiles, regrets.T))],  # low, middle and high [evaluations]
        "returned_infeasible": int((~fine).sum()),
        "genotypes": [[table.space.choices[e][g] for e, g in enumerate(row)] for row in best.tolist()],
    }


def _quartiles(values: np.ndarray) -> list[float | None]:
    found = np.quantile(np.asarray(values, float), QUARTILES, method="nearest")
    return [float(value) if np.isfinite(value) else None for value in found]  # JSON has no infinity


def _parse(strategies: str) -> dict[str, dict[str, Any]]:
    """Return the options of each strategy, random search first."""
    names = list(STRATEGIES) if strategies == "all" else [name for name in strategies.split(",") if name]
    chosen = {}
    for entry in dict.fromkeys([BASELINE, *names]):
        name, *options = entry.split(":")
        if name not in STRATEGIES:
            raise ValueError(f"strategy {name!r} is unknown; allowed: all, {', '.join(STRATEGIES)}")
        chosen[entry] = dict(_option(entry, option) for option in options)
    return chosen


def _option(entry: str, option: str) -> tuple[str, Any]:
    name, equals, text = option.partition("=")
    if not equals:
        raise ValueError(f"{entry!r} has {option!r}; options are typed as NAME:OPTION=VALUE")
    try:
        return name, json.loads(text.lower() if text in ("True", "False") else text)
    except json.JSONDecodeError:
        return name, text
