"""Matrix products with constant weights in one form: a plain Gemm with weights ``[out, in]`` and a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.fold import Fold, compare, sentence
from bitwright.passes.linear import Linear, read_linear, write_linear

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network


@dataclass(frozen=True, kw_only=True)
class MatMulToGemm:
    """Turn ``MatMul`` with a constant matrix into ``Gemm``, and every such Gemm into a plain one.

    1. ``MatMul(x, W)`` with ``x`` of rank 2: a Gemm of the same name; an ``Add`` after it then folds as its bias.
    2. ``Gemm`` with alpha, beta or ``[in, out]`` weights: alpha and beta go into the numbers (reported where they
       are not 1), the weights become ``[out, in]``.
    3. ``MatMul`` on tensors of higher rank stays, because Gemm has rank 2 only; its name and weights stay as they are.
    """

    name: ClassVar[str] = "matmul-to-gemm"
    summary: ClassVar[str] = "Write matrix products with constant weights as plain Gemm."
    changes_function: ClassVar[bool] = False

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Rewrite ``net`` in place."""
        notes: list[Note] = []
        folds: list[Fold] = []
        modified = False
        for node in net.nodes():
            layer = read_linear(net, node) if node.op_type in {"MatMul", "Gemm"} else None
            if layer is None or (node.op_type == "MatMul" and layer.axis != 1):
                continue
            if node.op_type == "MatMul":
                node.op_type = "Gemm"
                write_linear(net, node, Linear("Gemm", layer.weight, layer.bias, 1, False, 1))
                notes.append(Note("MatMul with constant weights written as Gemm", layer=str(node.name)))
                modified = True
            elif not _is_plain(net, node):
                found = _factors(net, node, layer)
                write_linear(net, node, layer)
                folds.extend(found)
                text = sentence(found) if found else "Gemm with its weights transposed"
                notes.append(Note(text, layer=str(node.name)))
                modified = True
        net.sweep()
        return Change(modified, tuple(notes), tuple(folds))


def _is_plain(net: Network, node: ir.Node) -> bool:
    attributes = net.attributes(node)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    outputs = net.shape(str(node.outputs[0].name))[-1]
    plain_bias = bias is None or net.shape(str(bias.name)) == (outputs,)
    return plain_bias and (attributes["alpha"], attributes["beta"], attributes["transB"]) == (1.0, 1.0, 1)


def _factors(net: Network, node: ir.Node, layer: Linear) -> tuple[Fold, ...]:
    """What alpha and beta do to the numbers, where they are not 1."""
    attributes: dict[str, Any] = net.attributes(node)
    alpha, beta = float(attributes["alpha"]), float(attributes["beta"])
    if alpha in {0.0, 1.0} and beta in {0.0, 1.0}:
        return ()
    bias = None if layer.bias is None or beta == 0 else layer.bias / beta
    weight = layer.weight / alpha if alpha else layer.weight
    return compare(str(node.name), (), (weight, layer.weight), (bias, layer.bias))
