"""Small networks that hold, between them, what real ones hold.  Weights are random but always the same.

``ZOO`` maps a name to a function that builds an ``onnx.ModelProto``; ``feeds`` makes inputs for it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str | None]


class Graph:
    """A graph under construction: every method adds a node and gives the name of its output."""

    def __init__(self, name: str, opset: int = 17) -> None:
        self.name, self.opset = name, opset
        self.random = np.random.default_rng(zlib.crc32(name.encode()))
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, shape: Shape, kind: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def constant(self, array: ArrayLike, name: str | None = None) -> str:
        self._count += 1
        name = name or f"c{self._count}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int, gain: float = 1.0) -> str:
        fan_in = max(int(np.prod(shape[1:])), 1)
        return self.constant((self.random.normal(size=shape) * gain / np.sqrt(fan_in)).astype(np.float32))

    def node(self, op: str, *inputs: str, outputs: int = 1, name: str | None = None, **attributes: Any) -> Any:
        self._count += 1
        name = f"{op.lower()}{self._count}" if name is None else name
        made = [f"t{self._count}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=name, **attributes))
        return made[0] if outputs == 1 else made

    def conv(
        self,
        x: str,
        cin: int,
        cout: int,
        k: int = 3,
        *,
        group: int = 1,
        bias: bool = True,
        gain: float = 1.5,
        **attributes: Any,
    ) -> str:
        attributes.setdefault("pads", [k // 2] * 4)
        w = self.weight(cout, cin // group, k, k, gain=gain)
        b = [self.constant(self.random.normal(size=cout).astype(np.float32) * 0.1)] if bias else []
        return str(self.node("Conv", x, w, *b, group=group, kernel_shape=[k, k], **attributes))

    def bn(self, x: str, channels: int) -> str:
        r = self.random
        parameters = [
            r.uniform(0.3, 3, channels),
            r.normal(size=channels) * 0.5,
            r.normal(size=channels) * 0.3,
            r.uniform(0.05, 2, channels),
        ]
        return str(self.node("BatchNormalization", x, *[self.constant(p.astype(np.float32)) for p in parameters]))

    def relu(self, x: str) -> str:
        return str(self.node("Relu", x))

    def relu6(self, x: str) -> str:
        return str(self.node("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(6))))

    def reshape(self, x: str, *shape: int) -> str:
        return str(self.node("Reshape", x, self.constant(np.asarray(shape, np.int64))))

    def gemm(self, x: str, cin: int, cout: int) -> str:
        b = self.constant(self.random.normal(size=cout).astype(np.float32) * 0.1)
        return str(self.node("Gemm", x, self.weight(cout, cin), b, transB=1))

    def build(self, *outputs: str, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
        made = [helper.make_tensor_value_info(o, kind, None) for o in outputs]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, made, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        model = onnx.shape_inference.infer_shapes(model)
        del model.graph.value_info[:]
        onnx.checker.check_model(model)
        return model


def conv_bn_relu() -> onnx.ModelProto:
    g = Graph("conv_bn_relu")
    x = g.input("x", ["N", 3, 12, 12])
    x = g.relu(g.bn(g.conv(x, 3, 8, bias=False), 8))
    x = g.relu(g.bn(g.conv(x, 8, 8, strides=[2, 2]), 8))
    x = g.node("GlobalAveragePool", x)
    return g.build(g.gemm(g.node("Flatten", x), 8, 5))


def residual() -> onnx.ModelProto:
    g = Graph("residual")
    x = g.relu(g.conv(g.input("x", ["N", 3, 8, 8]), 3, 8))
    y = g.bn(g.conv(g.relu(g.bn(g.conv(x, 8, 8, bias=False), 8)), 8, 8, bias=False), 8)
    x = g.relu(g.node("Add", x, y))
    short = g.conv(x, 8, 12, 1, strides=[2, 2], pads=[0, 0, 0, 0])
    return g.build(g.relu(g.node("Add", g.conv(x, 8, 12, strides=[2, 2]), short)))


def depthwise_relu6() -> onnx.ModelProto:
    g = Graph("depthwise_relu6")
    x = g.relu6(g.bn(g.conv(g.input("x", ["N", 3, 10, 10]), 3, 8, strides=[2, 2], bias=False), 8))
    x = g.relu6(g.bn(g.conv(x, 8, 8, group=8, bias=False), 8))
    return g.build(g.bn(g.conv(x, 8, 6, 1, bias=False), 6))


def fire() -> onnx.ModelProto:
    g = Graph("fire")
    x = g.relu(g.conv(g.input("x", ["N", 3, 15, 15]), 3, 8, strides=[2, 2], pads=[0, 0, 0, 0]))
    x = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    s = g.relu(g.conv(x, 8, 4, 1))
    x = g.node("Concat", g.relu(g.conv(s, 4, 6, 1)), g.relu(g.conv(s, 4, 6, 3)), axis=1)
    return g.build(g.node("Softmax", g.node("Flatten", g.node("GlobalAveragePool", x)), axis=1))


def grouped() -> onnx.ModelProto:
    g = Graph("grouped")
    x = g.relu(g.conv(g.input("x", ["N", 4, 7, 9]), 4, 8, group=2, dilations=[2, 1], pads=[2, 1, 2, 1]))
    return g.build(g.bn(g.conv(x, 8, 12, group=4, pads=[1, 0, 0, 1], strides=[1, 2]), 12))


def unet() -> onnx.ModelProto:
    g = Graph("unet")
    a = g.relu(g.bn(g.conv(g.input("x", ["N", 3, 8, 8]), 3, 6), 6))
    b = g.relu(g.conv(g.node("MaxPool", a, kernel_shape=[2, 2], strides=[2, 2]), 6, 10))
    up = g.node("ConvTranspose", b, g.weight(10, 6, 2, 2), kernel_shape=[2, 2], strides=[2, 2])
    x = g.node("Concat", g.relu(g.bn(up, 6)), a, axis=1)
    return g.build(g.conv(x, 12, 4, 1))


def transposed_grouped() -> onnx.ModelProto:
    g = Graph("transposed_grouped")
    x = g.input("x", ["N", 4, 5, 5])
    w, b = g.weight(4, 3, 3, 3), g.constant(g.random.normal(size=6).astype(np.float32))
    x = g.node("ConvTranspose", x, w, b, group=2, strides=[2, 2], pads=[1, 1, 0, 1], output_padding=[1, 0])
    return g.build(g.bn(g.bn(x, 6), 6))


def mlp() -> onnx.ModelProto:
    g = Graph("mlp")
    x = g.relu(g.bn(g.gemm(g.input("x", ["N", 20]), 20, 16), 16))
    x = g.node("Gemm", x, g.weight(16, 8), g.constant(g.random.normal(size=8).astype(np.float32)), alpha=0.5, beta=2.0)
    x = g.node(
        "Add", g.node("MatMul", g.bn(x, 8), g.weight(8, 6)), g.constant(g.random.normal(size=6).astype(np.float32))
    )
    return g.build(g.node("Sigmoid", x))


def pools() -> onnx.ModelProto:
    g = Graph("pools")
    x = g.relu(g.conv(g.input("x", ["N", 2, 13, 13]), 2, 6))
    a = g.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    b = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c = g.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    x = g.node("Concat", a, b, c, axis=1)
    return g.build(g.node("ReduceMean", x, axes=[2, 3], keepdims=0))


def pads() -> onnx.ModelProto:
    g = Graph("pads")
    two = g.constant(np.asarray([0, 0, 1, 2, 0, 0, 2, 1], np.int64))
    x = g.relu(g.conv(g.node("Pad", g.input("x", ["N", 3, 8, 8]), two), 3, 6, pads=[1, 0, 0, 1]))
    one = g.constant(np.asarray([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    m = g.node("MaxPool", g.node("Pad", x, one), kernel_shape=[3, 3], strides=[2, 2])
    a = g.node("AveragePool", g.node("Pad", x, one), kernel_shape=[3, 3], strides=[2, 2])
    x = g.node("Add", m, a)
    channels = g.constant(np.asarray([0, 1, 0, 0, 0, 2, 0, 0], np.int64))
    return g.build(g.node("Pad", x, channels, g.constant(np.float32(0.25))))


def split_slice() -> onnx.ModelProto:
    g = Graph("split_slice")
    x = g.conv(g.input("x", ["N", 3, 8, 8]), 3, 8)
    a, b = g.node("Split", x, g.constant(np.asarray([3, 5], np.int64)), outputs=2, axis=1)
    b = g.node("Slice", b, *[g.constant(np.asarray(v, np.int64)) for v in ([1, 0], [4, 8], [1, 2], [1, 2])])
    a = g.node("Slice", a, *[g.constant(np.asarray(v, np.int64)) for v in ([0], [8], [2], [2])])
    return g.build(g.node("Mul", a, b))


def silu() -> onnx.ModelProto:
    g = Graph("silu")
    x = g.conv(g.input("x", ["N", 3, 6, 6]), 3, 6)
    x = g.conv(g.node("Mul", x, g.node("Sigmoid", x)), 6, 6)
    x = g.conv(g.node("Mul", x, g.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)), 6, 6)
    x = g.conv(g.node("Mul", x, g.node("Tanh", g.node("Softplus", x))), 6, 6)
    e = g.node("Erf", g.node("Div", x, g.constant(np.float32(np.sqrt(2)))))
    x = g.node("Mul", g.node("Mul", x, g.node("Add", e, g.constant(np.float32(1)))), g.constant(np.float32(0.5)))
    six = g.node(
        "Clip", g.node("Add", x, g.constant(np.float32(3))), g.constant(np.float32(0)), g.constant(np.float32(6))
    )
    return g.build(g.node("Div", g.node("Mul", x, six), g.constant(np.float32(6))))


def activations() -> onnx.ModelProto:
    g = Graph("activations")
    x = g.input("x", ["N", 3, 6, 6])
    for op, attributes in (
        ("LeakyRelu", {"alpha": 0.1}),
        ("Elu", {}),
        ("Tanh", {}),
        ("HardSwish", {}),
        ("Sigmoid", {}),
    ):
        x = g.node(op, g.conv(x, 3, 3), **attributes)
    return g.build(
        g.node("PRelu", g.conv(x, 3, 3), g.constant(np.asarray([0.1, 0.2, -0.3], np.float32).reshape(3, 1, 1)))
    )


def resize() -> onnx.ModelProto:
    g = Graph("resize")
    x = g.relu(g.conv(g.input("x", ["N", 3, 5, 6]), 3, 4))
    scales = g.constant(np.asarray([1, 1, 2, 2], np.float32))
    a = g.node(
        "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    b = g.node("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    return g.build(g.conv(g.node("Concat", a, b, axis=1), 8, 3, 1))


def tf_style() -> onnx.ModelProto:
    g = Graph("tf_style", opset=13)
    x = g.node("Transpose", g.input("x", ["N", 8, 8, 3]), perm=[0, 3, 1, 2])
    x = g.relu(
        g.conv(
            g.node("Sub", g.node("Mul", x, g.constant(np.float32(1 / 64))), g.constant(np.float32(1))),
            3,
            6,
            pads=[0] * 4,
        )
    )
    x = g.node("Transpose", g.node("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    x = g.node("GlobalAveragePool", g.relu(g.conv(x, 6, 4)))
    return g.build(g.node("Softmax", g.node("Squeeze", x, g.constant(np.asarray([2, 3], np.int64)))))


def shuffle() -> onnx.ModelProto:
    g = Graph("shuffle")
    x = g.relu(g.conv(g.input("x", ["N", 3, 6, 6]), 3, 8))
    x = g.node("Transpose", g.reshape(x, 0, 2, 4, 6, 6), perm=[0, 2, 1, 3, 4])
    return g.build(g.conv(g.reshape(x, 0, 8, 6, 6), 8, 4, 1, group=2))


def space_depth() -> onnx.ModelProto:
    g = Graph("space_depth")
    x = g.node("SpaceToDepth", g.input("x", ["N", 3, 6, 6]), blocksize=2)
    x = g.relu(g.conv(x, 12, 8))
    return g.build(g.node("DepthToSpace", x, blocksize=2, mode="CRD"))


def shape_chain() -> onnx.ModelProto:
    """``x.view(x.size(0), -1, 4)`` as exporters write it, and identities of all kinds."""
    g = Graph("shape_chain")
    x = g.relu(g.conv(g.input("x", ["N", 3, 4, 4]), 3, 4))
    n = g.node("Gather", g.node("Shape", x), g.constant(np.asarray(0, np.int64)), axis=0)
    n = g.node("Unsqueeze", n, g.constant(np.asarray([0], np.int64)))
    target = g.node("Concat", n, g.constant(np.asarray([-1, 4], np.int64)), axis=0)
    x = g.node("Identity", g.node("Dropout", g.node("Reshape", x, target)))
    x = g.node("MatMul", x, g.node("Transpose", g.weight(5, 4), perm=[1, 0]))
    return g.build(g.node("Cast", g.node("Add", x, g.constant(np.zeros(5, np.float32))), to=TensorProto.FLOAT))


def shared() -> onnx.ModelProto:
    """A convolution read by a batch norm and by somebody else; BN before convolutions, with and without padding."""
    g = Graph("shared")
    x = g.conv(g.input("x", ["N", 3, 6, 6]), 3, 6)
    y = g.relu(g.bn(x, 6))
    z = g.node("Add", x, y)
    before = g.bn(g.node("MaxPool", z, kernel_shape=[2, 2]), 6)
    a = g.conv(before, 6, 4, 1)
    b = g.conv(g.bn(g.relu(a), 4), 4, 4, 3)
    return g.build(g.node("Add", a, b), y)


def scales() -> onnx.ModelProto:
    """Arithmetic with constants around linear layers."""
    g = Graph("scales")
    vector = lambda n: g.constant(g.random.uniform(0.5, 2, (n, 1, 1)).astype(np.float32))
    x = g.node("Div", g.input("x", ["N", 3, 6, 6]), g.constant(np.float32(255)))
    x = g.node("Add", g.node("Mul", g.conv(x, 3, 6), vector(6)), vector(6))
    x = g.node("Sub", vector(6), g.relu(x))
    x = g.conv(x, 6, 4, 1)
    return g.build(g.node("Mul", g.node("Sub", x, vector(4)), g.constant(np.float32(-2))))


def attention() -> onnx.ModelProto:
    g = Graph("attention")
    x = g.input("x", ["N", 6, 8])
    q, k, v = (
        g.node("Add", g.node("MatMul", x, g.weight(8, 8)), g.constant(g.random.normal(size=8).astype(np.float32)))
        for _ in "qkv"
    )
    scores = g.node("MatMul", q, g.node("Transpose", k, perm=[0, 2, 1]))
    scores = g.node("Softmax", g.node("Div", scores, g.constant(np.float32(np.sqrt(8)))), axis=-1)
    return g.build(g.node("Add", x, g.node("MatMul", scores, v)))


def audio() -> onnx.ModelProto:
    """One-dimensional convolutions."""
    g = Graph("audio")
    x = g.input("x", ["N", 4, 30])
    x = g.relu(g.bn(g.node("Conv", x, g.weight(8, 4, 5), strides=[2], pads=[2, 2]), 8))
    x = g.node("MaxPool", x, kernel_shape=[3], strides=[2])
    return g.build(g.node("ReduceMean", x, axes=[2]))


ZOO: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        conv_bn_relu, residual, depthwise_relu6, fire, grouped, unet, transposed_grouped, mlp, pools, pads, split_slice,
        silu, activations, resize, tf_style, shuffle, space_depth, shape_chain, shared, scales, attention, audio,
    )
}  # fmt: skip


def feeds(model: onnx.ModelProto, batch: int = 1, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Inputs of ``model`` with ``batch`` samples."""
    random = np.random.default_rng(seed)
    found = {}
    for value in model.graph.input:
        shape = [d.dim_value or batch for d in value.type.tensor_type.shape.dim]
        found[value.name] = random.normal(size=shape).astype(np.float32)
    return found


def run(model: onnx.ModelProto | bytes, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The outputs of ``model`` in ONNX Runtime, without its optimizations."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))
