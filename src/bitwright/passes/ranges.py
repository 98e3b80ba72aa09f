"""Small proofs about the range of a tensor, from the operator that makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

_NONNEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus"})
_KEEPS_SIGN = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "Reshape", "Transpose", "Flatten", "Identity"})


def is_nonnegative(net: Network, value: ir.Value) -> bool:
    """Whether ``value`` is proven to hold no negative number."""
    for _ in range(16):
        node = value.producer()
        if node is None:
            return False
        if node.op_type in _NONNEGATIVE:
            return True
        if node.op_type == "Clip":
            low = node.inputs[1] if len(node.inputs) > 1 else None
            limit = None if low is None else net.constant(str(low.name))
            return limit is not None and bool((limit >= 0).all())
        source = node.inputs[0] if node.inputs else None
        if node.op_type not in _KEEPS_SIGN or source is None:
            return False
        value = source
    return False
