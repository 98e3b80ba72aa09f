"""The nodes of a float island put into a larger graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bitwright.errors import ExportError, printable
from bitwright.export.onnx_graph import ExportGraph


def splice(
    graph: ExportGraph, model: bytes, feeds: Mapping[str, str], fetches: Sequence[str], *, layer: str
) -> list[str]:
    """Copy the nodes and constants of ``model`` into ``graph`` under new names.

    Args:
        graph: Where they go; it takes on the piece's opset, which all pieces of a network share.
        model: A serialized ONNX model.
        feeds: Its input → tensor of ``graph`` that holds real numbers, float64.
        fetches: Its outputs that are wanted.
        layer: For messages.

    Returns:
        The tensors of ``graph`` that hold the wanted outputs.

    Raises:
        ExportError: if it holds operators outside the ONNX standard.
    """
    import onnx
    from onnx import helper

    piece = onnx.load_model_from_string(model)
    strange = sorted({o.domain for o in piece.opset_import if o.domain not in {"", "ai.onnx"}})
    foreign = [n.op_type for n in piece.graph.node if n.domain not in {"", "ai.onnx"}]
    if foreign or piece.functions:
        raise ExportError(
            f"Layer '{printable(layer)}' stays in float and is made of operators outside the ONNX standard "
            f"({printable(', '.join(dict.fromkeys(foreign)))}, domain {printable(', '.join(strange))}), so a file of "
            "standard operators cannot hold it. Replace the layer."
        )
    graph.opset = next(o.version for o in piece.opset_import if o.domain in {"", "ai.onnx"})
    names: dict[str, str] = {"": ""}
    for value in piece.graph.input:
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        names[value.name] = graph.node("Cast", feeds[value.name], to=kind)

    def new(name: str) -> str:
        if name not in names:
            names[name] = graph.fresh("f")
        return names[name]

    for tensor in piece.graph.initializer:
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = new(tensor.name)
        graph.initializers.append(copy)
    for node in piece.graph.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        _rename(copied, new)
        graph.nodes.append(copied)
    return [new(name) for name in fetches]


def _rename(node: Any, new: Callable[[str], str]) -> None:
    """Give every tensor that a node and its subgraphs name a new name."""
    node.input[:] = [new(name) for name in node.input]
    node.output[:] = [new(name) for name in node.output]
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
                value.name = new(value.name)
            for inner in graph.node:
                _rename(inner, new)
