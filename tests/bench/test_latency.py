"""A latency table has every part in its place, and what it measures grows with the work."""

import zlib

import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.bench import latency
from atnas_jax.space.cell import CellSpec, cell_space
from atnas_jax.space.chain import ChainSpec, chain_space
from atnas_jax.space.expected import cost_of

pytestmark = pytest.mark.usefixtures("few_optimisations")
SETTING = latency.Setting((8, 8, 1))


def planted(monkeypatch):
    """Time nothing: each part takes a number made of its name, in milliseconds."""
    names = {}

    def in_turns(runs, rounds):
        names.update({name: zlib.crc32(name.encode()) % 997 / 100 for name in runs})
        return {name: [1e-3 * ms * latency.REPEATS] * rounds for name, ms in names.items()}

    monkeypatch.setattr(latency, "in_turns", in_turns)
    monkeypatch.setattr(latency, "_program", lambda *_: None)
    return names


def test_parts_of_a_chain_are_in_their_places(monkeypatch):
    ms = planted(monkeypatch)
    space = chain_space(
        ChainSpec((("conv3", "sep3"), ("conv3", "max3"), ("conv3",)), (4, 6), (1, 3), (2, 1, 1), "pool")
    )
    tables = latency.measure(space, SETTING)
    assert len(ms) == 2 * 2 + 2 * 4 + 2  # conv3 of the third block is that of the second
    latency_of = cost_of(space, tables)
    whole = "sep3 1-6 (8, 8)/2", "max3 6-4 (4, 4)/1", "conv3 4-6 (4, 4)/1", "head 6"
    found = latency_of(jnp.asarray([[1, 1, 1, 1, 0, 0, 1], [0, 0, 0, 1, 1, 0, 0]]))
    np.testing.assert_allclose(found[0], sum(ms[name] for name in whole), rtol=1e-5)
    np.testing.assert_allclose(found[1], ms["conv3 1-4 (8, 8)/2"] + ms["head 4"], rtol=1e-5)


def test_a_last_pool_is_timed_with_the_head(monkeypatch):
    ms = planted(monkeypatch)
    space = chain_space(ChainSpec((("conv3",),), (4, 6), (1,), (2,), last_pool=True))
    found = cost_of(space, latency.measure(space, SETTING))(jnp.asarray([[0, 0, 1, 0], [0, 0, 1, 1]]))
    head = ms["head 6"], ms["head 6 after a pool"]
    np.testing.assert_allclose(found, ms["conv3 1-6 (8, 8)/2"] + np.asarray(head), rtol=1e-5)


def test_parts_of_cells_are_in_their_places(monkeypatch):
    ms = planted(monkeypatch)
    space = cell_space(CellSpec(("conv3", "max3"), 2, 3, (1,), 4))
    found = cost_of(space, latency.measure(space, SETTING))(jnp.asarray([0, 0, 1, 2, 1, 1, 0, 0, 0, 1, 0, 1]))
    large, small = "(8, 8)", "(4, 4)"
    edges = sum(ms[f"conv3 {size}"] + 3 * ms[f"max3 {size}"] for size in (large, small))  # normal cells 0 and 2
    edges += 3 * ms[f"conv3 {small}"] + ms[f"max3 {small}"]
    rest = ms["stem"] + ms["head"] + sum(ms[f"inputs {layer}"] for layer in range(3))
    np.testing.assert_allclose(found, edges + rest + 2 * ms[f"node {large}"] + 4 * ms[f"node {small}"], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_part_of_a_chain_runs_and_more_work_takes_longer(dtype):
    space = chain_space(ChainSpec((("conv5", "identity"),), (2, 48), (1,), (2,), "pool", last_pool=True))
    tables = latency.measure(space, latency.Setting((12, 12, 1), dtype=dtype), images=4, rounds=3)
    assert all((np.asarray(part) > 0).all() for part in (*tables.parts, tables.rest))
    assert float(tables.parts[0][0, 0, 1]) > 2 * float(tables.parts[0][1, 0, 0])  # conv5 of 48 channels, identity of 2


def test_every_part_of_a_cell_runs():
    space = cell_space(CellSpec(("sep5", "none"), 1, 1, (0,), 4))
    tables = latency.measure(space, SETTING, rounds=1)
    assert (np.asarray(tables.parts[1]) > 0).all() and float(tables.rest) > 0
    assert (np.asarray(tables.parts[0]) == 0).all()  # there is no normal cell
