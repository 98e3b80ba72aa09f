"""Shapes of all tensors for a given batch size, and the numbers that follow from shapes.

``onnx.shape_inference`` runs once over a copy of the graph that holds no big weights (linear in the number of nodes
and independent of the size of the weights).  What it cannot see, because a shape comes out of arithmetic on other
shapes, is found by one walk over the nodes with the small values evaluated as they become known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.network.evaluate import evaluate

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

Shape = tuple[int, ...]

# Values up to this many elements are shape arithmetic; anything larger is data.
SMALL = 1024
# Floats matter to shapes only as scales of a Resize and the like.
SMALL_FLOATS = 16


@dataclass
class Shapes:
    """What is known for one batch size.

    Attributes:
        shapes: Tensor name → shape; tensors whose shape is not known are missing.
        types: Tensor name → ONNX element type (an integer of ``TensorProto.DataType``).
        values: Tensor name → value, for small tensors that do not depend on the input's *values*.
        consistent: False if a Reshape asks for another number of elements than there are.
    """

    shapes: dict[str, Shape] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    consistent: bool = True


def infer_shapes(model: ir.Model, inputs: Mapping[str, Shape]) -> Shapes:
    """Shapes, types and shape-like values when the graph inputs have the shapes ``inputs``."""
    import onnx
    import onnx_ir as ir

    found = Shapes()
    graph = model.graph
    opset = graph.opset_imports.get("", graph.opset_imports.get("ai.onnx", 1))
    protos: dict[int, onnx.NodeProto] = {}
    skeleton = onnx.ModelProto(ir_version=10)
    for domain, version in graph.opset_imports.items():
        skeleton.opset_import.add(domain=domain, version=version)
    skeleton.graph.name = "shapes"
    for value in graph.inputs:
        shape = inputs[str(value.name)]
        kind = int(value.dtype) if value.dtype is not None else 1
        skeleton.graph.input.append(onnx.helper.make_tensor_value_info(str(value.name), kind, shape))
        found.shapes[str(value.name)], found.types[str(value.name)] = shape, kind
    for name, value in graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None
        shape, kind = tuple(tensor.shape.numpy()), int(tensor.dtype)
        found.shapes[name], found.types[name] = shape, kind
        limit = SMALL_FLOATS if tensor.dtype.is_floating_point() else SMALL
        if tensor.dtype != ir.DataType.STRING and tensor.size <= limit:
            array = np.asarray(tensor.numpy())
            found.values[name] = array
            inline = ir.Tensor(array, dtype=tensor.dtype, name=name)
            skeleton.graph.initializer.append(ir.serde.serialize_tensor(inline))
        else:
            skeleton.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))
    for node in graph:
        # Not ir.to_proto: it tries isinstance with a dozen protocols, ten times the cost of the rest.
        proto = ir.serde.serialize_node(node)
        protos[id(node)] = proto
        skeleton.graph.node.append(proto)
    _read_back(onnx.shape_inference.infer_shapes(skeleton, data_prop=True).graph, found)
    for node in graph:
        _visit(node, protos[id(node)], found, opset, graph.opset_imports)
    return found


def _read_back(graph: onnx.GraphProto, found: Shapes) -> None:
    for info in graph.value_info:
        if not info.type.HasField("tensor_type"):
            continue
        found.types[info.name] = info.type.tensor_type.elem_type
        shape = _concrete(info.type)
        if shape is not None:
            found.shapes[info.name] = shape


def _concrete(kind: onnx.TypeProto) -> Shape | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None


def _visit(node: ir.Node, proto: onnx.NodeProto, found: Shapes, opset: int, opsets: Mapping[str, int]) -> None:
    """Add what follows for the outputs of one node; nodes are visited in topological order."""
    names = [str(v.name) if v is not None else "" for v in node.inputs]
    outputs = [str(v.name) if v.name else "" for v in node.outputs]
    values = _values(node, names, found, opset)
    if values is not None:
        for name, value in zip(outputs, values, strict=False):
            if name:
                found.shapes[name] = value.shape
                found.types.setdefault(name, _type_number(value.dtype))
                if value.size <= SMALL:
                    found.values[name] = value
    elif node.op_type == "Reshape" and len(names) > 1 and names[1] in found.values and names[0] in found.shapes:
        target = reshape_target(found.shapes[names[0]], found.values[names[1]], _flag(node, "allowzero"))
        if target is not None:
            found.shapes[outputs[0]] = target
        else:
            found.shapes.pop(outputs[0], None)
            found.consistent = False
        found.types.setdefault(outputs[0], found.types.get(names[0], 1))
    elif any(name and name not in found.shapes for name in outputs) or any(
        name and name not in found.types for name in outputs
    ):
        _infer_node(node, proto, found, opsets)


def _values(node: ir.Node, names: list[str], found: Shapes, opset: int) -> tuple[NDArray[Any], ...] | None:
    if node.op_type in {"Shape", "Size"} and node.domain in {"", "ai.onnx"}:
        shape = found.shapes.get(names[0])
        if shape is None:
            return None
        if node.op_type == "Size":
            return (np.asarray(int(np.prod(shape, dtype=np.int64)), np.int64),)
        start = node.attributes["start"].as_int() if "start" in node.attributes else 0
        end = node.attributes["end"].as_int() if "end" in node.attributes else len(shape)
        return (np.asarray(shape[slice(start, end)], np.int64),)
    if any(name and name not in found.values for name in names):
        return None
    return evaluate(node, [found.values[name] if name else None for name in names], opset)


def _infer_node(node: ir.Node, proto: onnx.NodeProto, found: Shapes, opsets: Mapping[str, int]) -> None:
    """Ask ONNX for one node, with the values that its inputs have by now."""
    import onnx

    if node.domain not in {"", "ai.onnx"}:
        return
    version = opsets.get("", 1)
    names = [n for n in dict.fromkeys(proto.input) if n]
    if any(n not in found.types for n in names):
        return
    types = {n: onnx.helper.make_tensor_type_proto(found.types[n], found.shapes.get(n)) for n in names}
    data = {n: onnx.numpy_helper.from_array(np.asarray(found.values[n])) for n in names if n in found.values}
    imports = [onnx.helper.make_opsetid(d, v) for d, v in opsets.items()]
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "")
        result = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    except Exception:  # an inference error means "unknown"; Network.shape says so if anybody asks
        return
    for name, kind in result.items():
        if kind.HasField("tensor_type"):
            found.types[name] = kind.tensor_type.elem_type
            shape = _concrete(kind)
            if shape is not None:
                found.shapes.setdefault(name, shape)


def _flag(node: ir.Node, name: str) -> int:
    return node.attributes[name].as_int() if name in node.attributes else 0


def _type_number(dtype: np.dtype[Any]) -> int:
    import onnx

    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))


def reshape_target(shape: Shape, target: NDArray[Any], allowzero: int = 0) -> Shape | None:
    """The shape that ``Reshape`` gives, or None if the number of elements does not fit.

    0 copies the input's dimension (unless ``allowzero``), -1 is whatever is left over.
    """
    dims = [int(d) for d in np.asarray(target).reshape(-1)]
    for i, d in enumerate(dims):
        if d == 0 and not allowzero:
            if i >= len(shape):
                return None
            dims[i] = shape[i]
    total = int(np.prod(shape, dtype=np.int64))
    if dims.count(-1) > 1 or any(d < -1 for d in dims):
        return None
    if -1 in dims:
        known = int(np.prod([d for d in dims if d != -1], dtype=np.int64))
        if known == 0 or total % known:
            return None
        dims[dims.index(-1)] = total // known
    return tuple(dims) if int(np.prod(dims, dtype=np.int64)) == total else None
