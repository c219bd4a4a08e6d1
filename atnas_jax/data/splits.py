"""Splits by class: given by the data, by a file, by group, or seeded at random.

A split is written as one word:
    ""                              as the data gives it
    NAME                            another split that the data holds, as `class_split_NAME` of an npz
    file:PATH or PATH.txt           lines `class_name split`; classes not listed are left out
    random:1100/100/423@7           counts of classes for train/valid/test, shuffled by seed 7 (0 if absent)
    random:.64/.16/.2@7             shares instead of counts; they are divided by their sum
    group:30/5/15@7                 whole groups (alphabets, superclasses), counts of groups or shares
    group:Lao,Thai=meta_test;Greek=meta_valid   named groups; the others are meta_train
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atnas_jax.data.table import SPLITS

ALIASES = {"train": SPLITS[0], "val": SPLITS[1], "valid": SPLITS[1], "validation": SPLITS[1], "test": SPLITS[2]}
ALIASES |= {split: split for split in SPLITS}


def assign_splits(
    split: str, given: dict[str, tuple[str, ...]], names: Sequence[str], groups: Sequence[str], source: str
) -> tuple[str, ...]:
    """Return the split of each class [c], each of `SPLITS` or "".

    Args:
        split: as in the head of this file.
        given: the splits that the data holds, "" the main one.
        names, groups: [c] of the classes.
        source: what to call the data in an error.

    Raises:
        ValueError: one line that says what was given and what to type.
        FileNotFoundError: the split file does not exist.
    """
    kind, _, rest = split.partition(":")
    if split in given:
        return given[split]
    if split == "given":
        return assign_splits("", given, names, groups, source)
    if kind == "file" or split.endswith(".txt"):
        return _from_file(Path(rest if kind == "file" else split), names)
    if kind == "random" and rest:
        order = _order(rest, len(names), f"{source} has {len(names)} classes", split)
        return tuple(order)
    if kind == "group" and rest:
        return _by_group(rest, groups, split, source)
    if not split:
        raise ValueError(f"{source} states no split: type one, for instance split=random:.64/.16/.2@0")
    held = ", ".join(repr(name) for name in given if name) or "none"
    raise ValueError(
        f"split {split!r} is unknown ({source} holds: {held}): type a held name, file:PATH, "
        "random:64/16/20@0 or group:10/2/3@0"
    )


def _order(text: str, number: int, what: str, split: str) -> list[str]:
    """Assign `number` things to splits by seeded shuffle, from 'a/b/c@seed' in counts or shares."""
    sizes_text, _, seed_text = text.partition("@")
    try:
        amounts, seed = [float(part) for part in sizes_text.split("/")], int(seed_text or 0)
    except ValueError:
        amounts, seed = [], 0
    if len(amounts) != 3 or not all(0 <= amount < np.inf for amount in amounts) or sum(amounts) <= 0 or seed < 0:
        raise ValueError(f"split {split!r}: need train/valid/test and a seed, for instance 64/16/20@0 or .64/.16/.2@0")
    if max(amounts) <= 1 and sum(amounts) < 1.5:  # shares; three counts of 0 or 1 would be no split worth the name
        exact = np.array(amounts) / sum(amounts) * number
        counts = np.floor(exact).astype(int)
        counts[np.argsort(counts - exact, kind="stable")[: number - counts.sum()]] += 1
    else:
        counts = np.array(amounts).astype(int)
        if (counts != amounts).any() or counts.sum() > number:
            raise ValueError(f"split {split!r} wants {sizes_text} but {what}: type whole counts that fit")
    assigned = [""] * number
    # RandomState, not Generator: its streams are frozen, so a seed means the same split under every numpy
    shuffled = np.random.RandomState(seed).permutation(number)
    for position, item in enumerate(shuffled[: counts.sum()]):
        assigned[item] = SPLITS[int(np.searchsorted(np.cumsum(counts), position, side="right"))]
    return assigned


def _by_group(text: str, groups: Sequence[str], split: str, source: str) -> tuple[str, ...]:
    """Assign whole groups, by name or by seeded counts."""
    names = sorted(set(groups))
    if names == [""]:
        raise ValueError(f"split {split!r}: {source} names no groups: type random:64/16/20@0 or file:PATH")
    if "=" not in text:
        of_group = dict(zip(names, _order(text, len(names), f"{source} has {len(names)} groups", split)))
        return tuple(of_group[group] for group in groups)
    of_group = {}
    for clause in filter(None, text.split(";")):
        members, _, target = clause.partition("=")
        if target not in ALIASES:
            raise ValueError(f"split {split!r}: {target!r} is no split: type one of {', '.join(SPLITS)}")
        for member in (part.strip() for part in members.split(",")):
            if member not in names:
                raise ValueError(f"split {split!r}: {source} has no group {member!r}: type some of {', '.join(names)}")
            if member in of_group:
                raise ValueError(f"split {split!r}: group {member!r} is named twice: name it once")
            of_group[member] = ALIASES[target]
    return tuple(of_group.get(group, SPLITS[0]) for group in groups)


def _from_file(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Read lines `class_name split`; blank lines and lines that start with # do not count."""
    if not path.is_file():
        raise FileNotFoundError(f"split file {path} does not exist: type a file of lines `class_name split`")
    assigned: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, target = line.strip().rpartition(" ") if "\t" not in line else line.strip().rpartition("\t")
        name = name.strip()
        if target not in ALIASES or name not in names:
            wrong = f"{target!r} is no split" if target not in ALIASES else f"the data has no class {name!r}"
            raise ValueError(f"{path}:{number}: {wrong}: need `class_name split`, split one of {', '.join(SPLITS)}")
        if name in assigned:
            raise ValueError(f"{path}:{number}: class {name!r} is listed twice: a class belongs to one split")
        assigned[name] = ALIASES[target]
    return tuple(assigned.get(name, "") for name in names)
