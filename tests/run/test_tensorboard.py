"""TensorBoard besides CSV and JSONL: stable names, and one line where it is not installed."""

import glob

import pytest

from atnas_jax.run import tensorboard
from atnas_jax.run.metrics import open_metrics


def test_without_tensorboardx_the_run_refuses_in_one_line(monkeypatch, tiny, tmp_path):
    from atnas_jax.run.search import across_task_search

    monkeypatch.setattr(tensorboard.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'atnas_jax\[tensorboard\]'"):
        across_task_search(tiny({"log.tensorboard": True}), str(tmp_path / "run"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_rows_arrive_under_phase_and_column(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    metrics = tensorboard.with_tensorboard(open_metrics(str(tmp_path)), str(tmp_path))
    metrics.write(step=5, phase="meta_train", loss=0.25)
    metrics.write(step=5, phase="search", best_fitness=0.5, best_genotype="chain:d1")
    with pytest.raises(ValueError, match="columns of"):
        metrics.write(step=6, nothing=1.0)
    metrics.close()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    (path,) = glob.glob(str(tmp_path / "tensorboard" / "*"))
    found = {}
    with open(path, "rb") as file:
        while head := file.read(12):  # a length of 8 bytes and its checksum of 4, then the event and its checksum
            event = Event.FromString(file.read(int.from_bytes(head[:8], "little")))
            file.read(4)
            found |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
    assert found["meta_train/loss"] == (5, 0.25)
    assert found["search/best_fitness"] == (5, 0.5)
    assert any(tag.startswith("search/best_genotype") for tag in found)
    assert not any(tag.endswith(("/step", "/phase")) for tag in found)
