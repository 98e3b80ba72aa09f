"""One small network in four frameworks, with the same weights: PyTorch, ONNX, Keras, TensorFlow Lite."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

os.environ.setdefault("KERAS_BACKEND", "torch")

SIDE, CLASSES = 8, 5
LAYERS = (("conv1", (3, 3, 3, 8)), ("conv2", (3, 3, 8, 8)), ("point", (1, 1, 8, 6)))
FLAT = 4 * 4 * 6


def weights() -> dict[str, NDArray[np.float32]]:
    """Kernels ``[h, w, in, out]``, a depthwise one ``[h, w, channels, 1]``, a dense one ``[in, out]``, and biases."""
    random = np.random.default_rng(5)
    made: dict[str, NDArray[np.float32]] = {}
    for name, shape in (*LAYERS, ("depth", (3, 3, 8, 1)), ("fc", (FLAT, CLASSES))):
        fan = int(np.prod(shape[:-1])) if name != "depth" else 9
        made[name] = (random.normal(size=shape) / np.sqrt(fan)).astype(np.float32)
        made[f"{name}.bias"] = (random.normal(size=shape[2] if name == "depth" else shape[-1]) * 0.1).astype(np.float32)
    return made


def samples(count: int = 24) -> NDArray[np.float32]:
    """``[n, side, side, 3]``."""
    return np.random.default_rng(6).normal(size=(count, SIDE, SIDE, 3)).astype(np.float32)


def channels_first(x: NDArray[Any]) -> NDArray[Any]:
    """NHWC as NCHW."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def as_torch() -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.depth, self.point = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 6, 1)
            self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(FLAT, CLASSES)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.conv1(x))
            x = self.pool(torch.relu(self.conv2(x) + x))
            x = torch.relu(self.point(torch.relu(self.depth(x))))
            return self.fc(torch.flatten(x, 1))

    net, w = Net(), weights()
    with torch.no_grad():
        for name in ("conv1", "conv2", "point"):
            getattr(net, name).weight.copy_(torch.from_numpy(w[name].transpose(3, 2, 0, 1).copy()))
        net.depth.weight.copy_(torch.from_numpy(w["depth"].transpose(2, 3, 0, 1).copy()))
        net.fc.weight.copy_(torch.from_numpy(_dense_first(w["fc"])))
        for name in ("conv1", "conv2", "point", "depth", "fc"):
            getattr(net, name).bias.copy_(torch.from_numpy(w[f"{name}.bias"]))
    return net


def _dense_first(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[out, in]`` for elements in the order channels, height, width."""
    turned = kernel.reshape(4, 4, 6, CLASSES).transpose(2, 0, 1, 3).reshape(FLAT, CLASSES)
    return np.ascontiguousarray(turned.T)


def as_onnx() -> onnx.ModelProto:
    w = weights()
    stored = {n: w[n].transpose(3, 2, 0, 1).copy() for n in ("conv1", "conv2", "point")}
    stored |= {"depth": w["depth"].transpose(2, 3, 0, 1).copy(), "fc": _dense_first(w["fc"])}
    stored |= {f"{n}.bias": w[f"{n}.bias"] for n in ("conv1", "conv2", "point", "depth", "fc")}

    def conv(x: str, name: str, out: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node("Conv", [x, name, f"{name}.bias"], [out], name=name, **attributes)

    nodes = [
        conv("x", "conv1", "a", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        conv("b", "conv2", "c", pads=[1] * 4),
        helper.make_node("Add", ["c", "b"], ["d"], name="add"),
        helper.make_node("Relu", ["d"], ["e"], name="relu2"),
        helper.make_node("MaxPool", ["e"], ["f"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        conv("f", "depth", "g", pads=[1] * 4, group=8),
        helper.make_node("Relu", ["g"], ["h"], name="relu3"),
        conv("h", "point", "i"),
        helper.make_node("Relu", ["i"], ["j"], name="relu4"),
        helper.make_node("Flatten", ["j"], ["k"], name="flatten"),
        helper.make_node("Gemm", ["k", "fc", "fc.bias"], ["y"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def keras() -> Any:
    """The package, with its warnings of other packages kept quiet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras as package
    return package


def as_keras() -> Any:
    package, w = keras(), weights()
    layers = package.layers
    x = entry = package.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(x)
    x = layers.Add(name="add")([layers.Conv2D(8, 3, padding="same", name="conv2")(x), x])
    x = layers.MaxPooling2D(2, name="pool")(layers.ReLU(name="relu2")(x))
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depth")(x)
    x = layers.Conv2D(6, 1, activation="relu", name="point")(x)
    model = package.Model(entry, layers.Dense(CLASSES, name="fc")(layers.Flatten(name="flatten")(x)), name="net")
    for name in ("conv1", "conv2", "point", "depth", "fc"):
        model.get_layer(name).set_weights([w[name], w[f"{name}.bias"]])
    return model


def save_keras(model: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


def predict(model: Any, x: NDArray[Any]) -> NDArray[Any]:
    """What Keras computes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(model.predict(x, verbose=0))


def as_tflite() -> bytes:
    from bitwright.export.tflite.flat import Graph

    w, graph, n = weights(), Graph("net"), SIDE
    small = n // 2

    def flow(name: str, *shape: int) -> int:
        return graph.tensor(name, shape, "float32")

    def constants(name: str, order: tuple[int, ...]) -> list[int]:
        kernel = np.ascontiguousarray(w[name].transpose(order))
        return [graph.constant(f"{name}/kernel", kernel), graph.constant(f"{name}/bias", w[f"{name}.bias"])]

    def conv(x: int, name: str, out: int, relu: int, kind: str = "CONV_2D") -> int:
        options = "Conv2DOptions" if kind == "CONV_2D" else "DepthwiseConv2DOptions"
        more = {} if kind == "CONV_2D" else {"DepthMultiplier": 1}
        return graph.op(
            kind, [x, *constants(name, (3, 0, 1, 2))], [out], options, Padding=0, StrideH=1, StrideW=1, DilationHFactor=1,
            DilationWFactor=1, FusedActivationFunction=relu, **more,
        )  # fmt: skip

    x = flow("image", 1, n, n, 3)
    a = conv(x, "conv1", flow("conv1", 1, n, n, 8), 1)
    b = conv(a, "conv2", flow("conv2", 1, n, n, 8), 0)
    c = graph.op("ADD", [b, a], [flow("add", 1, n, n, 8)], "AddOptions", FusedActivationFunction=1)
    d = graph.op(
        "MAX_POOL_2D", [c], [flow("pool", 1, small, small, 8)], "Pool2DOptions", Padding=1, StrideH=2, StrideW=2,
        FilterHeight=2, FilterWidth=2, FusedActivationFunction=0,
    )  # fmt: skip
    e = conv(d, "depth", flow("depth", 1, small, small, 8), 1, "DEPTHWISE_CONV_2D")
    f = conv(e, "point", flow("point", 1, small, small, 6), 1)
    g = graph.op("RESHAPE", [f, graph.constant("shape", np.array([1, FLAT], np.int32))], [flow("flat", 1, FLAT)])
    last = flow("fc", 1, CLASSES)
    graph.op(
        "FULLY_CONNECTED", [g, *constants("fc", (1, 0))], [last], "FullyConnectedOptions",
        FusedActivationFunction=0, WeightsFormat=0, KeepNumDims=False,
    )  # fmt: skip
    return graph.packed([("image", x)], [("fc", last)], "test")
