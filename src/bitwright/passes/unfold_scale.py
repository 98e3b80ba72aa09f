"""The scale of a batch normalization as a layer of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.linear import Linear, read_linear, write_linear

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

Reals = NDArray[np.float64]


def channel_scales(layer: Linear) -> Reals:
    """The factor of each output channel that folding left in the weights, ``[out]``: its range over their mean.

    With ``W'_c = W_c / s_c`` all channels have the same range, and ``s_c`` is a layer of its own.
    """
    largest = np.abs(layer.weight).reshape(layer.outputs, -1).max(axis=1)
    live = largest > 0
    if not live.any():
        return np.ones(layer.outputs)
    middle = float(np.exp(np.log(largest[live]).mean()))
    return np.asarray(np.where(live, largest / middle, 1.0))


@dataclass(frozen=True, kw_only=True)
class UnfoldScale:
    """Take the scale of folded batch normalizations out of the weights again, as a depthwise layer with one tap.

    Folding gives each channel the factor γ/√(σ²+ε), and one step for the whole tensor pays for the largest.  Where
    channels of a convolution lie far apart, the factors become a depthwise convolution of one tap behind it, which has
    the bias and the activation too.  Costs a layer: its output is stored, and there is a multiplication for each value.
    Not where each channel has a step of its own.

    Attributes:
        ratio: How far the ranges of channels must be apart, largest over median.
    """

    name: ClassVar[str] = "unfold-scale"
    summary: ClassVar[str] = "Take the scales of folded batch normalizations out of weights, as a layer of their own."
    changes_function: ClassVar[bool] = False

    ratio: float = 8.0

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Unfold in ``net``."""
        if target is not None and target.weight.per_channel:
            return Change(notes=(Note(f"nothing to unfold: {target.name} has a step for each channel"),))
        notes: list[Note] = []
        for node in net.nodes():
            layer = read_linear(net, node)
            if layer is None or layer.op != "Conv" or layer.weight.shape[1:] == (1,) * (layer.weight.ndim - 1):
                continue
            if not net.has_shape(str(node.outputs[0].name)):
                continue
            scales = channel_scales(layer)
            spread = float(scales.max() / np.median(scales))
            if spread < self.ratio:
                continue
            _unfold(net, node, layer, scales)
            notes.append(Note(f"channels were up to {spread:.3g} times the median apart", layer=str(node.name)))
        if not notes:
            return Change(notes=(Note(f"no convolution has channels {self.ratio:g} times the median apart"),))
        return Change(True, (Note(f"the scales of {len(notes)} layers stand on their own"), *notes))


def _unfold(net: Network, node: ir.Node, layer: Linear, scales: Reals) -> None:
    """A new convolution in front of ``node``, which becomes the scale and keeps its name, its readers and its group."""
    kernel = (1,) * (layer.weight.ndim - 2)
    shape = net.shape(str(node.outputs[0].name))
    attributes = {name: value for name, value in net.attributes(node).items() if value is not None}
    value = net.new_node(
        "Conv",
        [node.inputs[0], node.inputs[1]],
        attributes,
        before=node,
        name=f"{node.name}.unscaled",
        sources=net.sources(node),
        shape=shape,
    )
    made = value.producer()
    assert made is not None
    plain = layer.weight / scales.reshape(-1, 1, *[1] * len(kernel))
    write_linear(net, made, replace(layer, weight=plain, bias=None))
    net.set_attributes(node, **dict.fromkeys(node.attributes))
    net.set_attributes(node, group=layer.outputs, kernel_shape=list(kernel))
    net.set_input(node, 0, value)
    bias = np.zeros(layer.outputs) if layer.bias is None else layer.bias
    one_tap = Linear("Conv", scales.reshape(-1, 1, *kernel), bias, layer.outputs, False, 1)
    write_linear(net, node, one_tap)
    net.sweep()
