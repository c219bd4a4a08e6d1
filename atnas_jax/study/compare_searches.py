"""Strategies against each other in whole searches across tasks: the same space, data, recipe and budget for each."""

import json
import os
import statistics
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from atnas_jax.job.config import check_config, random_seeds, stored_config
from atnas_jax.job.files import write_record
from atnas_jax.run.search import across_task_search
from atnas_jax.search.strategies import BY_GRADIENT, STRATEGIES

SCHEMA = 1


def compare_searches(
    config: ConfigDict, strategies: str, seeds: int, folder: str, *, quiet: bool = False
) -> dict[str, Any]:
    """Search with each strategy and seed, and return the shared best architectures' accuracies, of built-in types.

    Each search is a run of its own in `folder`/STRATEGY-SEED and goes on where it was; a finished one is read. The
    generations, their size and their episodes are those of `config`, so all strategies spend as many evaluations (of
    a gradient strategy see `job/budget.py`). A strategy that begins with random seeds takes half of them for that,
    where its default is more. The controls are left out: they are the same for all.

    Args:
        config: of every search but for its strategy and seed, options of the strategy and `net.execution`, which is
            "folded" where the strategy needs it.
        strategies: "all", or names with commas between.
        seeds: searches of each strategy; they begin at config.seed.
        folder: of the runs, comparison.txt and comparison.json, made where absent.
        quiet: show no progress.

    Raises:
        ValueError, OSError: one line that says what does not fit, before the first search, or that a finished one was
            tested again under another protocol or other inner steps.
    """
    configs = list(_configs(config, _names(strategies), seeds))
    for _, one in configs:
        check_config(one)
    rows = []
    for name, one in configs:
        workdir = os.path.join(folder, f"{name}-{one.seed}")
        results = across_task_search(one, workdir, quiet=quiet)
        tested = stored_config(results["config"])
        if (tested.protocol, tested.learner) != (one.protocol, one.learner):
            raise ValueError(
                f"{workdir} was tested again under another protocol or other inner steps; "
                f"type launch.meta_test --workdir={workdir}"
            )
        rows.append({"strategy": name, "seed": one.seed} | _row(results))
    record = {"schema": SCHEMA, "config": json.loads(config.to_json()), "seeds": seeds, "rows": rows}
    write_record(folder, "comparison", searches_table(record), record)
    return record


def searches_table(record: dict[str, Any]) -> str:
    """Return the comparison as lines of text of at most 100 columns: a line per search, best accuracy first."""
    lines = [f"{'strategy':<14}{'seed':>5}{'meta_test %':>15}{'params':>9}{'search s':>10}{'train s':>9}  genotype"]
    for row in sorted(record["rows"], key=lambda row: -row["accuracy"]):
        accuracy = f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}"
        lines.append(
            f"{row['strategy']:<14}{row['seed']:>5}{accuracy:>15}{round(row['params']):>9,}{row['search_s']:>10.1f}"
            f"{row['meta_train_s']:>9.1f}  {row['genotype']}"[:100]
        )
    if record["seeds"] > 1:
        lines += ["", f"{'over seeds':<14}{'mean':>8}{'sd':>7}"]
        for name in dict.fromkeys(row["strategy"] for row in record["rows"]):
            found = [100 * row["accuracy"] for row in record["rows"] if row["strategy"] == name]
            lines.append(f"{name:<14}{statistics.mean(found):>8.2f}{statistics.stdev(found):>7.2f}")
    return "\n".join(lines)


def _names(strategies: str) -> list[str]:
    known = [*STRATEGIES, *BY_GRADIENT]
    names = known if strategies == "all" else list(dict.fromkeys(filter(None, strategies.split(","))))
    for name in names:
        if name not in known:
            raise ValueError(f"strategy {name!r} is unknown; allowed: all, {', '.join(known)}")
    if not names:
        raise ValueError("no strategy is named; type --strategies=all, or names with commas between")
    return names


def _configs(config: ConfigDict, names: list[str], seeds: int) -> Iterator[tuple[str, ConfigDict]]:
    if seeds < 1:
        raise ValueError(f"seeds={seeds} is out of range; allowed: 1 to any")
    for name in names:
        for number in range(seeds):
            one = config.copy_and_resolve_references()
            one.seed = config.seed + number
            one.search.strategy = name
            one.measure = False  # all compute as the config says
            if name != config.search.strategy:
                one.search.options.update(dict.fromkeys(one.search.options))
            if name in BY_GRADIENT:
                one.net.execution = "folded"
            budget = one.search.population * one.search.generations
            if random_seeds(one) >= budget:
                one.search.options.seeds = budget // 2
            one.meta_test.conv4, one.meta_test.rows, one.log.random_search = False, ("best",), False
            yield name, one


def _row(results: dict[str, Any]) -> dict[str, Any]:
    best, other = results["meta_test"]["best"], results["meta_test_other"]
    return {
        **{name: best[name] for name in ("accuracy", "ci95", "episodes", "params", "macs")},
        "other": other and {name: other["rows"]["best"][name] for name in ("accuracy", "ci95")},
        "normalisation": results["protocol"]["normalisation"],
        "genotype": results["genotype"],
        **{name: results["ledger"][name] for name in ("search_s", "meta_train_s", "compile_s")},
    }
