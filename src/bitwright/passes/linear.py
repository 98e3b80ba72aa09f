"""Convolutions and matrix products seen as one thing: weights ``[out, in / groups, *kernel]`` and a bias ``[out]``.

The arithmetic is float64 and pure; :func:`read_linear` and :func:`write_linear` translate from and to ONNX's layouts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

Floats = NDArray[np.float64]

LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer's numbers in one layout.

    Attributes:
        op: Conv, ConvTranspose, Gemm or MatMul.
        weight: ``[out, in / groups, *kernel]`` float64; a Gemm's alpha is in it.
        bias: ``[out]`` float64, or None; a Gemm's beta is in it.
        groups: Channel groups.
        padded: Whether zeros are put around the input (or, for ConvTranspose, may fall out of it).
        axis: The channel axis of input and output.
    """

    op: str
    weight: Floats
    bias: Floats | None
    groups: int
    padded: bool
    axis: int

    @property
    def takes_bias(self) -> bool:
        """Whether the operator has a place for a bias."""
        return self.op != "MatMul"

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return int(self.weight.shape[0])


def scale_outputs(layer: Linear, scale: Floats, shift: Floats) -> Linear:
    """The layer whose output is ``scale * y + shift`` per channel; both ``[out]``."""
    weight = layer.weight * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
    old = np.zeros(layer.outputs) if layer.bias is None else layer.bias
    bias = old * scale + shift
    return _with(layer, weight, bias if layer.bias is not None or shift.any() else None)


def scale_inputs(layer: Linear, scale: Floats, shift: Floats) -> Linear:
    """The layer that does for ``x`` what the old one does for ``scale * x + shift``; both ``[in]``.

    Exact only where no padding is (or ``shift`` is zero): padding puts zeros where the old layer saw zeros too, and
    the new one would need ``-shift / scale`` there.  The caller checks.
    """
    per_group = layer.outputs // layer.groups

    def spread(x: Floats) -> Floats:
        grouped = np.repeat(x.reshape(layer.groups, -1), per_group, axis=0)
        return grouped.reshape(layer.outputs, -1, *[1] * (layer.weight.ndim - 2))

    old = np.zeros(layer.outputs) if layer.bias is None else layer.bias
    bias = old + (layer.weight * spread(shift)).reshape(layer.outputs, -1).sum(axis=1)
    return _with(layer, layer.weight * spread(scale), bias if layer.bias is not None or shift.any() else None)


def _with(layer: Linear, weight: Floats, bias: Floats | None) -> Linear:
    return Linear(layer.op, weight, bias, layer.groups, layer.padded, layer.axis)


def transposed_to_canonical(weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """ConvTranspose's ``[in, out / groups, *kernel]`` as ``[out, in / groups, *kernel]``."""
    inner, per_group, *kernel = weight.shape
    grouped = weight.reshape(groups, inner // groups, per_group, *kernel)
    return grouped.swapaxes(1, 2).reshape(groups * per_group, inner // groups, *kernel)


def canonical_to_transposed(weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """The way back."""
    outer, per_group, *kernel = weight.shape
    grouped = weight.reshape(groups, outer // groups, per_group, *kernel)
    return grouped.swapaxes(1, 2).reshape(groups * per_group, outer // groups, *kernel)


def read_linear(net: Network, node: ir.Node) -> Linear | None:
    """``node`` as a :class:`Linear`, or None if it is none or its weights are not constant."""
    if node.op_type not in LINEAR or node.domain or len(node.inputs) < 2 or node.inputs[0] is None:
        return None
    weight = _constant(net, node, 1)
    if weight is None or weight.dtype != np.float32:
        return None
    bias = _constant(net, node, 2)
    if bias is None and len(node.inputs) > 2 and node.inputs[2] is not None:
        return None
    attributes: dict[str, Any] = net.attributes(node)
    match node.op_type:
        case "Conv" | "ConvTranspose":
            groups = int(attributes["group"])
            transposed = node.op_type == "ConvTranspose"
            canonical = transposed_to_canonical(weight, groups) if transposed else weight
            padded = transposed or any(attributes["pads"])
            return _linear(node.op_type, canonical, bias, groups, padded, 1)
        case "Gemm":
            canonical = (weight if attributes["transB"] else weight.T) * float(attributes["alpha"])
            if bias is not None:
                if bias.size not in {1, len(canonical)} or (bias.ndim == 2 and bias.shape[0] != 1):
                    return None
                bias = np.broadcast_to(bias.reshape(-1).astype(np.float64), len(canonical)) * float(attributes["beta"])
            return None if attributes["transA"] else _linear("Gemm", canonical, bias, 1, False, 1)
        case _:
            rank = len(net.shape(str(node.inputs[0].name))) if net.has_shape(str(node.inputs[0].name)) else 0
            if weight.ndim != 2 or rank < 2:
                return None
            return _linear("MatMul", weight.T, None, 1, False, rank - 1)


def _linear(op: str, weight: NDArray[Any], bias: NDArray[Any] | None, groups: int, padded: bool, axis: int) -> Linear:
    as_bias = None if bias is None else np.asarray(bias, np.float64).reshape(-1)
    return Linear(op, np.asarray(weight, np.float64), as_bias, groups, padded, axis)


def _constant(net: Network, node: ir.Node, index: int) -> NDArray[Any] | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None else net.constant(str(value.name))


def write_linear(net: Network, node: ir.Node, layer: Linear) -> None:
    """Give ``node`` the numbers of ``layer`` as new constants (others may share the old ones); Gemm becomes plain.

    A plain Gemm has alpha = beta = 1 and weights ``[out, in]`` (transB = 1).
    """
    weight = layer.weight
    match layer.op:
        case "ConvTranspose":
            weight = canonical_to_transposed(weight, layer.groups)
        case "MatMul":
            weight = weight.T
        case "Gemm":
            net.set_attributes(node, alpha=None, beta=None, transA=None, transB=1)
    old = node.inputs[1]
    assert old is not None
    net.set_input(node, 1, net.new_constant(_stem(old.name), weight.astype(np.float32)))
    if layer.bias is not None:
        before = node.inputs[2] if len(node.inputs) > 2 else None
        hint = f"{node.name}.bias" if before is None else _stem(before.name)
        net.set_input(node, 2, net.new_constant(hint, layer.bias.astype(np.float32)))


def _stem(name: str | None) -> str:
    """``w~folded`` of ``w`` and of ``w~folded_2``: repeated folding does not make names longer and longer."""
    return str(name).split("~folded", maxsplit=1)[0] + "~folded"
