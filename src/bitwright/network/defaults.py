"""Attributes as plain Python values, with everything filled in that ONNX lets a file leave out."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir


def plain(attribute: ir.Attr) -> object:
    """The value of one attribute: int, float, str, tuple of these, or a NumPy array; subgraphs stay what they are."""
    import onnx_ir as ir

    value = attribute.value
    match attribute.type:
        case ir.AttributeType.TENSOR:
            return np.asarray(value.numpy())
        case ir.AttributeType.TENSORS:
            return tuple(np.asarray(t.numpy()) for t in value)
        case ir.AttributeType.INTS | ir.AttributeType.FLOATS | ir.AttributeType.STRINGS:
            return tuple(value)
        case _:
            return value


@lru_cache(maxsize=4096)
def schema_defaults(op: str, opset: int, domain: str) -> Mapping[str, object]:
    """The defaults that ONNX writes down for ``op`` in ``opset``; empty for operators that ONNX does not know."""
    import onnx

    try:
        schema = onnx.defs.get_schema(op, opset, domain)
    except Exception:  # onnx raises its own SchemaError, which is no public name in all versions
        return {}
    found: dict[str, object] = {}
    for name, attribute in schema.attributes.items():
        default = attribute.default_value
        if default.type:
            value = onnx.helper.get_attribute_value(default)
            if isinstance(value, bytes):
                value = value.decode()
            found[name] = tuple(value) if isinstance(value, list) else value
    return found


def complete(node: ir.Node, opset: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object]:
    """All attributes of ``node``; the lists that depend on a rank (strides, pads, perm ...) included.

    Args:
        node: A node of the main graph.
        opset: The model's opset.
        shapes: Tensor name → shape; needed for the defaults that depend on a rank.
    """
    found: dict[str, Any] = dict(schema_defaults(node.op_type, opset, node.domain))
    found.update({name: plain(attribute) for name, attribute in node.attributes.items()})
    shape = shapes.get(str(node.inputs[0].name)) if node.inputs and node.inputs[0] is not None else None
    if node.op_type in {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"} and shape is not None:
        spatial = len(shape) - 2
        if node.op_type in {"Conv", "ConvTranspose"} and len(node.inputs) > 1 and node.inputs[1] is not None:
            weight = shapes.get(str(node.inputs[1].name))
            if weight is not None:
                found.setdefault("kernel_shape", tuple(weight[2:]))
        found.setdefault("strides", (1,) * spatial)
        found.setdefault("dilations", (1,) * spatial)
        found.setdefault("pads", (0,) * (2 * spatial))
        if node.op_type == "ConvTranspose":
            found.setdefault("output_padding", (0,) * spatial)
    if node.op_type == "Transpose" and shape is not None:
        found.setdefault("perm", tuple(reversed(range(len(shape)))))
    return found
