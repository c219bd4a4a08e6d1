"""Costs of a run: a latency table as limit and objective, and a cost inside the fitness."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.job.budget import rungs_of
from atnas_jax.job.build import build
from atnas_jax.job.costs import load_latency
from atnas_jax.job.spaces import hand_made
from atnas_jax.job.state import init_state
from atnas_jax.novel.meta_network import MetaNetwork, load_meta_network, save_meta_network
from atnas_jax.run.steps import make_programs
from atnas_jax.space.cost import cost_model
from atnas_jax.space.expected import exact_tables, tables_to_dict
from atnas_jax.space.slots import random_genotypes
from atnas_jax.space.text import space_to_dict
from atnas_jax.types import MetaLearner

SHAPE = (10, 10, 1)


@pytest.fixture(scope="module")
def table(tiny, tmp_path_factory):
    """The path of a table in which a thousand multiply-adds take a millisecond."""
    space = build(tiny()).space
    tables = exact_tables(space, SHAPE, "flatten", 3, "macs")
    tables = jax.tree.map(lambda x: x / 1000, tables)
    path = tmp_path_factory.mktemp("latency") / "latency.json"
    path.write_text(json.dumps({"space": space_to_dict(space), "image_shape": SHAPE, **tables_to_dict(tables)}))
    return str(path)


def scored(config, right):
    """Return fitness [16,M] and multiply-adds [16], where the scorer gets the share `right` of the queries."""
    parts = build(config)

    def solve(params, mask, support_x, support_y, query_x):
        good = jnp.arange(len(query_x)) < right * len(query_x)
        labels = jnp.repeat(jnp.arange(3), len(query_x) // 3)  # class by class
        return jax.nn.one_hot(jnp.where(good, labels, (labels + 1) % 3), 3)

    scorer = MetaLearner(None, None, None, solve, None)
    programs = make_programs(config, parts, scorer, {"compile_s": 0.0})
    genotypes = random_genotypes(jax.random.key(0), parts.space, 16)
    fitness = programs.fitness(
        {}, genotypes, jnp.arange(16), rungs_of(config, config.search.episodes), jnp.int32(0), parts.dataset.table
    )[0]
    return np.asarray(fitness), np.asarray(cost_model(parts.space, SHAPE, "flatten", 3)(genotypes))[:, 1]


def test_latency_is_a_limit_and_an_objective(tiny, table):
    changes = {"search.latency": table, "search.population": 16}
    objectives = {"search.strategy": "nsga2", "search.objectives": ("accuracy", "macs", "latency")}
    fitness, macs = scored(tiny(changes | objectives | {"search.max_latency_ms": 4.0}), 0.5)
    keeps = macs <= 4000
    assert 0 < keeps.sum() < 16
    assert (np.isfinite(fitness).all(1) == keeps).all() and (np.isfinite(fitness).any(1) == keeps).all()
    np.testing.assert_allclose(fitness[keeps], np.stack([0.5 + 0 * macs, -macs, -macs / 1000], 1)[keeps], rtol=1e-5)


@pytest.mark.parametrize("racing", ["none", "halving"])
@pytest.mark.parametrize(
    ("name", "weight"), [("mnas_soft", None), ("mnas_hard", None), ("mnas_soft", -0.5)]
)  # fmt: skip
def test_fitness_is_accuracy_times_a_power_of_the_cost(tiny, name, weight, racing):
    config = tiny({"search.scalarise": name, "search.target": 4000.0, "search.scalarise_weight": weight,
                   "search.population": 16, "search.racing": racing})  # fmt: skip
    fitness, macs = scored(config, 0.5)
    power = {"mnas_soft": -0.07, "mnas_hard": -1.0}[name] if weight is None else weight
    worth = (macs / 4000.0) ** power
    worth = np.minimum(worth, 1) if name == "mnas_hard" else worth
    np.testing.assert_allclose(fitness[:, 0], 0.5 * worth, rtol=1e-4)  # the race too ranks by it
    assert len(np.unique(fitness)) > 3


def test_a_meta_network_keeps_the_table(tiny, table, tmp_path):
    config = tiny({"search.latency": table, "search.max_latency_ms": 4.0})
    parts = build(config)
    state = init_state(config, parts)
    network = MetaNetwork(
        state.meta.params, state.search.population, parts.space, SHAPE, parts.normalise, config, parts.latency
    )
    save_meta_network(str(tmp_path), network)
    back = load_meta_network(str(tmp_path))
    jax.tree.map(np.testing.assert_array_equal, back.latency, parts.latency)
    save_meta_network(str(tmp_path), network._replace(latency=None))
    assert load_meta_network(str(tmp_path)).latency is None


def test_a_file_that_does_not_fit_is_refused_in_one_line(tiny, table, tmp_path):
    space = build(tiny()).space
    with pytest.raises(FileNotFoundError, match=r"launch\.measure_latency writes one"):
        load_latency(str(tmp_path / "none.json"), space, SHAPE)
    with pytest.raises(ValueError, match=r"another space or for images \[10, 10, 1\]"):
        load_latency(table, space, (12, 12, 1))
    (tmp_path / "odd.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is no table of launch\.measure_latency"):
        load_latency(str(tmp_path / "odd.json"), space, SHAPE)
    with pytest.raises(ValueError, match=r"max_latency_ms 1e-06 \(0: none\) leave none"):
        build(tiny({"search.latency": table, "search.max_latency_ms": 1e-6}))


def test_the_command_measures_what_a_search_reads(tiny, tiny_data, command, tmp_path):
    out = tmp_path / "latency.json"
    done = command("measure_latency", "--config=tests/run/tiny.py", f"--config.data.source={tiny_data}",
                   "--rounds=1", f"--out={out}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert record["schema"] == 1 and record["unit"] == "ms" and record["images"] == 1 and record["device"]
    parts = build(tiny({"search.latency": str(out)}))
    assert float(min(part.min() for part in (*parts.latency.parts, parts.latency.rest))) > 0
    assert hand_made(parts.space).shape == (parts.space.num_slots,)
