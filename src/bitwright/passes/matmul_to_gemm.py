"""Matrix products with constant weights in one form: a plain Gemm with weights ``[out, in]`` and a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.fold import Fold, compare, sentence
from bitwright.passes.linear import Linear, read_linear, write_linear

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

TURNED = "Gemm with its weights transposed"
# Weights of this size and more are not read while a network is loaded.
_LARGE_BYTES = 16 << 20


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
            if (large := _only_turned(net, node)) is not None:
                net.set_input(node, 1, net.new_transposed(f"{large.name}~folded", large))
                written = "MatMul with constant weights written as Gemm" if node.op_type == "MatMul" else TURNED
                node.op_type = "Gemm"
                net.set_attributes(node, alpha=None, beta=None, transA=None, transB=1)
                notes.append(Note(written, layer=str(node.name)))
                modified = True
                continue
            if node.op_type not in {"MatMul", "Gemm"} or (node.op_type == "Gemm" and _is_plain(net, node)):
                continue
            layer = read_linear(net, node)
            if layer is None or (node.op_type == "MatMul" and layer.axis != 1):
                continue
            if node.op_type == "MatMul":
                node.op_type = "Gemm"
                write_linear(net, node, Linear("Gemm", layer.weight, layer.bias, 1, False, 1))
                notes.append(Note("MatMul with constant weights written as Gemm", layer=str(node.name)))
                modified = True
            else:
                found = _factors(net, node, layer)
                write_linear(net, node, layer)
                folds.extend(found)
                text = sentence(found) if found else TURNED
                notes.append(Note(text, layer=str(node.name)))
                modified = True
        net.sweep()
        return Change(modified, tuple(notes), tuple(folds))


def _only_turned(net: Network, node: ir.Node) -> ir.Value | None:
    """The weights of ``node``, if they are large and only their order has to change: nothing is computed then."""
    if node.domain or node.op_type not in {"MatMul", "Gemm"}:
        return None
    source, weight = node.inputs[0], node.inputs[1]
    if source is None or weight is None or not weight.is_initializer():
        return None
    tensor, name = weight.const_value, str(weight.name)
    if tensor is None or tensor.nbytes < _LARGE_BYTES or len(tensor.shape) != 2 or net.dtype(name) != np.float32:
        return None
    if node.op_type == "MatMul":
        return weight if net.has_shape(str(source.name)) and len(net.shape(str(source.name))) == 2 else None
    attributes = net.attributes(node)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    plain = bias is None or (net.is_constant(str(bias.name)) and net.shape(str(bias.name)) == net.shape(name)[1:])
    keys = ("alpha", "beta", "transA", "transB")
    return weight if plain and [attributes[key] for key in keys] == [1.0, 1.0, 0, 0] else None


def _is_plain(net: Network, node: ir.Node) -> bool:
    attributes = net.attributes(node)
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or not net.is_constant(str(weight.name)):
        return False
    plain_bias = bias is None or net.shape(str(bias.name)) == net.shape(str(weight.name))[:1]
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
