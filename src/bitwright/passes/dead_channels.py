"""Channels that never say anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.passes import moved
from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.linear import Linear, read_linear, write_linear
from bitwright.passes.observed import Observed

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class DeadChannels:
    """Set the weights of channels that are zero in all samples to zero, and those that read them.

    Training leaves channels behind that ReLU always cuts off; folding a batch normalization with next to no variance
    makes their weights the largest of the layer, and one step for the whole tensor is then spent on nothing.  Channels
    that stay zero by proof (no weights, no positive bias) are treated without data.  The shape stays; ``--prune``
    takes such channels out of the integer program.
    """

    name: ClassVar[str] = "dead-channels"
    summary: ClassVar[str] = "Take channels that are always zero out of the ranges of weights and biases."
    changes_function: ClassVar[bool] = True

    def needs(self, net: Network) -> Needs:
        """Extremes of every channel behind a ReLU or a clip."""
        return Needs(channels=tuple(str(act.outputs[0].name) for _, act, _ in _cut(net)))

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Clear ``net`` in place; ``got`` is an :class:`Observed`, or None."""
        observed = got.channels if isinstance(got, Observed) else {}
        zero: dict[str, Flags] = {}
        cleared = 0
        notes: list[Note] = []
        for node, activation, layer in _cut(net):
            tensor = str(activation.outputs[0].name)
            dead = proven(layer)
            if tensor in observed and len(observed[tensor].hi) == layer.outputs:
                dead |= (observed[tensor].hi <= 0) & (observed[tensor].lo >= 0)
            if dead.any():
                zero[tensor] = dead
            found = without_outputs(layer, dead)
            if found is not layer:
                write_linear(net, node, found)
                moved.record(node, np.where(dead, 0.0, 1.0), np.zeros(layer.outputs))
                cleared += 1
                notes.append(Note(f"{int(dead.sum())} of {layer.outputs} channels are always zero", str(node.name)))
        for node in net.nodes():
            reader = read_linear(net, node)
            source = None if reader is None or node.inputs[0] is None else _flags(net, str(node.inputs[0].name), zero)
            if reader is None or reader.axis != 1 or source is None or len(source) != reader.inputs:
                continue
            changed = without_inputs(reader, source)
            if changed is not reader:
                write_linear(net, node, changed)
                cleared += 1
        net.sweep()
        if not cleared:
            return Change(notes=(Note("no channel is dead"),))
        total = int(sum(flags.sum() for flags in zero.values()))
        return Change(True, (Note(f"{total} dead channels; weights of {cleared} layers cleared of them"), *notes))


def proven(layer: Linear) -> Flags:
    """Channels that give nothing positive whatever comes in, ``[out]``."""
    none = ~layer.weight.reshape(layer.outputs, -1).any(axis=1)
    return np.asarray(none & (True if layer.bias is None else layer.bias <= 0))


def without_outputs(layer: Linear, dead: Flags) -> Linear:
    """``layer`` with nothing in the rows ``dead``; itself if nothing was there."""
    bias = layer.bias
    if not layer.weight[dead].any() and (bias is None or not bias[dead].any()):
        return layer
    weight = np.where(dead.reshape(-1, *[1] * (layer.weight.ndim - 1)), 0.0, layer.weight)
    return replace(layer, weight=weight, bias=None if bias is None else np.where(dead, 0.0, bias))


def without_inputs(layer: Linear, dead: Flags) -> Linear:
    """``layer`` with nothing in the columns that read ``dead`` inputs; itself if nothing was there."""
    rows = layer.outputs // layer.groups
    columns = np.repeat(dead.reshape(layer.groups, -1), rows, axis=0)  # [out, in / groups]
    weight = np.where(columns.reshape(*columns.shape, *[1] * (layer.weight.ndim - 2)), 0.0, layer.weight)
    return layer if np.array_equal(weight, layer.weight) else replace(layer, weight=weight)


def _cut(net: Network) -> list[tuple[ir.Node, ir.Node, Linear]]:
    """Linear layers whose only reader is a ReLU, or a clip that starts at zero."""
    found = []
    for activation in net.nodes():
        source = activation.inputs[0] if activation.inputs else None
        if activation.domain or source is None or not _starts_at_zero(net, activation):
            continue
        node = source.producer()
        if node is None or net.only_consumer(str(source.name)) is not activation or source.is_graph_output():
            continue
        layer = read_linear(net, node)
        if layer is not None and layer.axis == 1 and layer.takes_bias:
            found.append((node, activation, layer))
    return found


def _starts_at_zero(net: Network, node: ir.Node) -> bool:
    if node.op_type == "Relu":
        return True
    low = (
        net.constant(str(node.inputs[1].name))
        if node.op_type == "Clip" and len(node.inputs) > 1 and node.inputs[1]
        else None
    )
    return low is not None and float(np.ravel(low)[0]) == 0.0


def _flags(net: Network, tensor: str, zero: dict[str, Flags]) -> Flags | None:
    """Which channels of ``tensor`` are known to be zero, pooling and flattening looked through; None if none."""
    while tensor not in zero:
        node = net.producer(tensor)
        if node is None or not node.inputs or node.inputs[0] is None or node.op_type not in _KEEPS or node.domain:
            return None
        before = str(node.inputs[0].name)
        if node.op_type in ("Flatten", "Reshape") and not _one_place(net, before, tensor):
            return None
        tensor = before
    return zero[tensor]


_KEEPS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Flatten", "Reshape"})


def _one_place(net: Network, before: str, after: str) -> bool:
    if not net.has_shape(before) or not net.has_shape(after):
        return False
    a, b = net.shape(before), net.shape(after)
    return len(a) > 1 and len(b) == 2 and a[1] == b[1] and all(n == 1 for n in a[2:])
