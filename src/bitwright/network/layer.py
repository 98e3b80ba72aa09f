"""What a network is made of, as reports and lowering see it: layers, and what was removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network


@dataclass(frozen=True)
class Layer:
    """One node, or several that become one integer step (a convolution and its ReLU, the nodes of a GELU).

    Attributes:
        name: Name of the main node.
        op: Operator of the main node, or of the whole where it is a pattern: ``SiLU``, ``HardSwish``, ``Gelu``,
            ``Mish``.
        nodes: The nodes in topological order.  For a pattern the order says nothing about which is the main one.
        inputs: Tensors that come from outside and are no constants, in order of use, without repetition.
        outputs: Tensors that are used outside or are outputs of the network; every output of a multi-output node.
        sources: Names of all source nodes, in topological order of the layer's nodes.
    """

    name: str
    op: str
    nodes: tuple[ir.Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def main(self) -> ir.Node:
        """The node that gave the layer its name."""
        return next(node for node in self.nodes if node.name == self.name)


@dataclass(frozen=True)
class Removed:
    """A source node that is gone because it changes nothing (Identity, Dropout, a constant that was computed).

    Attributes:
        name: The source node's name.
        op: Its operator.
        tensor: The tensor that carries its value now; empty if the value is gone too (a constant merged into others).
        constant: Whether its value was a constant.
    """

    name: str
    op: str
    tensor: str
    constant: bool = False


def make_layer(net: Network, name: str, nodes: tuple[ir.Node, ...]) -> Layer:
    """The layer of ``nodes`` (in topological order), whose main node is called ``name``."""
    from bitwright.network.marks import OP

    inside = {id(node) for node in nodes}
    main = next(node for node in nodes if node.name == name)
    inputs: list[str] = []
    outputs: list[str] = []
    sources: list[str] = []
    for node in nodes:
        sources.extend(net.sources(node))
        for value in node.inputs:
            if value is None or value.is_initializer():
                continue
            producer = value.producer()
            if producer is None or (id(producer) not in inside and producer.op_type != "Constant"):
                inputs.append(str(value.name))
        for value in node.outputs:
            uses = value.uses()
            external = any(id(use.node) not in inside for use in uses)
            if value.name and (external or value.is_graph_output() or not uses):
                outputs.append(str(value.name))
    return Layer(
        name=name,
        op=main.metadata_props.get(OP, main.op_type),
        nodes=nodes,
        inputs=tuple(dict.fromkeys(inputs)),
        outputs=tuple(outputs),
        sources=tuple(dict.fromkeys(sources)),
    )
