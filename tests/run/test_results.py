"""Results: the interval by hand, a schema that refuses, an atomic file, a table that fits."""

import copy
import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.job.results import check_results, interval, peak_memory_mb, results_table, versions, write_results


def _row(accuracy, params=12345, macs=1234567):
    return {"accuracy": accuracy, "ci95": 0.0123, "episodes": 600, "params": params, "macs": macs}


def _results():
    return {
        "schema": 1,
        "config": {"seed": 0, "search": {"objectives": ("accuracy",)}},
        "seed": 0,
        "versions": versions(),
        "data": {
            "source": "npz:omniglot_28.npz",
            "fingerprint": "abc",
            "split": "given",
            "class_counts": {"meta_train": 1028, "meta_valid": 172, "meta_test": 423},
        },
        "protocol": {
            "ways": 5, "shots": 1, "queries": 15, "episodes": 600, "inner_steps": 1, "normalisation": "inductive",
        },
        "genotype": "depth=4 op0=conv3",
        "space": {"family": "chain"},
        "params": 12345,
        "macs": 1234567,
        "meta_test": {"adapted": _row(0.9), "best": _row(0.89), "random_architecture": _row(0.5, 1000.5)},
        "meta_test_other": {"normalisation": "transductive", "rows": {"best": _row(0.95)}},
        "ledger": {
            "compile_s": 1.0, "meta_train_s": 2, "search_s": 3.0, "control_s": 1.0,
            "adapt_s_per_task": 0.1, "meta_test_s": 1.0, "peak_memory_mb": peak_memory_mb(),
        },
        "history": [{"generation": 1, "best": 0.5}],
    }  # fmt: skip


def test_the_interval_by_hand():
    # mean 0.5; squares of the differences sum to 0.2 over n - 1 = 4: sd = sqrt(0.05)
    mean, half = interval(jnp.array([0.2, 0.4, 0.5, 0.6, 0.8]))
    assert mean == pytest.approx(0.5)
    assert half == pytest.approx(1.96 * np.sqrt(0.05 / 5))
    with pytest.raises(ValueError, match="2 episodes or more"):
        interval(np.array([1.0]))


def test_the_interval_covers_the_truth_in_95_of_100():
    draws = np.random.default_rng(0).binomial(15, 0.7, (2000, 100)) / 15
    inside = [abs(mean - 0.7) <= half for mean, half in map(interval, draws)]
    assert 0.93 < np.mean(inside) < 0.965


def test_sound_results_are_written_whole_and_read_back(tmp_path):
    path = write_results(str(tmp_path / "run"), _results())
    assert os.listdir(tmp_path / "run") == ["results.json"]
    with open(path) as file:
        loaded = json.load(file)
    check_results(loaded)
    assert loaded["config"]["search"]["objectives"] == ["accuracy"]
    assert loaded["meta_test"] == _results()["meta_test"]


def test_the_other_normalisation_may_be_absent():
    check_results(_results() | {"meta_test_other": None})
    assert "transductive" not in results_table(_results() | {"meta_test_other": None})


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("schema", 2, "this version reads 1"),
        ("seed", "0", "results.seed is '0'; it must be a int"),
        ("seed", True, "results.seed is True"),
        ("params", 1.5, "results.params is 1.5"),
        ("protocol.normalisation", "batch", "allowed: inductive, transductive"),
        ("meta_test", {}, "results.meta_test has no row"),
        ("meta_test.best.accuracy", 90.0, "it is a share, from 0 to 1"),
        ("meta_test.best.ci95", float("nan"), "results.meta_test.best.ci95 is nan; it must be finite"),
        ("meta_test.best.ci95", None, "it must be a number"),
        ("meta_test.best.sd", 1.0, "results.meta_test.best has the unknown key 'sd'"),
        ("meta_test_other.normalisation", "other", "meta_test_other is 'other'"),
        ("ledger.gpu_s", 1.0, "unknown key 'gpu_s'"),
        ("notes", "x", "results has the unknown key 'notes'"),
        ("history", {}, "must be a list"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(path, value, says):
    results = copy.deepcopy(_results())
    *sections, last = path.split(".")
    inner = results
    for section in sections:
        inner = inner[section]
    inner[last] = value
    with pytest.raises(ValueError, match=says) as caught:
        check_results(results)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["fingerprint", "class_counts"])
def test_a_missing_key_is_named(path):
    results = _results()
    del results["data"][path]
    with pytest.raises(ValueError, match=f"results.data lacks '{path}'"):
        check_results(results)


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path):
    path = write_results(str(tmp_path), _results())
    before = open(path).read()
    with pytest.raises(ValueError, match="JSON"):
        write_results(str(tmp_path), _results() | {"history": [{"best": np.float32(1)}]})
    assert open(path).read() == before
    assert os.listdir(tmp_path) == ["results.json"]


def test_the_table_names_all_that_a_reader_needs_within_100_columns():
    results = _results() | {"genotype": "op=conv3 " * 40}
    results["meta_test"]["a_row_with_a_very_long_name_indeed"] = _row(1.0, 10**9, 10**11)
    table = results_table(results)
    assert max(map(len, table.splitlines())) <= 100
    assert "5-way 1-shot, 15 queries a class, 600 episodes, 1 inner step" in table
    assert "inductive %" in table
    assert "transductive %" in table
    assert "standard deviation" not in table
    results["meta_test"]["random_architecture"]["architecture_sd"] = 0.05
    check_results(results)
    spread = "random_architecture: standard deviation over its architectures 5.00 points"
    assert spread in results_table(results).splitlines()
    best = next(line for line in table.splitlines() if line.startswith("best"))
    assert best.split() == ["best", "89.00", "±", "1.23", "95.00", "±", "1.23", "12,345", "1,234,567"]
    adapted = next(line for line in table.splitlines() if line.startswith("adapted"))
    assert adapted.split() == ["adapted", "90.00", "±", "1.23", "-", "12,345", "1,234,567"]


def test_the_table_says_what_ended_its_adaptations():
    results = _results()
    said = "an adaptation ends early once its support loss, or the fall of it, is below 0.001 nats"
    assert said not in results_table(results)
    results["config"]["learner"] = {"tolerance": 0.001}
    assert said in results_table(results).splitlines()
    assert "600 episodes, at most 1 inner step\n" in results_table(results)
