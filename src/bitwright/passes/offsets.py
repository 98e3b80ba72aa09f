"""Moving a constant out of an activation and into the biases beside it.

If every value of a tensor is made smaller by ``c``, whoever reads it through a linear layer gets it back in its bias:
``W x + b = W (x - c) + (b + W c)``.  The layer that makes the tensor takes ``c`` off its own bias, and the bounds of the
activation between move along.  Exact wherever no zeros are put around the tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bitwright.passes import moved
from bitwright.passes.linear import Linear, read_linear, scale_inputs, scale_outputs, write_linear

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

Reals = NDArray[np.float64]

_MOVES = frozenset({"Flatten", "Reshape", "Squeeze", "Identity", "Dropout"})
_MEANS = frozenset({"GlobalAveragePool"})


@dataclass(frozen=True, eq=False)
class Maker:
    """A linear layer and the activation behind it.

    Attributes:
        linear: The layer.
        activation: Its ``Relu`` or ``Clip``.
        low: Lower bound of the activation.
        high: Upper bound, infinite for a ReLU.
    """

    linear: ir.Node
    activation: ir.Node
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class OffsetSite:
    """Tensors that can be shifted together.

    Attributes:
        makers: Layers that make them.
        tensors: The outputs of the activations, and what passes their values on.
        readers: Linear layers that take the offset up.
    """

    makers: tuple[Maker, ...]
    tensors: tuple[str, ...]
    readers: tuple[ir.Node, ...]


def offset_sites(net: Network, *, joined: bool = True, means: bool = False) -> tuple[OffsetSite, ...]:
    """All places where an offset can be moved, each tensor in one of them.

    Args:
        net: A prepared network.
        joined: Whether to go through concatenations and any change of shape, where an offset must be the same for all
            channels.
        means: Whether to go through averages over whole maps.
    """
    found: list[OffsetSite] = []
    done: set[str] = set()
    for node in net.nodes():
        maker = _maker(net, node)
        if maker is None or str(node.outputs[0].name) in done:
            continue
        site = _grow(net, maker, joined, means)
        if site is not None:
            found.append(site)
            done.update(site.tensors)
    return tuple(found)


def _maker(net: Network, node: ir.Node | None) -> Maker | None:
    if node is None or node.op_type not in ("Relu", "Clip") or node.domain or node.inputs[0] is None:
        return None
    linear = node.inputs[0].producer()
    if linear is None or net.only_consumer(str(node.inputs[0].name)) is not node:
        return None
    layer = read_linear(net, linear)
    if layer is None or not layer.takes_bias or layer.axis != 1:
        return None
    if node.op_type == "Relu":
        return Maker(linear, node, 0.0, np.inf)
    values = [None if v is None else net.constant(str(v.name)) for v in list(node.inputs)[1:3]]
    low = -np.inf if not values or values[0] is None else float(np.ravel(values[0])[0])
    high = np.inf if len(values) < 2 or values[1] is None else float(np.ravel(values[1])[0])
    return Maker(linear, node, low, high) if low == 0.0 else None


def _grow(net: Network, first: Maker, joined: bool, means: bool) -> OffsetSite | None:
    makers, readers = [first], dict[str, "ir.Node"]()
    tensors = [str(first.activation.outputs[0].name)]
    for tensor in tensors:
        value = net.value(tensor)
        if value.is_graph_output():
            return None
        for use in value.uses():
            reader = use.node
            layer = read_linear(net, reader) if use.idx == 0 else None
            if layer is not None and not layer.padded and layer.takes_bias and layer.axis == 1:
                readers[str(reader.name)] = reader
                continue
            more = _passes_on(net, reader, joined, means)
            if more is None:
                return None
            for name in more:
                if name in tensors:
                    continue
                made = net.value(name).producer()
                if made is not reader:  # another input of a concatenation
                    maker = _maker(net, made)
                    if maker is None:
                        return None
                    makers.append(maker)
                tensors.append(name)
    return OffsetSite(tuple(makers), tuple(tensors), tuple(readers.values())) if readers else None


def _passes_on(net: Network, node: ir.Node, joined: bool, means: bool) -> list[str] | None:
    """Tensors that must be shifted along if one that ``node`` reads is; None if none can be."""
    if node.domain or net.is_pattern(node):
        return None
    outputs = [str(v.name) for v in node.outputs if v.name]
    if len(outputs) != 1:
        return None
    if node.op_type == "MaxPool" or (means and node.op_type in _MEANS):
        return outputs
    if node.op_type in _MOVES and (joined or _flattens(net, node)):
        return outputs
    if joined and node.op_type == "Concat":
        return [*outputs, *(str(v.name) for v in node.inputs if v is not None)]
    return None


def _flattens(net: Network, node: ir.Node) -> bool:
    """Whether ``[n, c, ...]`` becomes ``[n, c * ...]``, each channel a run of columns."""
    source, output = node.inputs[0], node.outputs[0]
    if source is None or not net.has_shape(str(source.name)) or not net.has_shape(str(output.name)):
        return False
    before, after = net.shape(str(source.name)), net.shape(str(output.name))
    return len(before) > 1 and len(after) == 2 and after[0] == before[0] and after[1] == int(np.prod(before[1:]))


def shift(net: Network, site: OffsetSite, offset: Reals, *, bounds: bool) -> None:
    """Take ``offset`` out of the tensors of ``site``, in place.

    Args:
        net: The network that ``site`` was read from.
        site: What to shift.
        offset: 0-d for all channels alike, or ``[channels]`` for a site that was found with ``joined=False``.
        bounds: Whether the bounds of the activations move along (for one offset for all), or stay where they are (for
            channels whose values never meet them).
    """
    for maker in site.makers:
        layer = _read(net, maker.linear)
        write_linear(net, maker.linear, scale_outputs(layer, np.ones(layer.outputs), _spread(-offset, layer.outputs)))
        moved.record(maker.linear, np.ones(layer.outputs), _spread(-offset, layer.outputs))
        if bounds:
            _set_bounds(net, maker, float(offset))
    for reader in site.readers:
        layer = _read(net, reader)
        write_linear(net, reader, scale_inputs(layer, np.ones(layer.inputs), _spread(offset, layer.inputs)))
    net.sweep()


def _read(net: Network, node: ir.Node) -> Linear:
    layer = read_linear(net, node)
    assert layer is not None  # the site was found by reading it
    return layer


def _spread(offset: Reals, channels: int) -> Reals:
    values = np.asarray(offset, np.float64)
    if values.ndim and len(values) != channels:  # flattened: each channel became several
        values = np.repeat(values, channels // len(values))
    return np.broadcast_to(values, (channels,)).astype(np.float64)


def _set_bounds(net: Network, maker: Maker, offset: float) -> None:
    node = maker.activation
    node.op_type = "Clip"
    stem = f"{node.name}~bound"
    net.set_input(node, 1, net.new_constant(stem, np.float32(maker.low - offset)))
    high = None if np.isinf(maker.high) else net.new_constant(stem, np.float32(maker.high - offset))
    if high is not None or len(node.inputs) > 2:
        net.set_input(node, 2, high)
