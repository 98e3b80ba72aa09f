"""Averages with a step of their own: a convolution whose weights are all one over their count."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.linear import Linear, read_linear

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

POOLS = ("AveragePool", "GlobalAveragePool", "ReduceMean")


@dataclass(frozen=True, kw_only=True)
class RequantizeAverage:
    """Compute averages as depthwise convolutions where the target keeps the step of the input for them.

    The mean of a map is far smaller than its largest value, so in the step of the map it has few codes left, and
    kernels that cut quotients off lose half a step more.  A depthwise convolution with weights ``1 / count`` is the
    same mean with one rounding to a step of its own.  Costs its weights: ``count`` for each channel.

    Attributes:
        share: Weights that may be added, as a share of those that the network has.
    """

    name: ClassVar[str] = "requantize-average"
    summary: ClassVar[str] = (
        "Give averages a step of their own: a depthwise layer takes the place of pooling that keeps the map's step."
    )
    changes_function: ClassVar[bool] = False

    share: float = 0.25

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Replace pooling in ``net``; without a target, all that can be."""
        layers = [layer for node in net.nodes() if (layer := read_linear(net, node)) is not None]
        means = sum(layer.weight.size for layer in layers if _is_mean(layer))
        left = self.share * (sum(layer.weight.size for layer in layers) - means) - means
        notes: list[Note] = []
        for node in net.nodes():
            if node.op_type not in POOLS or node.domain:
                continue
            if target is not None and not _ties(target, node.op_type):
                continue
            window = _window(net, node)
            if window is None:
                continue
            channels = net.shape(_source(node))[1]
            if (cost := channels * prod(window)) > left:
                continue
            left -= cost
            text = f"a mean of {prod(window)} values has a step of its own, for {cost} weights"
            notes.append(Note(text, layer=str(node.name)))
            _replace(net, node, window)
        if not notes:
            return Change(notes=(Note("no average keeps the step of its input and can be a convolution"),))
        return Change(True, (Note(f"{len(notes)} averages are depthwise layers with steps of their own"), *notes))


def _is_mean(layer: Linear) -> bool:
    """Whether this is what an earlier run made."""
    taps = prod(layer.weight.shape[1:])
    return layer.groups == layer.outputs and taps > 1 and bool(np.all(layer.weight == np.float32(1.0 / taps)))


def _ties(target: Any, op: str) -> bool:
    """Whether the target gives such an average the step of its input, and computes convolutions."""
    return bool(target.op(op).output == "shared" and target.op("Conv").supported)


def _source(node: ir.Node) -> str:
    value = node.inputs[0]
    return "" if value is None else str(value.name)


def _window(net: Network, node: ir.Node) -> tuple[int, ...] | None:
    """Taps along each spatial axis; None where a convolution would not be the same."""
    source, output = _source(node), str(node.outputs[0].name)
    if not source or not net.has_shape(source) or not net.has_shape(output) or len(net.shape(source)) not in (3, 4):
        return None
    shape = net.shape(source)
    if net.dtype(source) != np.float32 or any(size <= 0 for size in shape[1:]):
        return None
    attributes: dict[str, Any] = net.attributes(node)
    if node.op_type == "AveragePool":
        padded = any(attributes.get("pads") or ())
        auto = attributes.get("auto_pad") or "NOTSET"
        whole = not attributes.get("ceil_mode") and auto in ("NOTSET", "VALID")
        if not whole or (padded and not attributes.get("count_include_pad")):
            return None
        return tuple(int(k) for k in np.ravel(np.asarray(attributes["kernel_shape"])))
    if node.op_type == "ReduceMean" and _axes(net, node, len(shape)) != tuple(range(2, len(shape))):
        return None
    return tuple(shape[2:])


def _axes(net: Network, node: ir.Node, rank: int) -> tuple[int, ...] | None:
    axes = net.attributes(node).get("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = net.constant(str(node.inputs[1].name))
    return None if axes is None else tuple(sorted(int(a) % rank for a in np.ravel(np.asarray(axes))))


def _replace(net: Network, node: ir.Node, window: tuple[int, ...]) -> None:
    """``node`` becomes the convolution, or drops the axes behind it that the mean has dropped."""
    source = _source(node)
    shape = net.shape(source)
    attributes: dict[str, Any] = net.attributes(node)
    kept: dict[str, Any] = {"group": shape[1], "kernel_shape": list(window)}
    if node.op_type == "AveragePool":
        for name in ("strides", "pads", "dilations"):
            if attributes.get(name):
                kept[name] = [int(v) for v in np.ravel(np.asarray(attributes[name]))]
    weight = net.new_constant(f"{node.name}.mean", np.full((shape[1], 1, *window), 1.0 / prod(window), np.float32))
    pooled = tuple(net.shape(str(node.outputs[0].name)))
    if len(pooled) == len(shape):
        node.op_type = "Conv"
        net.set_attributes(node, **dict.fromkeys(node.attributes))
        net.set_attributes(node, **kept)
        node.resize_inputs(2)
        net.set_input(node, 1, weight)
    else:
        value = net.new_node(
            "Conv",
            [node.inputs[0], weight],
            kept,
            before=node,
            name=f"{node.name}.mean",
            sources=net.sources(node),
            shape=(*shape[:2], *[1] * len(window)),
        )
        node.op_type = "Flatten"
        net.set_attributes(node, **dict.fromkeys(node.attributes))
        net.set_attributes(node, axis=1)
        net.set_input(node, 0, value)
        node.resize_inputs(1)
    net.sweep()
