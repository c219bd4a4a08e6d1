"""Genotypes and spaces as text."""

import itertools
import json
import re

import numpy as np
import pytest

from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.text import from_json, from_text, parse, space_from_dict, space_to_dict, to_json, to_text

CHAIN = chain_space(ChainSpec((("conv3",), ("conv3", "sep3", "none")), (4, 8), (1, 2), (2, 1), residual=True))
CELL = cell_space(CellSpec(("conv3", "identity"), nodes=2, layers=2, reductions=(1,), channels=4))


POOLED = chain_space(ChainSpec((("conv3", "sep3"),), (4, 8), (1,), (2,), last_pool=True))


@pytest.mark.parametrize("space", [CHAIN, POOLED, CELL], ids=["chain", "last pool", "cell"])
def test_every_genotype_survives_text_and_json(space):
    texts = set()
    for values in itertools.product(*map(range, space.cards)):
        text, line = to_text(space, values), to_json(space, values)
        texts.add(text)
        assert re.fullmatch(r"[a-z0-9:/+-]+", text), "needs quotes in a shell"
        assert "\n" not in line
        for back in (from_text(space, text), from_json(space, line), parse(space, text), parse(space, f" {line}\n")):
            assert back.dtype == np.int32
            np.testing.assert_array_equal(back, values)
    assert len(texts) == space.size


def test_the_text_is_readable():
    assert to_text(CHAIN, [1, 0, 1, 1, 0]) == "chain:d2/conv3-8/sep3-4"
    assert to_text(POOLED, [0, 1, 1, 0]) == "chain:d1/sep3-8/none"
    assert to_text(CELL, [0, 0, 1, 2, 0, 0] * 2) == (
        "cell:normal/0+1-conv3-identity/1+2-conv3-conv3/reduce/0+1-conv3-identity/1+2-conv3-conv3"
    )
    assert json.loads(to_json(CHAIN, [1, 0, 1, 1, 0]))["slots"]["op1"] == "sep3"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chain:d2/conv3-8/sep5-4", ("'sep5'", "op1", "conv3, sep3, none")),
        ("chain:d2/conv3-7/sep3-4", ("'7'", "width0", "4, 8")),
        ("chain:d3/conv3-8/sep3-4", ("'3'", "depth", "1, 2")),
        ("chain:d2/conv3-8", ("2 fields", "has 3")),
        ("chain:2/conv3-8/sep3-4", ("'2'", "such as d1")),
        ("chain:d2/conv3/sep3-4", ("'conv3'", "such as conv3-4")),
        ("chain:d2/conv3-8/sep3-4-1", ("'sep3-4-1'",)),
        ("cell:d2", ("'cell'", "'chain'")),
        ("", ("''", "'chain'")),
        ("{", ("JSON",)),
        ("[]", ("'chain'",)),
        ('{"family": "chain", "slots": {"depth": "1"}}', ("missing", "op0")),
        ('{"family": "chain", "slots": 3}', ("JSON",)),
        ('{"family": "cell", "slots": {}}', ("'cell'", "'chain'")),
    ],
)
def test_bad_genotypes_say_what_is_wrong_in_one_line(text, words):
    with pytest.raises(ValueError) as error:
        parse(CHAIN, text)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_json_with_an_unknown_slot_or_choice():
    record = json.loads(to_json(CHAIN, [0] * 5))
    record["slots"]["op9"] = "conv3"
    with pytest.raises(ValueError, match="'op9' is unknown"):
        from_json(CHAIN, json.dumps(record))
    del record["slots"]["op9"]
    record["slots"]["width0"] = 4
    with pytest.raises(ValueError, match="4 is not a choice of width0; allowed: 4, 8"):
        from_json(CHAIN, json.dumps(record))


def test_cell_headings_are_checked():
    text = to_text(CELL, [0] * CELL.num_slots)
    with pytest.raises(ValueError, match="'normalx'"):
        from_text(CELL, text.replace("normal", "normalx"))


@pytest.mark.parametrize("values", [[0] * 4, [0, 0, 0, 3, 0], [-1, 0, 0, 0, 0]])
def test_a_genotype_outside_the_space_has_no_text(values):
    with pytest.raises(ValueError, match="outside this space"):
        to_text(CHAIN, values)


@pytest.mark.parametrize("space", [CHAIN, CELL], ids=["chain", "cell"])
def test_spaces_survive_json(space):
    assert space_from_dict(json.loads(json.dumps(space_to_dict(space)))) == space


def test_bad_space_dicts():
    record = space_to_dict(CHAIN)
    with pytest.raises(ValueError, match="'tree' is unknown; allowed: chain, cell"):
        space_from_dict({**record, "family": "tree"})
    with pytest.raises(ValueError, match="'widht'"):
        space_from_dict({**record, "widht": [1]})
    with pytest.raises(ValueError, match="'ops' of a chain space is missing"):
        space_from_dict({k: v for k, v in record.items() if k != "ops"})
