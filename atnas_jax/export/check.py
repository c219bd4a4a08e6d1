"""Does an exported file compute what the supernet computes? Each format is read in a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np

FILES = {"stablehlo": "network.stablehlo.bin", "npz": "network.npz", "onnx": "network.onnx"}
TOLERANCE = 1e-5  # of an output, or of the largest output where that is more than 1
UNCHECKED = 3  # exit status where the reader of a format is not installed


def difference_in_fresh_process(out: str, name: str) -> float | None:
    """Return the largest difference between a format and probe.npz, or None where its runtime is not installed.

    Raises:
        Fault: the file cannot be read, or differs by more than `TOLERANCE`.
    """
    from atnas_jax.job.faults import Fault  # here, as that imports jax, and the fresh process must do without

    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-m", "atnas_jax.export.check", out, name],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    if done.returncode == UNCHECKED:
        return None
    if done.returncode:
        raise Fault(f"{out}/{FILES[name]} cannot be read: {(done.stderr.strip() or 'killed').splitlines()[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if not found["difference"] <= TOLERANCE * max(1.0, found["largest"]):
        raise Fault(f"{out}/{FILES[name]} differs by {found['difference']:.2g} from the supernet; report this")
    return found["difference"]


def compare(out: str, name: str) -> dict[str, float]:
    """Return the largest difference from probe.npz, and the largest output; NaN where an output is no number.

    Where a network's output for an image does not depend on the others, the first image is also given alone.
    """
    with np.load(os.path.join(out, "probe.npz"), allow_pickle=False) as file:
        images, outputs = file["images"], file["outputs"]
    with open(os.path.join(out, "network.json"), encoding="utf-8") as file:
        about = json.load(file)
    if about["input"] == "float32":
        images = images.astype(np.float32) / 255
    network = READERS[name](out)
    found = np.abs(network(images) - outputs).max()
    if not about["depends_on_batch"]:
        found = max(found, np.abs(network(images[:1]) - outputs[:1]).max())
    return {"difference": float(found), "largest": float(np.abs(outputs).max())}


def _npz(out: str) -> Callable:
    spec = importlib.util.spec_from_file_location("network", os.path.join(out, "network.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    layers = module.load(out).layers
    return lambda images: module.run(layers, images)


def _stablehlo(out: str) -> Callable:
    import jax.export

    with open(os.path.join(out, FILES["stablehlo"]), "rb") as file:
        network = jax.export.deserialize(bytearray(file.read()))
    return lambda images: np.asarray(network.call(images))


def _onnx(out: str) -> Callable:
    try:
        import onnxruntime
    except ImportError:
        sys.exit(UNCHECKED)
    session = onnxruntime.InferenceSession(os.path.join(out, FILES["onnx"]), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


READERS = {"stablehlo": _stablehlo, "npz": _npz, "onnx": _onnx}

if __name__ == "__main__":
    if sys.argv[2] != "stablehlo":
        sys.modules["jax"] = None  # what imports it fails
    print(json.dumps(compare(*sys.argv[1:])))
