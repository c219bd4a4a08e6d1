"""The layers of a network as an ONNX graph, written with the `onnx` package alone.

The ops are few and known, so that each is one ONNX op or a handful of arithmetic. A converter of JAX programs would
turn the windows that `nets/` writes out into slices and sums, which runtimes do not recognise as convolutions.
"""

from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np

from atnas_jax.export.reader import Layer, sharing

OPSET, IR_VERSION = 17, 8  # of 2022: old enough for the runtimes in use, and it has all that is needed
MISSING = "format 'onnx' needs the package onnx; type pip install 'atnas_jax[onnx]'"


def to_onnx(layers: Sequence[Layer], image_shape: tuple[int, int, int], dtype: str) -> bytes:
    """Return the network as a serialized ONNX model; "images" dtype [batch,H,W,C] -> "logits" or "embedding".

    Raises:
        ValueError: the package onnx is absent.
    """
    onnx = need_onnx()
    nodes, constants, names = [], [], {"images": "images"}
    for number, layer in enumerate(layers):
        op, constant = _emitters(onnx, layer.name, nodes, constants)
        last = number == len(layers) - 1
        out = WRITERS[layer.op](op, constant, layer, *(names[name] for name in layer.inputs), **_type_of(layer, dtype))
        names[layer.name] = op("Identity", out, named=layer.name) if last else out
    helper, of = onnx.helper, {"uint8": onnx.TensorProto.UINT8, "float32": onnx.TensorProto.FLOAT}
    images = helper.make_tensor_value_info("images", of[dtype], ["batch", *image_shape])
    result = helper.make_tensor_value_info(layers[-1].name, of["float32"], ["batch", None])
    graph = helper.make_graph(nodes, "network", [images], [result], constants)
    model = helper.make_model(
        graph, producer_name="atnas_jax", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def need_onnx() -> ModuleType:
    """Return the package onnx; ValueError, in one line, where it is absent."""
    try:
        import onnx
    except ImportError as error:
        raise ValueError(MISSING) from error
    return onnx


def _type_of(layer: Layer, dtype: str) -> dict[str, bool]:
    return {"whole": dtype == "uint8"} if layer.op == "pixels" else {}


def _emitters(onnx, prefix: str, nodes: list, constants: list) -> tuple[Callable, Callable]:
    """Return op(kind, *inputs, **attributes) and constant(array), which add to the lists and return a name."""

    def op(kind, *inputs, named="", **attributes):
        name = named or f"{prefix}:{len(nodes)}"
        nodes.append(
            onnx.helper.make_node(kind, list(inputs), [name], name=f"{prefix}:{kind}{len(nodes)}", **attributes)
        )
        return name

    def constant(array):
        name = f"{prefix}:constant{len(constants)}"
        constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    return op, constant


def _per_channel(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32).reshape(1, -1, 1, 1)


def _pixels(op, constant, layer, x, whole):
    if whole:
        x = op("Div", op("Cast", x, to=1), constant(np.float32(255)))
    x = op("Div", op("Sub", x, constant(layer.arrays["mean"])), constant(layer.arrays["deviation"]))
    return op("Transpose", x, perm=[0, 3, 1, 2])


def _conv(op, constant, layer, x):
    kernel, stride, dilation = layer.arrays["kernel"], layer.settings["stride"], layer.settings["dilation"]
    return _convolved(op, constant, x, kernel.transpose(3, 2, 0, 1), stride, dilation, 1)


def _depthwise(op, constant, layer, x):
    kernel = layer.arrays["kernel"].transpose(2, 0, 1)[:, None]
    return _convolved(op, constant, x, kernel, layer.settings["stride"], 1, len(kernel))


def _convolved(op, constant, x, kernel, stride, dilation, groups):
    size = kernel.shape[2]
    return op(
        "Conv", x, constant(kernel), kernel_shape=[size, size], pads=[dilation * (size // 2)] * 4,
        strides=[stride] * 2, dilations=[dilation] * 2, group=groups,
    )  # fmt: skip


def _pool3(kind, **attributes):
    def pool(op, constant, layer, x):
        return op(kind, x, kernel_shape=[3, 3], pads=[1] * 4, strides=[layer.settings["stride"]] * 2, **attributes)

    return pool


def _max2(op, constant, layer, x):
    window = [layer.settings["rows"], layer.settings["columns"]]
    return op("MaxPool", x, kernel_shape=window, strides=window)


def _slice(op, constant, x, starts, ends, axes, steps):
    return op("Slice", x, *(constant(np.asarray(value, np.int64)) for value in (starts, ends, axes, steps)))


def _every2(op, constant, layer, x):
    return _slice(op, constant, x, [0, 0], [2**31 - 1] * 2, [2, 3], [2, 2])


def _channels(op, constant, layer, x):
    """Pad by as many zeros as there may be missing, then cut: the number that comes in is not written down."""
    channels = layer.settings["channels"]
    padded = op("Pad", x, constant(np.asarray([0, 0, 0, 0, 0, channels, 0, 0], np.int64)))
    return _slice(op, constant, padded, [0], [channels], [1], [1])


def _norm(op, constant, layer, x):
    kind, arrays, epsilon = layer.settings["kind"], layer.arrays, layer.settings["epsilon"]
    if kind == "fixed":
        given = [constant(arrays[name]) for name in ("scale", "bias", "mean", "variance")]
        return op("BatchNormalization", x, *given, epsilon=epsilon)
    moments = {"batch": _of_batch, "group": _of_group, "task": _of_task, "task_fixed": _of_task}[kind]
    mean, variance = moments(op, constant, layer, x)
    deviation = op("Sqrt", op("Add", variance, constant(np.float32(epsilon))))
    scaled = op("Mul", op("Sub", x, mean), op("Div", constant(_per_channel(arrays["scale"])), deviation))
    return op("Add", scaled, constant(_per_channel(arrays["bias"])))


def _moments(op, x, axes):
    mean = op("ReduceMean", x, axes=axes, keepdims=1)
    from_mean = op("Sub", x, mean)
    return mean, op("ReduceMean", op("Mul", from_mean, from_mean), axes=axes, keepdims=1)


def _of_batch(op, constant, layer, x):
    return _moments(op, x, [0, 2, 3])


def _of_group(op, constant, layer, x):
    if layer.settings["size"] == 1:
        return _moments(op, x, [2, 3])
    channels = len(layer.arrays["scale"])
    share = constant(sharing(channels, layer.settings["size"]).reshape(channels, channels, 1, 1))
    mean = op("Conv", op("ReduceMean", x, axes=[2, 3], keepdims=1), share)
    from_mean = op("Sub", x, mean)
    return mean, op("Conv", op("ReduceMean", op("Mul", from_mean, from_mean), axes=[2, 3], keepdims=1), share)


def _of_task(op, constant, layer, x):
    """See `reader._mixed`; with kind task the batch is the support."""

    def weighted(a, b):
        return op("Add", op("Mul", share, a), op("Mul", rest, b))

    def plus_square(a, b, c):
        apart = op("Sub", b, c)
        return op("Add", a, op("Mul", apart, apart))

    arrays, (mean, variance) = layer.arrays, _moments(op, x, [2, 3])
    if layer.settings["kind"] == "task_fixed":
        share = constant(arrays["share"].reshape(1))
        middle, spread = (constant(_per_channel(arrays[name])) for name in ("mean", "variance"))
    else:
        rows = op("Cast", op("Shape", x, start=0, end=1), to=1)
        scale, offset = (constant(arrays[name].reshape(1)) for name in ("task_scale", "task_offset"))
        share = op("Sigmoid", op("Add", op("Mul", scale, rows), offset))
        middle = op("ReduceMean", mean, axes=[0], keepdims=1)
        spread = op("ReduceMean", plus_square(variance, mean, middle), axes=[0], keepdims=1)
    rest = op("Sub", constant(np.ones(1, np.float32)), share)
    mixed = weighted(middle, mean)
    return mixed, weighted(plus_square(spread, middle, mixed), plus_square(variance, mean, mixed))


def _flatten(op, constant, layer, x):
    return op("Flatten", op("Transpose", x, perm=[0, 2, 3, 1]), axis=1)


WRITERS = {
    "pixels": _pixels,
    "conv": _conv,
    "depthwise": _depthwise,
    "max3": _pool3("MaxPool"),
    "avg3": _pool3("AveragePool", count_include_pad=1),
    "max2": _max2,
    "every2": _every2,
    "channels": _channels,
    "zeros": lambda op, constant, layer, x: op("Mul", x, constant(np.float32(0))),
    "norm": _norm,
    "relu": lambda op, constant, layer, x: op("Relu", x),
    "add": lambda op, constant, layer, x, y: op("Add", x, y),
    "concat": lambda op, constant, layer, *xs: op("Concat", *xs, axis=1),
    "flatten": _flatten,
    "mean": lambda op, constant, layer, x: op("ReduceMean", x, axes=[2, 3], keepdims=0),
    "linear": lambda op, constant, layer, x: op("Gemm", x, constant(layer.arrays["w"]), constant(layer.arrays["b"])),
}
