"""Whole searches with several strategies: equal budgets, runs that are read and not run again, and the table."""

import json
import shutil

import pytest

from atnas_jax.run import search
from atnas_jax.study.compare_searches import compare_searches, searches_table


@pytest.fixture(scope="module")
def compared(tiny, tmp_path_factory):
    """A comparison of three kinds of strategies, of whom one needs another execution and one fewer seeds."""
    config, folder = tiny({"meta_test.other_normalisation": False}), str(tmp_path_factory.mktemp("compared"))
    return config, folder, compare_searches(config, "genetic,softmax,predictor", 1, folder, quiet=True)


def test_each_search_is_the_config_but_for_its_strategy(compared):
    config, folder, record = compared
    assert [row["strategy"] for row in record["rows"]] == ["genetic", "softmax", "predictor"]
    for row in record["rows"]:
        with open(f"{folder}/{row['strategy']}-0/results.json", encoding="utf-8") as file:
            results = json.load(file)
        given = results["config"]
        assert given["search"]["strategy"] == row["strategy"]
        assert given["net"]["execution"] == ("folded" if row["strategy"] == "softmax" else "switch")
        assert given["search"]["options"]["seeds"] == (4 if row["strategy"] == "predictor" else None)  # of 8
        for name in ("generations", "population", "episodes"):
            assert given["search"][name] == config.search[name]
        assert given["train"] == json.loads(config.train.to_json())
        assert row["accuracy"] == results["meta_test"]["best"]["accuracy"]
        assert row["genotype"] == results["genotype"]
    assert json.loads(open(f"{folder}/comparison.json", encoding="utf-8").read()) == record


def test_a_finished_search_is_read(compared, monkeypatch):
    config, folder, record = compared
    monkeypatch.setattr(search, "build", None)
    assert compare_searches(config, "genetic,softmax,predictor", 1, folder, quiet=True) == record


@pytest.mark.parametrize("setting", [("protocol", "ways", 2), ("learner", "eval_inner_steps", 9)])
def test_a_search_that_was_tested_otherwise_is_refused(compared, tmp_path, setting):
    config, folder, _ = compared
    shutil.copytree(f"{folder}/genetic-0", tmp_path / "genetic-0")
    path = tmp_path / "genetic-0" / "results.json"
    results = json.loads(path.read_text())
    section, name, value = setting
    results["config"][section][name] = value
    path.write_text(json.dumps(results))
    with pytest.raises(ValueError, match="genetic-0 was tested again under another protocol or other inner"):
        compare_searches(config, "genetic", 1, str(tmp_path), quiet=True)


def test_the_table_is_sorted_and_parts_the_two_spreads(compared):
    rows = compared[2]["rows"]
    rows = [rows[0] | {"seed": seed, "accuracy": value} for seed, value in enumerate((0.5, 0.7, 0.6))]
    lines = searches_table({"seeds": 3, "rows": rows}).splitlines()
    assert [line.split()[1] for line in lines[1:4]] == ["1", "2", "0"]
    assert lines[-1].split() == ["genetic", "60.00", "10.00"]
    assert all(len(line) <= 100 for line in lines)


@pytest.mark.parametrize(
    ("strategies", "seeds", "says"),
    [("genetic,dartz", 1, "'dartz' is unknown"), ("", 1, "no strategy"), ("all", 0, "seeds=0")],
)
def test_a_wrong_request_is_refused_before_any_search(tiny, tmp_path, strategies, seeds, says):
    with pytest.raises(ValueError, match=says):
        compare_searches(tiny({}), strategies, seeds, str(tmp_path))
    assert not list(tmp_path.iterdir())
