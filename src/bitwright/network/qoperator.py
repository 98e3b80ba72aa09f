"""The QOperator form of quantized ONNX (``QLinearConv`` and its kin) written as float operators between pairs.

Meaning of the operators: the ONNX operator reference, and ONNX Runtime's contributed operators (``com.microsoft``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.errors import UnsupportedOp, printable
from bitwright.network.values import stored

if TYPE_CHECKING:
    import onnx_ir as ir

# Operators on integers that only move them: their tensors have the format of the first input.
_MOVES = frozenset(
    {
        "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Identity",
        "DepthToSpace", "SpaceToDepth", "GlobalMaxPool", "Resize", "Expand", "Tile",
    }
)  # fmt: skip


class _Writer:
    """Writes nodes beside a node of the graph."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.names = set(model.graph.initializers) | {str(v.name) for n in model.graph for v in n.outputs}
        self.names |= {str(v.name) for v in model.graph.inputs}

    def fresh(self, name: str) -> str:
        from bitwright.network.names import fresh

        name = fresh(name, self.names)
        self.names.add(name)
        return name

    def real(self, node: ir.Node, codes: Any, scale: Any, zero: Any, axis: int | None = None) -> Any:
        """A DequantizeLinear before ``node``."""
        return self.insert(node, "DequantizeLinear", [codes, scale, zero], f"{codes.name}.real", axis)

    def insert(self, node: ir.Node, op: str, inputs: Sequence[Any], name: str, axis: int | None = None) -> Any:
        import onnx_ir as ir

        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        made = ir.node(op, inputs, {} if axis is None else {"axis": axis}, name=self.fresh(name))
        made.outputs[0].name = self.fresh(name)
        self.graph.insert_before(node, made)
        return made.outputs[0]

    def become(
        self,
        node: ir.Node,
        op: str,
        inputs: Sequence[Any],
        scale: Any,
        zero: Any,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Let ``node`` be the float operator ``op``, its integers made by a QuantizeLinear behind it."""
        import onnx_ir as ir

        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        kept = dict(attributes) if attributes is not None else {a.name: a.value for a in node.attributes.values()}
        made = ir.node(op, inputs, kept, name=node.name)
        made.metadata_props.update(node.metadata_props)
        made.outputs[0].name = self.fresh(f"{node.outputs[0].name}.float")
        codes = ir.node("QuantizeLinear", [made.outputs[0], scale, zero], name=self.fresh(f"{node.name}.quantize"))
        codes.outputs[0].name = node.outputs[0].name
        codes.outputs[0].type = node.outputs[0].type
        node.outputs[0].name = self.fresh(f"{node.outputs[0].name}.gone")
        self.graph.insert_before(node, made)
        self.graph.insert_before(node, codes)
        node.outputs[0].replace_all_uses_with(codes.outputs[0], replace_graph_outputs=True)
        self.graph.remove(node, safe=True)

    def bias(self, node: ir.Node, codes: Any, input_scale: Any, weight_scale: Any) -> Any:
        """An int32 bias in steps of input times weight."""
        if codes is None:
            return None
        step = np.ravel(_numbers(input_scale) * _numbers(weight_scale)).astype(np.float32)
        count = int(np.prod([int(n) for n in codes.shape])) if codes.shape is not None else step.size
        scale = stored(self.graph, self.fresh(f"{codes.name}.scale"), step if step.size == count > 1 else step[0])
        return self.real(node, codes, scale, None, 0 if step.size == count > 1 else None)


def _numbers(value: Any) -> Any:
    return np.asarray(value.const_value.numpy())


def is_qoperator(model: ir.Model) -> bool:
    """Whether the network has operators on integers with a scale."""
    return any(_is_linear(node) for node in model.graph)


def _is_linear(node: ir.Node) -> bool:
    return node.op_type.startswith("QLinear") or (node.op_type == "QGemm" and node.domain == "com.microsoft")


def write_pairs(model: ir.Model) -> None:
    """Rewrite all of them, in place.

    Raises:
        UnsupportedOp: naming one that is not read.
    """
    write = _Writer(model)
    formats: dict[int, tuple[Any, Any]] = {}
    for node in list(model.graph):
        if _is_linear(node):
            rule = _RULES.get(node.op_type)
            missing = [v for v in node.inputs if v is not None and not v.name]
            constant = all(v is None or v.const_value is not None or v.dtype is None for v in node.inputs[1:3])
            if rule is None or missing or not constant:
                raise UnsupportedOp(
                    f"Layer '{printable(node.name)}' is a {printable(node.op_type)}, which is not read. Quantize the "
                    "network again in QDQ form (quant_format=QuantFormat.QDQ).",
                    op=node.op_type,
                    layer=str(node.name),
                )
            output = node.outputs[0]
            users = list(output.uses())
            scale, zero = rule(node, write)
            if users:
                made = users[0].node.inputs[users[0].idx]
                formats[id(made)] = (scale, zero)
            continue
        if node.op_type == "QuantizeLinear":
            formats[id(node.outputs[0])] = (node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None)
        elif node.op_type in _MOVES and node.inputs and id(node.inputs[0]) in formats:
            _surround(node, write, formats)


def _surround(node: ir.Node, write: _Writer, formats: dict[int, tuple[Any, Any]]) -> None:
    """A node that moves integers works on real numbers instead, which are rounded to the same integers again."""
    import onnx_ir as ir

    scale, zero = formats[id(node.inputs[0])]
    node.replace_input_with(0, write.real(node, node.inputs[0], scale, zero))
    for output in node.outputs:
        users = list(output.uses())
        codes = ir.node("QuantizeLinear", [output, scale, *([] if zero is None else [zero])])
        codes.name = write.fresh(f"{node.name}.quantize")
        name, codes.outputs[0].type = str(output.name), output.type
        write.graph.insert_after(node, codes)
        for user in users:
            user.node.replace_input_with(user.idx, codes.outputs[0])
        if output.is_graph_output():
            for index, value in enumerate(write.graph.outputs):
                if value is output:
                    write.graph.outputs[index] = codes.outputs[0]
        output.name, codes.outputs[0].name = write.fresh(f"{name}.float"), name
        output.type = ir.TensorType(ir.DataType.FLOAT)
        formats[id(codes.outputs[0])] = (scale, zero)


Rule = Callable[["ir.Node", _Writer], tuple[Any, Any]]


def _conv(node: ir.Node, write: _Writer) -> tuple[Any, Any]:
    x, xs, xz, w, ws, wz, ys, yz = node.inputs[:8]
    bias = node.inputs[8] if len(node.inputs) > 8 else None
    axis = 0 if _numbers(ws).size > 1 else None
    real = [write.real(node, x, xs, xz), write.real(node, w, ws, wz, axis), write.bias(node, bias, xs, ws)]
    write.become(node, "Conv", real, ys, yz)
    return ys, yz


def _matmul(node: ir.Node, write: _Writer) -> tuple[Any, Any]:
    a, a_s, az, b, bs, bz, ys, yz = node.inputs[:8]
    axis = _numbers(b).ndim - 1 if _numbers(bs).size > 1 else None
    write.become(node, "MatMul", [write.real(node, a, a_s, az), write.real(node, b, bs, bz, axis)], ys, yz)
    return ys, yz


def _gemm(node: ir.Node, write: _Writer) -> tuple[Any, Any]:
    inputs = [*node.inputs, *([None] * 9)][:9]
    a, a_s, az, b, bs, bz, c, ys, yz = inputs
    turned = node.attributes["transB"].as_int() if "transB" in node.attributes else 0
    axis = (0 if turned else 1) if _numbers(bs).size > 1 else None
    real = [write.real(node, a, a_s, az), write.real(node, b, bs, bz, axis), write.bias(node, c, a_s, bs)]
    if ys is None:
        raise UnsupportedOp(
            f"Layer '{printable(node.name)}' is a QGemm with a float output, which is not read. Quantize the network again "
            "in QDQ form (quant_format=QuantFormat.QDQ).",
            op="QGemm",
            layer=str(node.name),
        )
    write.become(node, "Gemm", real, ys, yz)
    return ys, yz


def _two(op: str) -> Rule:
    def rule(node: ir.Node, write: _Writer) -> tuple[Any, Any]:
        a, a_s, az, b, bs, bz, ys, yz = [*node.inputs, None][:8]
        write.become(node, op, [write.real(node, a, a_s, az), write.real(node, b, bs, bz)], ys, yz, {})
        return ys, yz

    return rule


def _one(op: str) -> Rule:
    def rule(node: ir.Node, write: _Writer) -> tuple[Any, Any]:
        x, xs, xz, ys, yz = [*node.inputs, None][:5]
        kept = {a.name: a.value for a in node.attributes.values() if a.name not in {"channels_last", "opset"}}
        if "channels_last" in node.attributes and node.attributes["channels_last"].as_int():
            raise UnsupportedOp(
                f"Layer '{printable(node.name)}' has its channels last inside ONNX, which is not read. Quantize the "
                "network before ONNX Runtime optimizes it.",
                op=node.op_type,
                layer=str(node.name),
            )
        write.become(node, op, [write.real(node, x, xs, xz)], ys, yz, kept)
        return ys, yz

    return rule


def _concat(node: ir.Node, write: _Writer) -> tuple[Any, Any]:
    ys, yz, *parts = node.inputs
    real = [write.real(node, x, s, z) for x, s, z in zip(parts[::3], parts[1::3], parts[2::3], strict=True)]
    write.become(node, "Concat", real, ys, yz)
    return ys, yz


_RULES: Mapping[str, Rule] = {
    "QGemm": _gemm,
    "QLinearAdd": _two("Add"),
    "QLinearAveragePool": _one("AveragePool"),
    "QLinearConcat": _concat,
    "QLinearConv": _conv,
    "QLinearGlobalAveragePool": _one("GlobalAveragePool"),
    "QLinearLeakyRelu": _one("LeakyRelu"),
    "QLinearMatMul": _matmul,
    "QLinearMul": _two("Mul"),
    "QLinearReduceMean": _one("ReduceMean"),
    "QLinearSigmoid": _one("Sigmoid"),
    "QLinearSoftmax": _one("Softmax"),
}
