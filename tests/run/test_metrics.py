"""Metrics: documented columns, no row lost, none twice."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest

from atnas_jax.run.metrics import COLUMNS, open_metrics


def _read(workdir):
    with open(workdir / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    return table, [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_rows_are_on_the_disk_at_once_and_the_same_in_both_files(tmp_path):
    metrics = open_metrics(str(tmp_path))
    metrics.write(step=1, phase="meta_train", loss=jnp.float32(0.5), accuracy=np.float64(0.25))
    metrics.write(step=2, best_genotype='conv3, "wide"', loss=float("nan"))
    table, rows = _read(tmp_path)  # before close
    assert list(table[0]) == list(COLUMNS)
    assert rows[0] == {"step": 1, "phase": "meta_train", "loss": 0.5, "accuracy": 0.25}
    assert rows[1] == {"step": 2, "loss": None, "best_genotype": 'conv3, "wide"'}
    assert (table[0]["loss"], table[1]["loss"], table[0]["params"]) == ("0.5", "nan", "")
    assert table[1]["best_genotype"] == 'conv3, "wide"'
    metrics.close()


def test_a_resumed_run_leaves_the_file_of_an_uninterrupted_one(tmp_path):
    def run(workdir, first, last, resume_step=None):
        metrics = open_metrics(str(workdir), resume_step)
        for step in range(first, last + 1):
            metrics.write(step=step, loss=1 / step, phase="meta_train", accuracy=np.nan if step == 2 else 0.5)
        metrics.close()

    run(tmp_path / "whole", 1, 9)
    run(tmp_path / "killed", 1, 7)
    for name, torn in (("metrics.csv", "8,meta_tr"), ("metrics.jsonl", '{"step": 8, "ph')):
        with open(tmp_path / "killed" / name, "a") as file:
            file.write(torn)
    run(tmp_path / "killed", 5, 9, resume_step=4)
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_last_line_without_its_end_is_torn_even_where_it_parses(tmp_path):
    metrics = open_metrics(str(tmp_path))
    metrics.write(step=1)
    metrics.write(step=2)
    metrics.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 3}')
    open_metrics(str(tmp_path), 3).close()
    table, rows = _read(tmp_path)
    assert [row["step"] for row in rows] == [1, 2]
    assert [row["step"] for row in table] == ["1", "2"]


def test_a_new_run_begins_anew(tmp_path):
    metrics = open_metrics(str(tmp_path))
    metrics.write(step=1)
    metrics.close()
    open_metrics(str(tmp_path)).close()
    assert _read(tmp_path) == ([], [])


@pytest.mark.parametrize("columns", [{"step": 1, "los": 2}, {"loss": 2}])
def test_a_column_that_is_not_documented_or_a_row_without_step_is_refused(tmp_path, columns):
    metrics = open_metrics(str(tmp_path))
    with pytest.raises(ValueError, match="needs step, and columns of"):
        metrics.write(**columns)
    metrics.close()
    assert _read(tmp_path) == ([], [])
