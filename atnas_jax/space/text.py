"""A genotype as one line of shell-safe text or JSON, and a space as a dict.

chain: `chain:d3/conv3-64/sep3-32/max3-16/conv3-64`, depth, then op and width of every block, the inactive ones too, and
`/max2` or `/none` where a last pool is a choice.
cell: `cell:normal/0+1-conv3-sep3/.../reduce/0+1-max3-conv3/...`, per node its inputs, op_a and op_b.
"""

import dataclasses
import json

import numpy as np

from atnas_jax.space.cell import CELLS, CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.slots import SearchSpace

_FAMILIES = {"chain": (ChainSpec, chain_space), "cell": (CellSpec, cell_space)}


def to_text(space: SearchSpace, genotype: np.ndarray) -> str:
    """Return the line of text of one genotype int32 [E]."""
    words = iter(_words(space, genotype))
    fields = []
    for prefix, count in _layout(space):
        fields.append(prefix + "-".join(next(words) for _ in range(count)))
    return f"{space.family}:{'/'.join(fields)}"


def from_text(space: SearchSpace, text: str) -> np.ndarray:
    """Return the genotype int32 [E] of a line made by `to_text`.

    Raises:
        ValueError: in one line, the token that is wrong and what is allowed there.
    """
    text, shown = text.strip(), _shown(text)
    family, _, body = text.partition(":")
    if family != space.family:
        raise ValueError(f"genotype {shown} is of family {_shown(family)}; this space is {space.family!r}")
    layout, fields, words = _layout(space), body.split("/"), []
    if len(fields) != len(layout):
        raise ValueError(f"genotype {shown} has {len(fields)} fields between '/'; this space has {len(layout)}")
    for field, (prefix, count) in zip(fields, layout, strict=True):
        parts = field.removeprefix(prefix).split("-") if count else []
        if not field.startswith(prefix) or len(parts) != count or (count == 0 and field != prefix):
            raise ValueError(f"field {_shown(field)} is malformed; {_example(space, len(words), prefix, count)}")
        words += parts
    return _genotype(space, words)


def to_json(space: SearchSpace, genotype: np.ndarray) -> str:
    """Return one line of JSON: the family, and the chosen name of each slot."""
    slots = dict(zip(space.names, _words(space, genotype), strict=True))
    return json.dumps({"family": space.family, "slots": slots})


def from_json(space: SearchSpace, text: str) -> np.ndarray:
    """Return the genotype int32 [E] of a line made by `to_json`.

    Raises:
        ValueError: not such JSON, a slot missing or unknown, or a choice that is not allowed.
    """
    try:
        record = json.loads(text)
        family, slots = record.pop("family"), record.pop("slots")
        if record or not isinstance(slots, dict):
            raise ValueError("other keys")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f'genotype {_shown(text)} is not JSON like {{"family": ..., "slots": {{...}}}}') from error
    if family != space.family:
        raise ValueError(f"genotype is of family {_shown(family)}; this space is {space.family!r}")
    odd = sorted(set(slots) ^ set(space.names))
    if odd:
        how = "unknown" if odd[0] in slots else "missing"
        raise ValueError(f"slot {_shown(odd[0])} is {how}; slots: {_or(space.names)}")
    return _genotype(space, [slots[name] for name in space.names])


def parse(space: SearchSpace, text: str) -> np.ndarray:
    """Return the genotype int32 [E] of a line of text or of JSON; errors as `from_text` and `from_json`."""
    return (from_json if text.lstrip().startswith("{") else from_text)(space, text)


def space_to_dict(space: SearchSpace) -> dict:
    """Return what JSON can store and `space_from_dict` reads back."""
    return {"family": space.family, **dataclasses.asdict(space.spec)}


def space_from_dict(record: dict) -> SearchSpace:
    """Return the space of a dict made by `space_to_dict`; lists may stand for tuples.

    Raises:
        ValueError: unknown family, a field unknown or missing, or a spec that contradicts itself.
    """
    fields = dict(record)
    family = fields.pop("family", None)
    if family not in _FAMILIES:
        raise ValueError(f"family {family!r} is unknown; allowed: {_or(_FAMILIES)}")
    spec, make = _FAMILIES[family]
    allowed = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(spec)}
    for name in fields:
        if name not in allowed:
            raise ValueError(f"field {name!r} of a {family} space is unknown; allowed: {_or(allowed)}")
    for name, required in allowed.items():
        if required and name not in fields:
            raise ValueError(f"field {name!r} of a {family} space is missing; fields: {_or(allowed)}")
    return make(spec(**{name: _tuples(value) for name, value in fields.items()}))


def _layout(space: SearchSpace) -> list[tuple[str, int]]:
    """Return the fields of the text: a fixed prefix, and how many slots follow it."""
    if space.family == "chain":
        return [("d", 1), *[("", 2)] * len(space.spec.ops), *[("", 1)] * space.spec.last_pool]
    return [field for cell in CELLS for field in ((cell, 0), *[("", 3)] * space.spec.nodes)]


def _words(space: SearchSpace, genotype: np.ndarray) -> list[str]:
    values = np.asarray(genotype)
    if values.shape != (space.num_slots,) or np.any(values < 0) or np.any(values >= np.asarray(space.cards)):
        raise ValueError(f"genotype {values.tolist()} is outside this space; choices per slot: {list(space.cards)}")
    return [choices[value] for choices, value in zip(space.choices, values, strict=True)]


def _genotype(space: SearchSpace, words: list[str]) -> np.ndarray:
    for name, choices, word in zip(space.names, space.choices, words, strict=True):
        if word not in choices:
            raise ValueError(f"{_shown(word)} is not a choice of {name}; allowed: {_or(choices)}")
    return np.asarray([c.index(word) for c, word in zip(space.choices, words, strict=True)], np.int32)


def _example(space: SearchSpace, slot: int, prefix: str, count: int) -> str:
    names = "-".join(space.names[slot : slot + count])
    return f"expected {prefix}{names}, such as {prefix + '-'.join(c[0] for c in space.choices[slot : slot + count])}"


def _shown(given: object) -> str:
    """Return what was given as an error shows it, on one short line."""
    text = repr(given)
    return text if len(text) <= 100 else text[:97] + "..."


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value


def _or(names: object) -> str:
    return ", ".join(names)
