"""A comparison seed by seed: what is done stays, here or in other folders, and is not run again."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from atnas_jax.job.files import check_out, read_json
from atnas_jax.many_shot.specialise import Specialised, Task, specialise_task

FILE = "specialise.json"
NETWORK = "network"  # folder of the one network that is kept
SCHEMA = 4
_CURE = "give another --out, or leave it out of --known"


def specialise_seeds(
    task: Task,
    out: str,
    seeds: Sequence[int],
    done: Callable[[list[dict[str, Any]], Specialised, bool], None],
    *,
    known: Sequence[str] = (),
    note: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Compare with several seeds, run those that no folder holds yet, and return the records in order of seeds.

    Args:
        task: of `read_task`.
        out: folder of this comparison; what its specialise.json holds stays.
        seeds: to compare with.
        done: is told after each seed that was run: all records until then, what that seed found, and whether its
            network is to be kept, as the folder has none.
        known: other folders of the same comparison, whose seeds are taken over.
        note: is told one line a method.

    Raises:
        ValueError: a folder holds another comparison: other data, meta-network, rows or settings.
        OSError: a folder of `known` holds none, or `out` cannot be written.
    """
    records: dict[int, dict[str, Any]] = {}
    first = not os.path.exists(os.path.join(out, NETWORK))
    for folder in (*known, *([out] if os.path.exists(os.path.join(out, FILE)) else [])):
        records |= _kept(os.path.join(folder, FILE), task)
    check_out(os.path.join(out, FILE))
    for seed in seeds:
        if seed in records:
            note(f"seed {seed}: known")
            continue
        found = specialise_task(task, seed, note)
        records[seed] = found.record
        done(_in_order(records), found, first)
        first = False
    return _in_order(records)


def _in_order(records: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [records[seed] for seed in sorted(records)]


def _kept(path: str, task: Task) -> dict[int, dict[str, Any]]:
    """Return seed -> record of a file; all must be of this task."""
    file = read_json(path, _CURE)
    if file.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {file.get('schema')}, this version writes {SCHEMA}; {_CURE}")
    records, here = file["seeds"], _compared(task.about, task.rows)
    for record in records:
        there = _compared(record, record.get("rows", ()))
        differ = [name for name in sorted(here | there) if here.get(name) != there.get(name)]
        if differ:
            raise ValueError(
                f"{path} is of another comparison, {differ[0]} is {there.get(differ[0])} and here "
                f"{here.get(differ[0])}; {_CURE}"
            )
    return {record["seed"]: record for record in records}


def _compared(about: Mapping[str, Any], rows: Sequence[str]) -> dict[str, Any]:
    # Where data and meta-network lie may differ; the fingerprint says what they are.
    names = ("fingerprint", "classes", "image_shape", "width", "depth")
    settings = {f"specialise.{name}": value for name, value in about.get("settings", {}).items()}
    return {name: about.get(name) for name in names} | about.get("changes", {}) | settings | {"rows": sorted(rows)}
