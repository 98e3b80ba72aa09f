"""A piece of a network as a model of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network


def extract(net: Network, nodes: Sequence[ir.Node], inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Serialize ``nodes`` with the constants they read.

    Args:
        net: The network.
        nodes: Nodes of it, in topological order.
        inputs: Tensors that become the inputs of the piece.
        outputs: Tensors that become its outputs.

    Returns:
        An ONNX model with the shapes of one sample, or of any number where the network is batchable.
    """
    import onnx_ir as ir

    def declared(name: str) -> ir.Value:
        shape: list[int | str] | None = list(net.shape(name)) if net.has_shape(name) else None
        if shape and net.batchable:
            shape[0] = "N"
        kind = ir.DataType.from_numpy(net.dtype(name))
        return ir.Value(name=name, type=ir.TensorType(kind), shape=None if shape is None else ir.Shape(shape))

    values: dict[str, ir.Value] = {name: declared(name) for name in inputs}
    constants: dict[str, ir.Value] = {}
    copies: list[ir.Node] = []
    for node in nodes:
        arguments: list[ir.Value | None] = []
        for value in node.inputs:
            if value is None:
                arguments.append(None)
                continue
            name = str(value.name)
            if name not in values:
                array = net.constant(name)
                if array is None:
                    raise ValueError(f"tensor {name} is neither an input of the piece nor computed in it")
                tensor = ir.tensor(array, name=name)
                constant = ir.Value(
                    name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
                )
                values[name] = constants[name] = constant
            arguments.append(values[name])
        copy = ir.node(
            node.op_type,
            arguments,
            attributes={a.name: a.value for a in node.attributes.values() if a.value is not None},
            domain=node.domain,
            num_outputs=len(node.outputs),
            name=node.name,
        )
        for mine, theirs in zip(copy.outputs, node.outputs, strict=True):
            mine.name = theirs.name
            values[str(theirs.name)] = mine
        copies.append(copy)
    for name in outputs:
        values[name].type = declared(name).type
    graph = ir.Graph(
        [values[name] for name in inputs],
        [values[name] for name in outputs],
        nodes=copies,
        initializers=list(constants.values()),
        opset_imports=dict(net.model.graph.opset_imports),
        name="island",
    )
    model = ir.Model(graph, ir_version=net.model.ir_version)
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))
