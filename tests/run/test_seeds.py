"""Runs of several seeds: mean and deviation by hand, what may not be merged, and finished runs are not run again."""

import copy
import json
import os

import numpy as np
import pytest

from atnas_jax.study import seeds as module
from atnas_jax.study.seeds import merge, run_seeds, seeds_table

ACCURACIES = ({"best": 0.80, "conv4": 0.70}, {"best": 0.90, "conv4": 0.84}, {"best": 0.85, "conv4": 0.74})


def _results(results, seed):
    """Return the results of a run as of another seed, with accuracies that a hand can compute with."""
    results = copy.deepcopy(results)
    results["seed"] = results["config"]["seed"] = seed
    for rows in (results["meta_test"], results["meta_test_other"]["rows"]):
        for row, accuracy in ACCURACIES[seed].items():
            rows[row] |= {"accuracy": accuracy, "ci95": 0.01 * (seed + 1)}
    return results


def _write(folder, results):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "results.json"), "w") as file:
        json.dump(results, file)
    return str(folder)


@pytest.fixture
def runs(finished, tmp_path):
    """Three finished runs of one config."""
    return [_write(tmp_path / f"run{seed}", _results(finished.results, seed)) for seed in range(3)]


def test_mean_and_deviation_by_hand(runs):
    record = merge(runs)
    assert record["seeds"] == [0, 1, 2]
    assert list(record["rows"]) == ["inductive", "transductive"]
    best = record["rows"]["inductive"]["best"]
    assert best["accuracy"] == pytest.approx(0.85)
    assert best["sd"] == pytest.approx(0.05)  # squares 0.0025, 0.0025, 0 over n - 1 = 2
    assert best["values"] == [0.80, 0.90, 0.85]
    assert best["ci95_over_episodes"] == [0.01, 0.02, 0.03]  # of each run, apart from the deviation
    (difference,) = (d for d in record["differences"]["inductive"] if (d["row"], d["minus"]) == ("best", "conv4"))
    assert difference["values"] == pytest.approx([0.10, 0.06, 0.11])
    assert difference["difference"] == pytest.approx(0.09)
    assert difference["sd"] == pytest.approx(np.sqrt((0.01**2 + 0.03**2 + 0.02**2) / 2))
    text = seeds_table(record)
    assert max(map(len, text.splitlines())) <= 100
    line = next(line for line in text.splitlines() if line.startswith("best "))
    assert line.split() == ["best", "85.00", "±", "5.00", "85.00", "±", "5.00"]
    assert "+9.00 ± 2.65" in text
    assert (
        record["remarks"] == []
        and seeds_table(record | {"remarks": ["it was easier"]}).splitlines()[2] == "it was easier"
    )


def test_a_row_that_one_run_lacks_is_left_out(runs):
    with open(os.path.join(runs[1], "results.json")) as file:
        results = json.load(file)
    del results["meta_test"]["conv4"]
    results["meta_test_other"] = None
    _write(runs[1], results)
    rows = merge(runs)["rows"]
    assert list(rows) == ["inductive"] and "conv4" not in rows["inductive"] and "best" in rows["inductive"]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("config.train.outer_lr", 0.5, r"more than the seed \(train\.outer_lr\)"),
        ("config.protocol.seed", 7, r"more than the seed \(protocol\.seed\)"),
        ("seed", 0, "both of seed 0"),
        ("data.fingerprint", "other", "other data"),
    ],
)
def test_runs_that_differ_in_more_than_the_seed_are_not_merged(runs, path, value, says):
    with open(os.path.join(runs[2], "results.json")) as file:
        results = json.load(file)
    *sections, last = path.split(".")
    inner = results
    for section in sections:
        inner = inner[section]
    inner[last] = value
    _write(runs[2], results)
    with pytest.raises(ValueError, match=says) as caught:
        merge(runs)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_named(runs, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere holds no finished search"):
        merge([*runs, str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="2 or more"):
        merge(runs[:1])
    with pytest.raises(ValueError, match="run0 twice"):
        merge([runs[0], runs[1], runs[0]])


def test_each_seed_is_run_in_its_own_folder_by_its_own_config(finished, tmp_path, monkeypatch):
    ran = []

    def search(config, workdir, *, quiet):
        ran.append((config.seed, os.path.basename(workdir)))
        differ = config.copy_and_resolve_references()
        differ.seed = finished.config.seed
        assert differ == finished.config and quiet
        _write(workdir, _results(finished.results, config.seed))

    monkeypatch.setattr(module, "across_task_search", search)
    record = run_seeds(finished.config, str(tmp_path), 3, quiet=True)
    assert ran == [(0, "seed0"), (1, "seed1"), (2, "seed2")]
    assert json.loads((tmp_path / "seeds.json").read_text()) == record
    assert record["rows"]["inductive"]["best"]["sd"] == pytest.approx(0.05)
    assert finished.config.seed == 0
