"""The text that lies beside an exported network and says how each file is loaded."""

from collections.abc import Sequence

_LOAD = {
    "npz": """## network.npz and network.json, with numpy alone

```python
import network  # network.py of this folder

outputs = network.run(network.load(".").layers, images)  # uint8 [n,H,W,C], or float32 in 0..1
```

The arrays are LAYER/ROLE of the layers in network.json; network.py says what each op does.
""",
    "stablehlo": """## network.stablehlo.bin, with JAX on cpu, cuda or tpu

```python
import jax.export

with open("network.stablehlo.bin", "rb") as file:
    outputs = jax.export.deserialize(bytearray(file.read())).call(images)  # {dtype} [n,H,W,C]{values}
```
""",
    "onnx": """## network.onnx, with any ONNX runtime

```python
import onnxruntime

session = onnxruntime.InferenceSession("network.onnx")
outputs = session.run(None, {{"images": images}})[0]  # {dtype} [n,H,W,C]{values}
```
""",
}


def readme(about: dict[str, object], formats: Sequence[str], dtype: str) -> str:
    """Return the text of README.md of an export; `about` as in network.json."""
    height, width, channels = about["image_shape"]
    values = "" if dtype == "uint8" else " in 0..1"
    text = f"# A network exported by atnas_jax\n\nArchitecture `{about['genotype']}`.\n\n"
    text += f"Images [n,{height},{width},{channels}], channels last. "
    if about["output"] == "logits":
        names = ", ".join(f"{number}: {name}" for number, name in enumerate(about["classes"]))
        text += f"Output: logits float32 [n,{len(about['classes'])}] of the classes {names}. "
    else:
        text += "Output: an embedding float32 [n,D]. "
    if about["depends_on_batch"]:
        text += "The images of a batch are normalised by each other, so an output depends on all of its batch.\n"
    else:
        text += "An output depends on its own image alone.\n"
    text += "\nprobe.npz has images and the outputs that the supernet gave for them.\n"
    for name in ("npz", "stablehlo", "onnx"):
        if name in formats:
            text += "\n" + (_LOAD[name] if name == "npz" else _LOAD[name].format(dtype=dtype, values=values))
    return text
