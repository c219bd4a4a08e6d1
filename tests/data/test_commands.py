"""check_data and prepare_tfds, run as a user runs them."""

import numpy as np
import pytest
from PIL import Image

from atnas_jax.data.sources import load


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.npz"
    np.savez(
        path,
        images=np.random.default_rng(0).integers(0, 256, (40, 9, 9, 3), dtype=np.uint8),
        labels=np.repeat(np.arange(8), 5),
        class_names=[f"kind of {i}" for i in range(8)],
        class_groups=["a"] * 4 + ["b"] * 4,
        class_split=["meta_train"] * 4 + ["meta_valid"] * 2 + ["meta_test"] * 2,
        class_split_other=["meta_test"] * 4 + ["meta_train"] * 4,
    )
    return path


def test_check_data(small, tmp_path, command):
    out = tmp_path / "episodes.png"
    done = command("check_data", f"--source={small}", "--ways=3", "--shots=2", "--queries=3", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert load(str(small)).fingerprint in done.stdout and "meta_train 4 classes in 1 groups" in done.stdout
    assert "9x9x3" in done.stdout and "4 each and 5 together" in done.stdout
    with Image.open(out) as picture:
        assert picture.width > 600 and np.asarray(picture.convert("L")).std() > 20


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--source=/nowhere.npz"], "npz file /nowhere.npz does not exist"),
        (["--ways=5", "--out=OUT"], "ways=5 but meta_train of npz:small.npz has 4 classes"),
        (["--ways=2", "--queries=5", "--out=OUT"], "has only 5 images, shots + queries = 6 needed"),
        (["--protocol=cifar_fs"], "protocol cifar_fs has 64/16/20 classes"),
    ],
)
def test_check_data_refuses_in_one_line(small, tmp_path, command, flags, says):
    out = tmp_path / "episodes.png"
    flags = [flag.replace("OUT", str(out)) for flag in flags]
    done = command("check_data", *([] if "--source" in flags[0] else [f"--source={small}"]), *flags)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not out.exists()


def test_tfds_round_trip(small, tmp_path, command):
    pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    data_dir = tmp_path / "tfds"
    before = command("check_data", f"--source=tfds:mine@{data_dir}")
    assert before.returncode == 2 and "python -m launch.prepare_tfds" in before.stderr
    done = command("prepare_tfds", f"--source={small}", "--name=mine", f"--out={data_dir}")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in data_dir.iterdir()] == ["mine"]
    for split in ("", "other", "group:a=meta_test"):
        ours, theirs = load(str(small), split=split), load(f"tfds:mine@{data_dir}", split=split)
        assert ours.class_names == theirs.class_names and ours.class_groups == theirs.class_groups
        assert [a.tolist() for a in ours.table[1:]] == [a.tolist() for a in theirs.table[1:]]
        a, b = (np.sort(np.asarray(d.table.images).reshape(8, 5, -1).view("V243"), axis=1) for d in (ours, theirs))
        assert np.array_equal(a, b)  # the same images in every class; TFDS shuffles them within
    assert load(f"tfds:mine@{data_dir}").fingerprint == load(f"tfds:mine@{data_dir}").fingerprint
    again = command("prepare_tfds", f"--source={small}", "--name=mine", f"--out={data_dir}")
    assert again.returncode == 2 and "exists: type another name" in again.stderr


def test_our_own_omniglot_without_splits_is_not_inverted_and_that_of_others_is(small, tmp_path, monkeypatch):
    tfds_source = pytest.importorskip("atnas_jax.data.tfds_source")
    tfds = pytest.importorskip("tensorflow_datasets")
    from atnas_jax.data.sources import read

    data, _ = read(str(small))
    tfds_source.write_tfds(data._replace(splits={}), "omniglot", str(tmp_path))

    def pixels():
        found = tfds_source.read_tfds(f"omniglot@{tmp_path}")
        return sorted(map(bytes, found.images.reshape(40, -1)))

    assert pixels() == sorted(map(bytes, data.images.reshape(40, -1)))
    monkeypatch.setattr(tfds.core.DatasetInfo, "metadata", property(lambda info: None))
    assert pixels() == sorted(map(bytes, 255 - data.images.reshape(40, -1)))


def test_prepare_tfds_leaves_nothing_behind_on_failure(small, tmp_path, monkeypatch):
    tfds_source = pytest.importorskip("atnas_jax.data.tfds_source")
    pytest.importorskip("tensorflow_datasets")
    from atnas_jax.data.sources import read

    data, _ = read(str(small))
    monkeypatch.setattr(tfds_source, "encode_png", lambda image: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        tfds_source.write_tfds(data, "mine", str(tmp_path / "tfds"))
    assert list((tmp_path / "tfds").iterdir()) == []
    with pytest.raises(ValueError, match="name 'My Data'"):
        tfds_source.write_tfds(data, "My Data", str(tmp_path / "tfds"))
