"""A network as files: read in a fresh process, it computes what the supernet computes."""

import json

import jax
import numpy as np
import pytest

from atnas_jax.export import write
from atnas_jax.export.check import FILES, compare, difference_in_fresh_process
from atnas_jax.export.reader import FORMAT, load
from atnas_jax.export.readme import readme
from atnas_jax.export.write import export_network
from atnas_jax.job.faults import Fault
from atnas_jax.job.learners import evaluation_learner
from atnas_jax.job.spaces import make_space
from atnas_jax.novel.meta_network import MetaNetwork, save_meta_network
from atnas_jax.space.slots import random_genotypes

COUNTS = (3, 1, 2)  # support images of each class
CHANGES = {
    "chain": {
        "space.chain.ops": (("conv3", "sep3"), ("conv3", "max3", "identity")),
        "learner.name": "maml",
        "net.conv": "mixed",  # what is exported is of whole float32
    },
    "cell": {
        "space.family": "cell",
        "space.cell.ops": ("conv3", "avg3", "identity"),
        "space.cell.nodes": 1,
        "space.cell.layers": 2,
        "space.cell.reductions": (1,),
        "space.cell.channels": 4,
        "net.normalisation": "tasknorm",
    },
}


def _random(leaf):
    return np.random.default_rng(leaf.size).normal(0.1, 0.4, leaf.shape).astype(np.float32)


@pytest.fixture(scope="module", params=CHANGES)
def network(request, tiny, tmp_path_factory):
    """A workdir with a meta-network of each family at random weights."""
    config = tiny(CHANGES[request.param])
    space, shape = make_space(config), (10, 10, 1)
    learner = evaluation_learner(config, space, shape, 3)
    population = random_genotypes(jax.random.key(1), space, 4)
    workdir = tmp_path_factory.mktemp(request.param)
    params = jax.tree.map(_random, jax.eval_shape(learner.init, jax.random.key(0)).params)
    save_meta_network(str(workdir), MetaNetwork(params, population, space, shape, ((0.4,), (0.3,)), config))
    return str(workdir)


@pytest.fixture(scope="module")
def support(tiny_data, tmp_path_factory):
    """An npz of a few labelled images of three classes."""
    with np.load(tiny_data) as file:
        classes = file["images"].reshape(20, 10, 10, 10)[14:17]
    images = np.concatenate([rows[:count] for rows, count in zip(classes, COUNTS, strict=True)])
    path = tmp_path_factory.mktemp("support") / "support.npz"
    np.savez(path, images=images, labels=np.repeat(np.arange(3), COUNTS), class_names=("ant", "bee", "cow"))
    return str(path)


def _formats():
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError:
        return ("stablehlo", "npz")
    return tuple(FILES)


def test_an_adapted_network_is_read_in_a_fresh_process(network, support, tmp_path):
    found = export_network(network, str(tmp_path), support=support, formats=_formats(), generations=1, population=2)
    assert found["output"] == "logits" and found["classes"] == ["ant", "bee", "cow"]
    assert all(difference <= 1e-4 for difference in found["differences"].values())  # of logits up to 10
    about = json.loads((tmp_path / "network.json").read_text())
    assert not about["depends_on_batch"] and about["genotype"] == found["genotype"]
    exported = jax.export.deserialize(bytearray((tmp_path / "network.stablehlo.bin").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu") and str(exported.in_avals[0].shape[0]) == "batch"
    with np.load(tmp_path / "network.npz") as file:
        assert found["params"] == sum(file[name].size for name in file.files if not name.startswith("pixels/"))
    text = (tmp_path / "README.md").read_text()
    assert "0: ant, 1: bee, 2: cow" in text and "own image alone" in text
    # A planted fault: one number of one array.
    with np.load(tmp_path / "network.npz") as file:
        arrays = dict(file)
    name = next(name for name in arrays if name.endswith("/variance"))
    arrays[name][0] += 1
    np.savez(tmp_path / "network.npz", **arrays)
    compared = compare(str(tmp_path), "npz")
    assert compared["difference"] > 1e-5 * max(1, compared["largest"])
    if "onnx" not in found["differences"]:
        pytest.skip("network.onnx was not checked: type pip install onnx onnxruntime")


def test_a_difference_and_a_file_that_is_cut_off_are_told(network, tmp_path):
    found = export_network(network, str(tmp_path), formats=("npz",))
    assert found["output"] == "embedding" and found["differences"]["npz"] <= 1e-5 * 10
    assert json.loads((tmp_path / "network.json").read_text())["depends_on_batch"]
    assert "normalised by each other" in (tmp_path / "README.md").read_text()
    # One that is said to look at each image alone, and does not, is found out by one image.
    whole = (tmp_path / "network.json").read_text()
    (tmp_path / "network.json").write_text(whole.replace('"depends_on_batch": true', '"depends_on_batch": false'))
    assert compare(str(tmp_path), "npz")["difference"] > 1e-3
    (tmp_path / "network.json").write_text(whole.replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}'))
    with pytest.raises(ValueError, match=rf"has format {FORMAT + 1}; this reader knows {FORMAT}"):
        load(str(tmp_path))
    (tmp_path / "network.json").write_text(whole)
    with np.load(tmp_path / "probe.npz") as file:  # by three times what is allowed
        more = 3e-5 * max(1, np.abs(file["outputs"]).max())
        np.savez(tmp_path / "probe.npz", images=file["images"], outputs=file["outputs"] + more)
    with pytest.raises(Fault, match=r"network.npz differs by .* from the supernet"):
        difference_in_fresh_process(str(tmp_path), "npz")
    (tmp_path / "network.npz").write_bytes(b"")
    with pytest.raises(Fault, match=r"network\.npz cannot be read"):
        difference_in_fresh_process(str(tmp_path), "npz")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"formats": ("npz", "tflite")}, "format 'tflite' is unknown; choose some of stablehlo,npz,onnx"),
        ({"formats": ()}, "format '' is unknown"),
        ({"dtype": "int8"}, "dtype 'int8' is unknown; choose one of uint8, float32"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(network, tmp_path, change, says):
    with pytest.raises(ValueError, match=says):
        export_network(network, str(tmp_path / "out"), **change)
    assert not (tmp_path / "out").exists()


def test_what_was_asked_reaches_the_search(network, support, tmp_path, monkeypatch):
    told = {}

    def make_adapter(_, **options):
        def adapter(*images, seed):
            told.update(options, seed=seed)
            raise InterruptedError("far enough")

        return adapter

    monkeypatch.setattr(write, "make_adapter", make_adapter)
    with pytest.raises(InterruptedError):
        export_network(network, str(tmp_path), support=support, seed=5, generations=3, population=7)
    assert told == {"seed": 5, "generations": 3, "population": 7}


def test_the_readme_says_what_goes_in():
    about = {"image_shape": (10, 9, 1), "genotype": "x", "output": "embedding", "classes": [], "depends_on_batch": True}
    whole, share = (readme(about, tuple(FILES), dtype) for dtype in ("uint8", "float32"))
    assert "Images [n,10,9,1]" in whole
    assert whole.count("# uint8 [n,H,W,C]\n") == share.count("# float32 [n,H,W,C] in 0..1\n") == 2


def test_the_command(command, finished, tmp_path):
    done = command("export", f"--workdir={finished.workdir}", f"--out={tmp_path}", "--formats=npz", "--input=float32")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("architecture chain:") and "npz: read in a fresh process" in done.stdout
