"""What a specialisation found as lines of text, for one seed or several."""

from collections.abc import Sequence
from typing import Any

import numpy as np

NAMES = {
    "adapted": "adapted from the meta-network",
    "scratch": "search from scratch",
    "scratch_equal": "search from scratch, as few steps a candidate as adapted",
    "random_from_meta": "random architectures, meta-weights",
    "random": "random architectures, random weights",
}


def specialise_table(records: Sequence[dict[str, Any]]) -> str:
    """Return the comparison of each seed as lines of text, and what they say together."""
    lines = [line for record in records for line in _lines(record)]
    if "reached" in records[0]:
        lines.append(sentence(records, "adapted"))
    lines.append("seconds are without compiling; valid chose the architectures, test was scored once a network")
    return "\n".join(lines)


def _lines(record: dict[str, Any]) -> list[str]:
    lines = [
        title(record) + f", seed {record['seed']}",
        f"{'row':17}{'valid %':>9}{'test %':>9}{'params':>10}{'candidates':>12}{'search s':>10}{'training s':>12}"
        + f"{'reached s':>11}{'share':>8}" * ("reached" in record),
    ]
    for name, row in record["rows"].items():
        text = (
            f"{name:17}{100 * row['valid']:9.2f}{100 * row['test']:9.2f}{row['params']:10,}{row['evaluations']:12}"
            f"{row['search_s']:10.1f}{row['train_s']:12.1f}"
        )
        if "reached" in record:
            text += "{:>11}{:>8}".format(*reached_words(record["reached"]["rows"][name]))
        lines.append(text)
    if "reached" in record:
        aim = 100 * record["reached"]["accuracy"]
        lines.append(f"reached: {aim:.2f} % on valid, with which scratch ended; share: of the search time of scratch")
    return lines


def title(record: dict[str, Any]) -> str:
    """Return the data of a record in a line."""
    images = ", ".join(f"{count} {part}" for part, count in record["images"].items())
    return f"{record['data']}: {len(record['classes'])} classes, {images} images"


def reached_words(found: dict[str, float | None]) -> tuple[str, str]:
    """Return seconds and share of a row of `reached`, or "never" and "-"."""
    return ("never", "-") if found["seconds"] is None else (f"{found['seconds']:.1f}", f"{found['share']:.1%}")


def sentence(records: Sequence[dict[str, Any]], name: str) -> str:
    """Return in words when a row reached the accuracy with which the search from scratch ended, over all seeds."""
    found = [record["reached"]["rows"][name] for record in records]
    shares = [row["share"] for row in found if row["share"] is not None]
    seeds = "the one seed" if len(found) == 1 else f"{len(shares)} of {len(found)} seeds"
    if not shares:
        return f"{NAMES[name]}: never reached the accuracy on valid with which the search from scratch ended"
    seconds = np.mean([row["seconds"] for row in found if row["seconds"] is not None])
    spread = f"{min(shares):.1%}" if len(shares) == 1 else f"{min(shares):.1%} to {max(shares):.1%}"
    searched = np.mean([record["rows"]["scratch"]["search_s"] for record in records])
    means = " (seconds are means)" if len(found) > 1 else ""
    return (
        f"{NAMES[name]}: in {seeds} it reached the accuracy on valid with which the search from scratch ended, "
        f"after {seconds:.1f} s of search and training: {spread} of the {searched:.1f} s that scratch searched{means}"
    )
