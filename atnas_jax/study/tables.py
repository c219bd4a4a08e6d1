"""Tables of trained architectures from files, and planted ones by name."""

import math
import os

import jax
import jax.numpy as jnp
import numpy as np

from atnas_jax.data.npz import load_arrays
from atnas_jax.search.tables import Table, index_of, make_table, planted, table_space, within
from atnas_jax.search.variation import Feasible

GRAMMAR = "planted[:interaction][:NOISE], nb201:PATH[:COLUMN] or nbmacro:PATH"
PLANTED_CARDS = (5,) * 6


def load_table(name: str) -> Table:
    """Return the table that `name` says.

    planted: separable, 5 choices in each of 6 slots; planted:interaction: with a pair that is good only together; a
        number behind either is the noise of what is told, in which the best choice of a slot is worth 1. Cost: sum.
    nb201:PATH: NAS-Bench-201. Told is validation accuracy, reported is test accuracy after 200 epochs, in %. COLUMN is
        cifar10 (the default), cifar100 or ImageNet16-120; with @12 behind it, told is the validation accuracy after 12
        epochs, a rough score as a supernet's is. Costs: flops and params in millions, each device's latency in ms.
    nbmacro:PATH: NAS-Bench-Macro, CIFAR-10. It has no validation accuracy: told and reported are the mean test accuracy
        of three trainings, in %. Costs: flops, params.

    Raises:
        ValueError: the name is of no table, or the file is not what the name says.
        OSError: the file cannot be read.
    """
    kind, _, rest = name.partition(":")
    if kind == "planted":
        return _planted(rest)
    if kind not in ("nb201", "nbmacro") or not rest:
        raise ValueError(f"table {name!r} is unknown; allowed: {GRAMMAR}")
    path, column = (rest, "") if os.path.exists(rest) or ":" not in rest else rest.rsplit(":", 1)
    if kind == "nbmacro" and column:
        raise ValueError(f"nbmacro has no column {column!r}; type nbmacro:{path}")
    try:
        arrays = load_arrays(path)
    except ValueError as error:
        raise ValueError(f"table {path} cannot be read ({error}); it must be an npz") from error
    try:
        return _nb201(arrays, column or "cifar10") if kind == "nb201" else _nbmacro(arrays)
    except KeyError as error:
        raise ValueError(f"{path} is no {kind} table: it has no array {error}") from error
    except (IndexError, TypeError) as error:
        raise ValueError(f"{path} is no {kind} table: {error}") from error


def limited(table: Table, limit: str) -> tuple[Feasible, str, float]:
    """Return which genotypes keep `limit`, the cost's name and its largest value.

    Args:
        table: what is searched.
        limit: "COST:VALUE", or "COST:30%" for the value that 30 % of the valid genotypes keep.

    Raises:
        ValueError: another form, or no such cost.
    """
    name, _, text = limit.rpartition(":")
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        raise ValueError(f"limit {limit!r} is unknown; type COST:VALUE or COST:PERCENT%") from None
    feasible = within(table, name, value)  # refuses an unknown cost
    if not text.endswith("%"):
        return feasible, name, value
    if not 0 < value <= 100:
        raise ValueError(f"limit {limit!r} is out of range; allowed: above 0% to 100%")
    value = float(np.quantile(np.asarray(table.costs[name])[np.asarray(table.valid)], value / 100))
    return within(table, name, value), name, value


def _planted(rest: str) -> Table:
    words = rest.split(":") if rest else []
    bonus = 1.0 if words[:1] == ["interaction"] else 0.0
    words = words[1:] if bonus else words
    try:
        (noise,) = [float(word) for word in words] or [0.0]
    except ValueError:
        raise ValueError(f"table 'planted:{rest}' is unknown; allowed: {GRAMMAR}") from None
    return planted(jax.random.key(0), PLANTED_CARDS, bonus=bonus, noise=noise)


def _nb201(arrays: dict[str, np.ndarray], column: str) -> Table:
    data, _, epochs = column.partition("@")
    names = arrays["datasets"].tolist()
    if data not in names or epochs not in ("", "12", "200"):
        raise ValueError(f"nb201 has no column {column!r}; allowed: {', '.join(names)}, and @12 behind it")
    at, place = names.index(data), _places(arrays, (5,) * 6)
    costs = {"flops": arrays["flops_m"][:, at], "params": arrays["params_m"][:, at]}
    costs |= dict(zip(arrays["devices"].tolist(), arrays["latency_ms"].T))
    told, reported = arrays[f"val{epochs or 200}"][:, at], arrays["test200"][:, at]
    return _table(arrays, (5,) * 6, told[place], reported[place], {name: cost[place] for name, cost in costs.items()})


def _nbmacro(arrays: dict[str, np.ndarray]) -> Table:
    place, accuracy = _places(arrays, (3,) * 8), arrays["test_acc"].mean(1)
    costs = {name: arrays[name][place] for name in ("flops", "params")}
    return _table(arrays, (3,) * 8, accuracy[place], accuracy[place], costs)


def _table(arrays, cards, told, reported, costs) -> Table:
    return make_table(table_space(cards, tuple(arrays["ops"].tolist())), told, reported, costs=costs)


def _places(arrays: dict[str, np.ndarray], cards: tuple[int, ...]) -> np.ndarray:
    """Return int [n], where in the file the genotypes stand, in the order of a table's rows."""
    codes, size = arrays["arch"], math.prod(cards)
    if codes.shape == (size, len(cards)):
        rows = np.asarray(index_of(table_space(cards), jnp.asarray(codes, jnp.int32)))
        if np.array_equal(np.sort(rows), np.arange(size)):
            return np.argsort(rows)
    raise ValueError(
        f"'arch' has shape {codes.shape}; it must hold each of {size} genotypes of {len(cards)} slots once"
    )
