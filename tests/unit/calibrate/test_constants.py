from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from bitwright.calibrate.constants import constant_inputs, constant_statistics, weight_axis
from bitwright.network.load import load


@pytest.mark.parametrize(
    ("op", "x", "w", "y", "attributes", "axis"),
    [
        ("Conv", [1, 3, 4, 4], [5, 3, 1, 1], [1, 5, 4, 4], {}, 0),
        ("ConvTranspose", [1, 3, 4, 4], [3, 5, 1, 1], [1, 5, 4, 4], {}, 1),
        ("ConvTranspose", [1, 4, 4, 4], [4, 5, 1, 1], [1, 10, 4, 4], {"group": 2}, None),
        ("Gemm", [1, 3], [5, 3], [1, 5], {"transB": 1}, 0),
        ("Gemm", [1, 3], [3, 5], [1, 5], {}, 1),
        ("MatMul", [1, 7, 3], [3, 5], [1, 7, 5], {}, 1),
    ],
)
def test_channels_of_weights(op: str, x: list[int], w: list[int], y: list[int], attributes: dict, axis: int) -> None:
    values = np.random.default_rng(0).normal(size=w).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], "layer", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(values, "w")],
    )
    net = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))
    layer = net.layers()[0]
    name, bias = constant_inputs(net, layer)
    assert name is not None
    assert bias is None
    assert weight_axis(net, layer, name) == axis
    stats = constant_statistics(net)["weights"][name]
    assert stats.count == values.size
    assert stats.axis == axis
    if axis is not None:
        others = tuple(i for i in range(len(w)) if i != axis)
        np.testing.assert_array_equal(stats.channel_lo, values.min(others))
