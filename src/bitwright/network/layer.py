"""What a network is made of, as reports and lowering see it: layers, and what was removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


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
