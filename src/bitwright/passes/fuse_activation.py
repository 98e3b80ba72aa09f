"""ReLU and Clip belong to the layer that makes their input: one integer step saturates anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bitwright.passes._pass import Change, Needs, Note

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

HOSTS = frozenset(
    {
        "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Sum", "AveragePool",
        "GlobalAveragePool", "ReduceMean", "BatchNormalization",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FuseActivation:
    """Group Relu and Clip (with constant limits) with the layer that makes their input.

    Only where the tensor between them is used once and is no output of the network.  Several in a row join the same
    layer.  Grouping is metadata: the nodes stay in the graph, which computes what it did before.
    """

    name: ClassVar[str] = "fuse-activation"
    summary: ClassVar[str] = "Group ReLU and Clip with the layer before them."
    changes_function: ClassVar[bool] = False

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Group in ``net``."""
        names = {str(node.name): node for node in net.nodes()}
        notes: list[Note] = []
        for node in net.nodes():
            if not _is_activation(net, node) or net.layer_of(node) != node.name:
                continue
            source = node.inputs[0]
            before = None if source is None else source.producer()
            if source is None or before is None or net.only_consumer(str(source.name)) is not node:
                continue
            main = names[net.layer_of(before)]
            if main.op_type not in HOSTS or net.is_pattern(main):
                continue
            net.group(main, [before, node])
            notes.append(Note(f"{node.op_type} is part of this layer", layer=str(main.name)))
        return Change(bool(notes), tuple(notes))


def _is_activation(net: Network, node: ir.Node) -> bool:
    if node.domain:
        return False
    if node.op_type == "Relu":
        return True
    limits = [v for v in node.inputs[1:] if v is not None]
    return node.op_type == "Clip" and bool(limits) and all(net.is_constant(str(v.name)) for v in limits)
