"""Small networks and sources for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bitwright.data.batch import Batch
from bitwright.network.load import load
from bitwright.network.network import Network
from bitwright.passes.prepare import prepare


def fire_model(seed: int = 0, *, dropout: bool = True) -> onnx.ModelProto:
    """Conv-ReLU, pooling, two convolutions joined (one of a width that blocks do not divide), dropout, dense, softmax."""
    rng = np.random.default_rng(seed)

    def constant(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)

    weights = [
        constant("w1", 16, 3, 3, 3),
        constant("b1", 16),
        constant("w2", 16, 16, 1, 1),
        constant("b2", 16),
        constant("w3", 10, 16, 3, 3),
        constant("b3", 10),
        constant("w4", 5, 26),
        constant("b4", 5),
    ]
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("MaxPool", ["r1"], ["p1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2", "b2"], ["c2"], "left"),
        node("Relu", ["c2"], ["r2"], "relu_left"),
        node("Conv", ["p1", "w3", "b3"], ["c3"], "right", pads=[1, 1, 1, 1]),
        node("Relu", ["c3"], ["r3"], "relu_right"),
        node("Concat", ["r2", "r3"], ["cat"], "join", axis=1),
        *([node("Dropout", ["cat"], ["drop"], "drop9")] if dropout else []),
        node("GlobalAveragePool", ["drop" if dropout else "cat"], ["g"], "gap"),
        node("Flatten", ["g"], ["f"], "flat"),
        node("Gemm", ["f", "w4", "b4"], ["y"], "fc", transB=1),
        node("Softmax", ["y"], ["prob"], "softmax"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 12, 12])
    y = helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "fire", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def fire_net(seed: int = 0) -> Network:
    """The prepared network of :func:`fire_model`."""
    return prepare(load(fire_model(seed)))[0]


class Samples:
    """A source of arrays in memory that counts what is taken, and can fail on the way."""

    def __init__(
        self,
        x: NDArray[Any],
        *,
        fingerprint: str = "data",
        stop_at: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.x, self.fingerprint, self.length = x, fingerprint, len(x)
        self.stop_at, self.error = stop_at, error
        self.sizes: list[int] = []

    def batches(self, size: int = 16) -> Iterator[Batch]:
        for start in range(0, len(self.x), size):
            if self.error is not None and self.stop_at is not None and start >= self.stop_at:
                raise self.error
            part = self.x[start : start + size]
            self.sizes.append(len(part))
            indices = tuple(range(start, start + len(part)))
            yield Batch(part, None, indices, tuple(map(str, indices)))


def images(n: int = 9, seed: int = 1) -> NDArray[np.float32]:
    """Normalized pictures for :func:`fire_net`."""
    return np.random.default_rng(seed).normal(size=(n, 3, 12, 12)).astype(np.float32)
