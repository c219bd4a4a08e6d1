"""What comes from a user, made up at random: it is read, or refused in one line; nothing else is ever raised.

ATNAS_FUZZ=N tries N examples of each instead of the fixed few.
"""

import io
import json
import os
import zipfile

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from atnas_jax.data.images import decode, encode_png
from atnas_jax.data.sources import read_npz
from atnas_jax.job.build import make_search
from atnas_jax.job.config import check_config, setting_names
from atnas_jax.job.defaults import default_config
from atnas_jax.job.spaces import make_space
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.text import parse, to_json, to_text
from launch import _main

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

MANY = int(os.environ.get("ATNAS_FUZZ", 0))
SPACES = (
    chain_space(ChainSpec((("conv3", "sep3"), ("conv3", "max3")), (8, 16), (1, 2), (2, 2))),
    cell_space(CellSpec(("conv3", "max3", "identity"), 2, 2, (1,), 8)),
)
LINES = [write(space, [0] * space.num_slots) for space in SPACES for write in (to_text, to_json)]
JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=8), lambda below: st.lists(below) | st.dictionaries(st.text(max_size=8), below), max_leaves=8)  # fmt: skip  # noqa: E501
NAMES = setting_names(default_config())
WORDS = st.sampled_from(["conv3", "none", "accuracy", "nan", "inf", "1e400", "0x", "[", "()", "-1", "2**31", "'", "\\"])
SCALARS = st.integers() | st.floats() | st.text(max_size=6) | st.booleans() | WORDS
VALUES = st.recursive(SCALARS, lambda below: st.lists(below, max_size=4).map(tuple), max_leaves=6)


def tries(few):
    return hypothesis.settings(
        max_examples=MANY or few, derandomize=not MANY, deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip


def _mutated(valid):
    """Return valid text or bytes of which a few pieces are cut, doubled or replaced."""
    pieces = st.text(max_size=3) if isinstance(valid, str) else st.binary(max_size=3)
    cuts = st.tuples(st.integers(0, len(valid)), st.integers(0, 4), pieces)

    def apply(changes):
        found = valid
        for at, length, piece in changes:
            found = found[:at] + piece + found[at + length :]
        return found

    return st.lists(cuts, max_size=3).map(apply)


def _one_line(error):
    assert str(error) and len(str(error).splitlines()) == 1, repr(str(error))


@tries(250)
@hypothesis.given(st.sampled_from(SPACES), st.text() | st.sampled_from(LINES).flatmap(_mutated))
@hypothesis.example(SPACES[0], "{" * 100_000)
@hypothesis.example(SPACES[0], '{"family":' + "[" * 100_000)
@hypothesis.example(SPACES[0], "chain:" + "/" * 100_000)
def test_genotype_text(space, text):
    try:
        genotype = parse(space, text)
    except ValueError as error:
        _one_line(error)
        assert len(str(error)) < 1000
        return
    np.testing.assert_array_equal(parse(space, to_text(space, genotype)), genotype)


@tries(150)
@hypothesis.given(st.sampled_from(SPACES), JSON | st.fixed_dictionaries({"family": JSON, "slots": JSON}))
def test_genotype_json(space, record):
    try:
        parse(space, json.dumps(record))
    except ValueError as error:
        _one_line(error)


def _checked(config):
    """Do all that is done with a config before data is loaded."""
    check_config(config)
    space = make_space(config)
    if max(space.cards) <= 64 and space.num_slots <= 64 and config.search.population <= 64:
        make_search(config, space, (28, 28, 1))


@tries(120)
@hypothesis.given(st.sampled_from(NAMES), VALUES)
def test_config_values(name, value):
    config = default_config()
    *sections, last = name.split(".")
    section = config
    for each in sections:
        section = section[each]
    with section.ignore_type(), section.unlocked():
        section[last] = value
    try:
        _checked(config)
    except ValueError as error:
        _one_line(error)


@tries(60)
@hypothesis.given(st.sampled_from(NAMES), st.text(max_size=12) | VALUES.map(repr))
@hypothesis.example("space.chain.ops", "(" * 10_000)
@hypothesis.example("space.chain.ops", "(" * 90 + ")" * 90)
@hypothesis.example("train.steps", "9" * 5000)
@hypothesis.example("space.chain.widths", "((8, 16),)")
def test_config_overrides(name, text):
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", default_config(), flag_values=values)
    try:
        values(["search", f"--config.{name}={text}"])
        config = values.config
    except Exception as error:  # which the launchers turn into a line
        _one_line(_main._one_line(error))
        return
    try:
        _checked(config)
    except ValueError as error:
        _one_line(error)


def _npz(*members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def _npy(header, data=b"", version=b"\x01\x00"):
    length = len(header).to_bytes(2 if version[0] == 1 else 4, "little", signed=False)
    return b"\x93NUMPY" + version + length + header + data


def _saved(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


VALID = _saved(images=np.zeros((4, 3, 3), np.uint8), labels=np.arange(4), class_names=["a", "b", "c", "d"])
SHAPES = st.lists(st.integers(-2, 2**62), max_size=5).map(tuple)
HEADERS = st.builds(
    lambda dtype, order, shape: f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {shape}}}\n".encode(),
    st.sampled_from(["|u1", "<i8", "|O", "<U4", "<f4", "<M8", "|V9", "[('a', '<i4')]", [("a", "|O")]]),
    st.booleans() | st.text(max_size=3),
    SHAPES | st.text(max_size=3),
)


@tries(250)
@hypothesis.given(HEADERS | st.binary(max_size=60), st.binary(max_size=40), st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\7\7"]))  # fmt: skip  # noqa: E501
@hypothesis.example(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,)}", b"", b"\1\0")
@hypothesis.example(b"(" * 9000, b"", b"\1\0")
def test_npz_headers(tmp_path_factory, header, data, version):
    _read(tmp_path_factory, _npz(("images.npy", _npy(header, data, version)), ("labels.npy", _npy(header, data))))


@tries(250)
@hypothesis.given(_mutated(VALID) | st.binary(max_size=100))
def test_npz_bytes(tmp_path_factory, data):
    _read(tmp_path_factory, data)


def _read(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.npz"
    path.write_bytes(data)
    try:
        read_npz(str(path))
    except ValueError as error:
        _one_line(error)


PNG = encode_png(np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8))


@tries(150)
@hypothesis.given(_mutated(PNG) | st.binary(max_size=60))
def test_image_bytes(data):
    try:
        decode(data, "x.png")
    except ValueError as error:
        _one_line(error)
        assert str(error).startswith("x.png: ")
