"""One float type, and no number that is none.

float16, bfloat16 and float64 networks are run in float32, the type in which quantization is measured; a NaN in a
weight would otherwise surface as a mysterious accuracy of zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.errors import NonFinite, printable
from bitwright.network.normalize import graphs
from bitwright.network.reading import pieces

if TYPE_CHECKING:
    import onnx_ir as ir

# Here an infinity is as wrong as a NaN; elsewhere (attention masks, open limits of Clip) it may be meant.
_LINEAR = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "InstanceNormalization", "PRelu", "LSTM", "GRU"}
)


def to_float32(model: ir.Model) -> tuple[str, ...]:
    """Turn every float16, bfloat16 and float64 of ``model`` into float32, in place; gives a note for the report."""
    import onnx_ir as ir

    others = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}
    seen: dict[str, int] = {}

    def retype(value: ir.Value) -> None:
        if value.dtype in others:
            value.type = ir.TensorType(ir.DataType.FLOAT)

    for graph in graphs(model):
        for value in (*graph.inputs, *graph.outputs):
            if value.dtype in others and not value.is_initializer():
                seen[value.dtype.name.lower()] = seen.get(value.dtype.name.lower(), 0)
            retype(value)
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.dtype in others:
                kind = tensor.dtype.name.lower()
                seen[kind] = seen.get(kind, 0) + 1
                value.const_value = _as_float32(tensor, value.name)
                value.type = ir.TensorType(ir.DataType.FLOAT)
        for node in graph:
            for value in node.outputs:
                retype(value)
            for name, attribute in list(node.attributes.items()):
                if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype in others:
                    kind = attribute.value.dtype.name.lower()
                    seen[kind] = seen.get(kind, 0) + 1
                    node.attributes[name] = ir.AttrTensor(name, _as_float32(attribute.value, attribute.value.name))
                elif name in {"to", "dtype"} and attribute.type == ir.AttributeType.INT and attribute.value in others:
                    node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
    return tuple(f"{kind} is run as float32 ({count} stored tensors converted)" for kind, count in sorted(seen.items()))


def _as_float32(tensor: Any, name: str | None) -> ir.TensorProtocol:
    import onnx_ir as ir

    def convert() -> ir.Tensor[Any]:
        # A float64 beyond float32's range becomes an infinity, which the check below reports by name.
        with np.errstate(over="ignore"):
            return ir.Tensor(np.asarray(tensor.numpy()).astype(np.float32), name=name)

    if tensor.nbytes > 1 << 20:
        return ir.LazyTensor(convert, dtype=ir.DataType.FLOAT, shape=tensor.shape, name=name, cache=False)
    return convert()


def check_finite(model: ir.Model) -> None:
    """Every stored float must be a number; infinities are allowed where no linear layer multiplies by them.

    Raises:
        NonFinite: naming the tensor and the layer that uses it.
    """
    for graph in graphs(model):
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if tensor is None or not tensor.dtype.is_floating_point():
                continue
            users = [use.node for use in value.uses()]
            strict = any(node.op_type in _LINEAR for node in users)
            user = f" (used by {users[0].op_type} '{printable(users[0].name)}')" if users else ""
            _check(lambda tensor=tensor: pieces(tensor), name, user, strict=strict)  # type: ignore[misc]
        for node in graph:
            if node.op_type == "Constant" and "value" in node.attributes:
                tensor = node.attributes["value"].value
                if hasattr(tensor, "dtype") and tensor.dtype.is_floating_point():
                    user = f" (of Constant '{printable(node.name)}')"
                    _check(lambda tensor=tensor: pieces(tensor), node.outputs[0].name, user, strict=False)  # type: ignore[misc]


def _check(read: Callable[[], Any], name: str | None, user: str, *, strict: bool) -> None:
    start = 0
    for piece in read():
        if piece.size == 0:
            continue
        # Extremes are finite exactly when everything is, and need no temporary array; NaN spreads through both.
        low, high = piece.min(), piece.max()
        if np.isfinite(low) and np.isfinite(high):
            start += piece.size
            continue
        with np.errstate(invalid="ignore"):  # a signaling NaN complains about being converted
            numbers = np.asarray(piece, np.float64)
        wrong = np.isnan(numbers) if not strict else ~np.isfinite(numbers)
        if wrong.any():
            index = start + int(np.argmax(wrong))
            what = "NaN" if np.isnan(numbers[index - start]) else "an infinite value"
            raise NonFinite(
                f"Tensor '{printable(name)}'{user} holds {what} at element {index}, {int(wrong.sum())} such values in "
                "all. The training has diverged or the file is damaged: export the model again.",
                tensor=str(name),
            )
        start += piece.size
