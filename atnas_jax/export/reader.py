"""An exported network, read and run with numpy alone; an export holds a copy of this file, called network.py.

    import network  # in the folder of the export

    outputs = network.run(network.load(".").layers, images)  # uint8 [n,H,W,C], or float32 in 0..1

A network is a list of layers, each of which reads the outputs of earlier ones by name; "images" is the input. Arrays
are called LAYER/ROLE in network.npz, all else is in network.json.

| op        | settings         | arrays                     | what, on float [n,H,W,C]                                 |
|-----------|------------------|----------------------------|----------------------------------------------------------|
| pixels    |                  | mean, deviation [C]        | (images - mean) / deviation, after /255 of uint8         |
| conv      | stride, dilation | kernel [s,s,c,d]           | centred convolution, zeros beyond the border             |
| depthwise | stride           | kernel [s,s,c]             | the same, of each channel with its own kernel            |
| max3 avg3 | stride           |                            | 3x3 pooling; of avg3 the zeros beyond count              |
| max2      | rows, columns    |                            | pooling of windows that do not overlap                   |
| every2    |                  |                            | every second row and column                              |
| channels  | channels         |                            | the first channels, zeros where there are fewer          |
| zeros     |                  |                            | zeros                                                    |
| norm      | kind, epsilon    | scale, bias [d], and below | (x - m) / sqrt(v + epsilon) * scale + bias               |
|           | kind fixed       | mean, variance [d]         | m and v as given                                         |
|           | kind batch       |                            | those of all of x, a channel                             |
|           | kind group, size |                            | those of `size` channels of each image                   |
|           | kind task        | task_scale, task_offset [] | TaskNorm-I, the batch being the support                  |
|           | kind task_fixed  | share [], mean, variance   | the same, of a support that is gone                      |
| others    |                  |                            | relu, add, concat of channels, flatten, mean over places |
| linear    |                  | w [D,N], b [N]             | x @ w + b                                                |
"""

import json
import os
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

FORMAT = 1


class Layer(NamedTuple):
    """One step of a network; its output goes by its name."""

    name: str
    op: str
    inputs: tuple[str, ...]
    settings: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Network(NamedTuple):
    """An exported network: its layers in order, the last one's output being the network's, and what is known of it."""

    layers: tuple[Layer, ...]
    about: dict[str, Any]


def load(folder: str) -> Network:
    """Read network.json and network.npz of a folder.

    Raises:
        ValueError: the files are of a format that this reader does not know.
    """
    with open(os.path.join(folder, "network.json"), encoding="utf-8") as file:
        about = json.load(file)
    if about["format"] != FORMAT:
        raise ValueError(f"{folder}/network.json has format {about['format']}; this reader knows {FORMAT}")
    with np.load(os.path.join(folder, "network.npz"), allow_pickle=False) as file:
        stored = dict(file)
    layers = [
        Layer(row["name"], row["op"], tuple(row["inputs"]), row["settings"],
              {role: stored[f"{row['name']}/{role}"] for role in row["arrays"]})
        for row in about.pop("layers")
    ]  # fmt: skip
    return Network(tuple(layers), about)


def run(layers: Sequence[Layer], images: Any, xp: Any = np, ops: dict[str, Callable] | None = None) -> Any:
    """Return the output of a network, float32 [n,N] or [n,D].

    Args:
        layers: of the network.
        images: uint8 [n,H,W,C], or float32 in 0..1.
        xp: numpy, or a module that has its functions.
        ops: instead of `OPS`.
    """
    values, ops = {"images": images}, ops or OPS
    for layer in layers:
        values[layer.name] = ops[layer.op](xp, layer, *(values[name] for name in layer.inputs))
    return values[layers[-1].name]


def _pixels(xp, layer, images):
    x = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
    return (x - layer.arrays["mean"]) / layer.arrays["deviation"]


def _taps(xp, x, size, stride, dilation=1, beyond=0.0):
    """Return what each place of a window sees, row by row: size*size of [n,ceil(H/stride),ceil(W/stride),C]."""
    h, w, pad = x.shape[1], x.shape[2], dilation * (size // 2)
    x = xp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=beyond) if pad else x
    at = [dilation * i for i in range(size)]
    return [x[:, i : i + h : stride, j : j + w : stride] for i in at for j in at]


def _conv(xp, layer, x):
    kernel = layer.arrays["kernel"]
    taps = _taps(xp, x, kernel.shape[0], layer.settings["stride"], layer.settings["dilation"])
    return sum(tap @ weights for tap, weights in zip(taps, kernel.reshape(-1, *kernel.shape[2:])))


def _depthwise(xp, layer, x):
    kernel = layer.arrays["kernel"]
    taps = _taps(xp, x, kernel.shape[0], layer.settings["stride"])
    return sum(tap * weights for tap, weights in zip(taps, kernel.reshape(-1, kernel.shape[2])))


def _max3(xp, layer, x):
    return reduce(xp.maximum, _taps(xp, x, 3, layer.settings["stride"], beyond=float(np.finfo(np.float32).min)))


def _max2(xp, layer, x):
    rows, columns = layer.settings["rows"], layer.settings["columns"]
    h, w = x.shape[1] // rows * rows, x.shape[2] // columns * columns
    return reduce(xp.maximum, [x[:, i:h:rows, j:w:columns] for i in range(rows) for j in range(columns)])


def _channels(xp, layer, x):
    more = layer.settings["channels"] - x.shape[-1]
    return xp.pad(x, ((0, 0), (0, 0), (0, 0), (0, more))) if more > 0 else x[..., : layer.settings["channels"]]


def _norm(xp, layer, x):
    mean, variance = MOMENTS[layer.settings["kind"]](xp, layer, x)
    return (x - mean) * (layer.arrays["scale"] / xp.sqrt(variance + layer.settings["epsilon"])) + layer.arrays["bias"]


def _of_batch(xp, layer, x):
    mean = x.mean((0, 1, 2))
    return mean, xp.square(x - mean).mean((0, 1, 2))


def _of_group(xp, layer, x):
    share = sharing(x.shape[-1], layer.settings["size"])
    mean = (x.mean((1, 2)) @ share)[:, None, None, :]
    return mean, (xp.square(x - mean).mean((1, 2)) @ share)[:, None, None, :]


def sharing(channels: int, size: int) -> np.ndarray:
    """Return float32 [C,C], symmetric: the mean over the channels of the same group of `size`."""
    group = np.arange(channels) // size
    member = (group[:, None] == group).astype(np.float32)
    return member / member.sum(0)


def of_images(xp: Any, x: Any) -> tuple[Any, Any]:
    """Return mean and variance of each image and channel, [n,1,1,C]."""
    mean = x.mean((1, 2), keepdims=True)
    return mean, xp.square(x - mean).mean((1, 2), keepdims=True)


def support_statistics(xp: Any, layer: Layer, x: Any) -> dict[str, Any]:
    """Return the arrays share [], mean and variance [C] of a norm of kind task, x being the support."""
    mean, variance = of_images(xp, x)
    rows = xp.ones_like(mean[:, 0, 0, 0]).sum()
    share = 1 / (1 + xp.exp(-(layer.arrays["task_scale"] * rows + layer.arrays["task_offset"])))
    middle = mean.mean(0)[0, 0]
    return {"share": share, "mean": middle, "variance": (variance + xp.square(mean - middle)).mean(0)[0, 0]}


def _of_task(xp, layer, x):
    return _mixed(xp, support_statistics(xp, layer, x), x)


def _mixed(xp, support, x):
    """Mix statistics of a support with those of each image (Bronskill et al. 2020, section 4)."""
    share, (mean, variance) = support["share"], of_images(xp, x)
    mixed = share * support["mean"] + (1 - share) * mean
    spread = share * (support["variance"] + xp.square(support["mean"] - mixed))
    return mixed, spread + (1 - share) * (variance + xp.square(mean - mixed))


MOMENTS = {
    "fixed": lambda xp, layer, x: (layer.arrays["mean"], layer.arrays["variance"]),
    "batch": _of_batch,
    "group": _of_group,
    "task": _of_task,
    "task_fixed": lambda xp, layer, x: _mixed(xp, layer.arrays, x),
}
OPS = {
    "pixels": _pixels,
    "conv": _conv,
    "depthwise": _depthwise,
    "max3": _max3,
    "avg3": lambda xp, layer, x: sum(_taps(xp, x, 3, layer.settings["stride"])) / 9,
    "max2": _max2,
    "every2": lambda xp, layer, x: x[:, ::2, ::2],
    "channels": _channels,
    "zeros": lambda xp, layer, x: xp.zeros_like(x),
    "norm": _norm,
    "relu": lambda xp, layer, x: xp.maximum(x, 0),
    "add": lambda xp, layer, x, y: x + y,
    "concat": lambda xp, layer, *xs: xp.concatenate(xs, -1),
    "flatten": lambda xp, layer, x: x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3]),
    "mean": lambda xp, layer, x: x.mean((1, 2)),
    "linear": lambda xp, layer, x: x @ layer.arrays["w"] + layer.arrays["b"],
}
