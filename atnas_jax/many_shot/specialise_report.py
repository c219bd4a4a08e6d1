"""What a specialisation found as lines of text, for one seed or several."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from atnas_jax.many_shot.over_seeds import TENTH, over_seeds

NAMES = {
    "adapted": "adapted from the meta-network",
    "scratch": "search from scratch",
    "scratch_equal": "search from scratch, as few steps a candidate as adapted",
    "random_from_meta": "random architectures, meta-weights",
    "random": "random architectures, random weights",
}

PARTS = {"valid": "reached", "test": "reached_test"}  # part of the data -> its key in what `over_seeds` returns
CORRECTED = "for seeds that split the same images"


def specialise_table(records: Sequence[dict[str, Any]]) -> str:
    """Return the comparison of each seed as lines of text, and what they say together."""
    lines = [line for record in records for line in _lines(record)]
    if "reached" in records[0]:
        lines.append(sentence(records, "adapted"))
    if len(records) > 1:
        lines += _together(over_seeds(records))
    lines.append("seconds are without compiling; valid chose the architectures, test chose nothing")
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


def _together(found: dict[str, Any]) -> list[str]:
    lines = [
        f"together, {seeds_words(found)}: means ± 95 % intervals over seeds (t)",
        f"{'row':17}{'valid %':>15}{'test %':>15}{'search s':>10}{'training s':>12}"
        + f"{'reached s':>11}{'share':>8}{'stays s':>11}" * ("reached" in found),
    ]
    for name, row in found["rows"].items():
        cells = f"{name:17}{plus_minus(row['valid']):>15}{plus_minus(row['test']):>15}"
        cells += f"{row['search_s']:10.1f}{row['train_s']:12.1f}"
        if "reached" in found:
            crossed = found["reached"]["rows"][name]
            cells += "{:>11}{:>8}{:>11}".format(*reached_words(crossed), _or_never(crossed["stays_s"]))
        lines.append(cells)
    if "reached" in found:
        lines.append("reached: the mean curve is at the mean with which scratch ended; stays: and never below it again")
        lines.append("differences of the same seeds, points ± 95 % (in brackets: " + CORRECTED + ")")
        lines += [f"{difference_name(one):78}{difference_words(one):>22}" for one in found["differences"]]
        lines += [together_sentence(found, "adapted", part) for part in PARTS]
    return lines


def seeds_words(found: dict[str, Any]) -> str:
    """Return which seeds `over_seeds` is of, in words."""
    return f"{len(found['seeds'])} seeds, {', '.join(map(str, found['seeds']))}"


def plus_minus(cell: dict[str, Any], sign: str = "") -> str:
    """Return mean and interval in points."""
    return f"{100 * cell['mean']:{sign}.2f} ± {100 * cell['ci95']:.2f}"


def difference_name(one: dict[str, Any]) -> str:
    """Return what is compared in a difference of `over_seeds`."""
    part, _, tenth = one["of"].partition("_")
    after = f" after {TENTH:.0%} of scratch's search" if tenth else " at the end"
    return f"{part}: {one['row']}{after} - {one['minus']} at the end"


def difference_words(one: dict[str, Any]) -> str:
    """Return a difference with both its intervals, in points."""
    return f"{plus_minus(one, '+')} (± {100 * one['ci95_corrected']:.2f})"


def _or_never(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f}"


def together_sentence(found: dict[str, Any], name: str, part: str = "valid") -> str:
    """Return in words when the mean curve of a row reached the mean with which the search from scratch ended."""
    reached, number = found[PARTS[part]], len(found["seeds"])
    crossed = reached["rows"][name]
    aim = f"{100 * reached['accuracy']:.2f} ± {100 * reached['ci95']:.2f} % on {part}"
    begin = f"{NAMES[name]}: over {number} seeds its mean curve"
    if crossed["seconds"] is None:
        return f"{begin} never reached {aim}, the mean with which the search from scratch ended"
    stays = "does not stay there"
    if crossed["stays_s"] is not None:
        stays = f"stays there from {crossed['stays_s']:.1f} s on ({crossed['stays_share']:.1%})"
    return (
        f"{begin} reached {aim}, the mean with which the search from scratch ended, after {crossed['seconds']:.1f} s: "
        f"{crossed['share']:.1%} of the {found['rows']['scratch']['search_s']:.1f} s that scratch searched, and {stays}"
    )


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
