"""What a meta-test says besides its table: differences, curves and fronts, under `evidence` of results.json."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from atnas_jax.evidence.curves import adaptation_curve, curve_table, inner_steps_curve, search_curve
from atnas_jax.evidence.front import front_table, fronts_of
from atnas_jax.evidence.meta_test import Bench, Found
from atnas_jax.evidence.paired import paired, paired_table, same_share
from atnas_jax.job.build import Parts
from atnas_jax.job.config import stored_config
from atnas_jax.job.progress import Progress
from atnas_jax.job.state import RunState


class Asked(NamedTuple):
    """What is asked for besides the table."""

    paired: bool = False  # differences of rows, with the row permuted_architecture among them
    inner_steps: tuple[int, ...] = ()  # numbers of inner steps to score
    generations: bool = False  # of the search across tasks, and of that on a novel task
    front: int = 0  # episodes that score each point of a front; 0: no fronts


NOTHING = Asked()


def check_asked(asked: Asked, episodes: int) -> None:
    """Raise ValueError, in one line, where what is asked cannot be had of so many `episodes`."""
    if wrong := [number for number in asked.inner_steps if number < 0]:
        raise ValueError(f"inner_steps_curve has {wrong[0]}; it must be numbers from 0 on, such as 0,1,2,5,10,20")
    if asked.front and not 4 <= asked.front <= episodes:
        raise ValueError(f"front is {asked.front}; it must be 0, or from 4 to the {episodes} episodes of the table")


def with_rows(config: ConfigDict, asked: Asked) -> None:
    """Add to `config.meta_test.rows` the row that the paired differences need, where `adapted` is among them."""
    rows, name = tuple(config.meta_test.rows), "permuted_architecture"
    if asked.paired and "adapted" in rows and name not in rows:
        config.meta_test.rows = (*rows, name)


def gather(
    asked: Asked,
    config: ConfigDict,
    parts: Parts,
    state: RunState,
    history: list[dict[str, Any]],
    bench: Bench,
    found: Found,
    progress: Progress,
) -> dict[str, Any]:
    """Return what is asked, by the keys of `evidence` in results.json.

    | key                    | what                                                                             |
    |------------------------|----------------------------------------------------------------------------------|
    | paired                 | mode -> objects, see `paired.paired`                                             |
    | permutation            | {"same_genotype"}: share of episodes whose permuted architecture is the chosen one |
    | inner_steps            | mode -> best or conv4 -> points {"steps", ...}                                   |
    | search_generations     | mode -> points {"generation", "genotype", ...}                                   |
    | adaptation_generations | mode -> points {"generation", ...}; 0 is the shared best                         |
    | front                  | see `front.fronts_of`                                                            |

    A mode is "inductive" or "transductive"; every point has "accuracy", "ci95" and "episodes", as a row of the table.
    """
    evidence, run = {}, (config, parts, state, bench)
    if asked.paired:
        evidence["paired"] = {mode: paired(rows) for mode, rows in found.accuracies.items()}
        if "permuted_architecture" in found.rows:
            evidence["permutation"] = {"same_genotype": same_share(found.chosen["adapted"])}
    if asked.inner_steps:
        progress.note(f"meta-test: accuracy after {', '.join(map(str, asked.inner_steps))} inner steps")
        evidence["inner_steps"] = inner_steps_curve(*run, asked.inner_steps)
    if asked.generations:
        progress.note(f"meta-test: accuracy after each of {len(history)} generations")
        evidence["search_generations"] = search_curve(*run, history)
        if "adapted" in found.chosen:
            chosen = None if found.kept else found.chosen["adapted"]
            evidence["adaptation_generations"] = adaptation_curve(*run, chosen, progress)
    if asked.front:
        progress.note(f"meta-test: fronts of the population and of random genotypes, {asked.front} episodes each")
        evidence["front"] = fronts_of(*run, asked.front)
    return evidence


def kept_evidence(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the evidence of a run tested before and again: the new, and the old of the same episodes and choices.

    What is said of the row `adapted` is dropped where that was chosen by another trial, or by none.
    """
    old, new = (stored_config(results["config"]) for results in (before, now))
    if any(old[name] != new[name] for name in ("protocol", "adapt", "learner")):
        return dict(now.get("evidence", {}))
    adapted = ("paired", "permutation", "adaptation_generations")
    chose = "adapted" in now["meta_test"] and before.get("trial") != now.get("trial")
    kept = {name: what for name, what in before.get("evidence", {}).items() if not (chose and name in adapted)}
    return {**kept, **now.get("evidence", {})}


def evidence_text(evidence: Mapping[str, Any]) -> str:
    """Return the evidence as tables of text, one after the other."""
    tables = []
    if any(evidence.get("paired", {}).values()):
        tables.append(paired_table(evidence["paired"], evidence.get("permutation", {}).get("same_genotype")))
    if "inner_steps" in evidence:
        curves = {f"{name}, {mode}": points for mode, rows in evidence["inner_steps"].items()
                  for name, points in rows.items()}  # fmt: skip
        tables.append(curve_table("accuracy in % against inner steps", "steps", curves))
    for name, title in (
        ("search_generations", "accuracy in % of the best after each generation, all with the final weights"),
        ("adaptation_generations", "accuracy in % after each generation of the search on a task's support"),
    ):
        if name in evidence:
            tables.append(curve_table(title, "generation", evidence[name]))
    if "front" in evidence:
        tables.append(front_table(evidence["front"]))
    return "\n\n".join(tables)
