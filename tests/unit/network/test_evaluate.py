"""Evaluating constants: the small NumPy functions must agree with ONNX Runtime, and must refuse what is dangerous."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import zoo
from bitwright.network.evaluate import can_evaluate, evaluate

I = np.int64
CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Gather", [np.arange(12, dtype=I).reshape(3, 4), np.asarray([2, -1], I)], {"axis": 1}),
    ("Gather", [np.asarray([1, 3, 8], I), np.asarray(-1, I)], {}),
    (
        "Slice",
        [np.arange(10, dtype=I), np.asarray([8], I), np.asarray([-99], I), np.asarray([0], I), np.asarray([-3], I)],
        {},
    ),
    ("Slice", [np.arange(24, dtype=I).reshape(4, 6), np.asarray([1, -3], I), np.asarray([99, -1], I)], {}),
    ("Squeeze", [np.ones((1, 3, 1), np.float32), np.asarray([0, -1], I)], {}),
    ("Squeeze", [np.ones((1, 3, 1), np.float32)], {}),
    ("Unsqueeze", [np.ones((3, 2), np.float32), np.asarray([0, 3], I)], {}),
    ("Reshape", [np.arange(24, dtype=I).reshape(4, 6), np.asarray([0, -1, 2], I)], {}),
    ("Cast", [np.asarray([-1.7, 2.5, 3.2], np.float32)], {"to": TensorProto.INT32}),
    ("Concat", [np.asarray([1], I), np.asarray([2, 3], I)], {"axis": 0}),
    ("Transpose", [np.arange(6, dtype=I).reshape(1, 2, 3)], {}),
    ("Div", [np.asarray([7, -7, 7, -7], I), np.asarray([2, 2, -2, -2], I)], {}),
    ("Div", [np.asarray([7, -7], np.float32), np.asarray([2, 0], np.float32)], {}),
    ("Mul", [np.asarray([7, -7], np.float32), np.asarray([[2], [3]], np.float32)], {}),
    ("Equal", [np.asarray([1, 2], I), np.asarray([1, 3], I)], {}),
    ("Where", [np.asarray([True, False]), np.asarray([1, 2], I), np.asarray(9, I)], {}),
    ("Range", [np.asarray(5, I), np.asarray(-2, I), np.asarray(-3, I)], {}),
    ("Range", [np.asarray(0, np.float32), np.asarray(1, np.float32), np.asarray(0.3, np.float32)], {}),
    ("Expand", [np.asarray([[1], [2]], np.float32), np.asarray([3, 1, 4], I)], {}),
    ("ConstantOfShape", [np.asarray([2, 3], I)], {}),
    ("ReduceProd", [np.asarray([2, 3, 4], I)], {"keepdims": 0}),
    ("Floor", [np.asarray([1.5, -1.5], np.float32)], {}),
    ("Sqrt", [np.asarray([2.0, 9.0], np.float32)], {}),
    ("Split", [np.arange(6, dtype=I), np.asarray([2, 4], I)], {}),
]


@pytest.mark.parametrize(("op", "inputs", "attributes"), CASES)
def test_same_as_onnx_runtime(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    names = [f"i{k}" for k in range(len(inputs))]
    outputs = ["o0", "o1"] if op == "Split" else ["o0"]
    node = helper.make_node(op, names, outputs, **attributes)
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, inputs, strict=True)
    ]
    got = evaluate(ir.from_proto(node), inputs, 18)
    assert got is not None
    results = [
        helper.make_tensor_value_info(o, helper.np_dtype_to_tensor_dtype(g.dtype), None)
        for o, g in zip(outputs, got, strict=True)
    ]
    graph = helper.make_graph([node], "g", infos, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    want = zoo.run(model, dict(zip(names, inputs, strict=True)))
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("ConstantOfShape", [np.asarray([1 << 20, 1 << 20], I)]),
        ("Expand", [np.ones(1, np.float32), np.asarray([1 << 20, 1 << 20], I)]),
        ("Tile", [np.ones(2, np.float32), np.asarray([1 << 40], I)]),
        ("Range", [np.asarray(0, I), np.asarray(1 << 40, I), np.asarray(1, I)]),
        ("Pad", [np.ones((1, 1), np.float32), np.asarray([0, 1 << 30, 0, 1 << 30], I)]),
    ],
)
def test_small_inputs_with_huge_results_are_refused(op: str, inputs: list[Any]) -> None:
    names = [f"i{k}" for k in range(len(inputs))]
    assert evaluate(ir.from_proto(helper.make_node(op, names, ["o"])), inputs, 18) is None


@pytest.mark.parametrize("op", ["RandomNormal", "If", "Loop", "DequantizeLinear", "Dropout"])
def test_never_evaluated(op: str) -> None:
    assert not can_evaluate(ir.from_proto(helper.make_node(op, [], ["o"])))
    assert not can_evaluate(ir.from_proto(helper.make_node("Add", ["a", "b"], ["o"], domain="com.example")))


def test_a_node_that_makes_no_sense_gives_nothing() -> None:
    node = ir.from_proto(helper.make_node("Reshape", ["a", "b"], ["o"]))
    assert evaluate(node, [np.ones(3, np.float32), np.asarray([7], I)], 18) is None
