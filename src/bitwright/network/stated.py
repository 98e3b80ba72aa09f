"""Formats that a network's file states: QuantizeLinear and DequantizeLinear read as what they mean.

A quantized network comes as a float network with pairs of these nodes on its tensors and a DequantizeLinear behind each
of its constants.  :func:`take_constants` turns the constants into floats before anything is folded, and remembers their
integers; the pairs on tensors stay while the network is folded, so that nothing is folded across one, and
:func:`take_pairs` takes them out afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import ModelError, printable
from bitwright.network.values import stored
from bitwright.number.format import Format

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

_INTEGERS = {
    "INT4": (4, True), "UINT4": (4, False), "INT8": (8, True), "UINT8": (8, False), "INT16": (16, True),
    "UINT16": (16, False), "INT32": (32, True),
}  # fmt: skip
PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class StatedConstant:
    """A constant as the file stores it.

    Attributes:
        format: Of its integers.
        codes: The integers, int64, in the file's order of axes.
    """

    format: Format
    codes: NDArray[np.int64]

    @property
    def reals(self) -> NDArray[np.float64]:
        """What they stand for."""
        return self.format.dequantize(self.codes)


@dataclass(frozen=True)
class Stated:
    """What a file states.

    Attributes:
        activations: Tensor → format.
        constants: Initializer, as it was called when the file was read → its integers.
        target: The target whose arithmetic the file is made for, or None.
    """

    activations: Mapping[str, Format] = field(default_factory=dict)
    constants: Mapping[str, StatedConstant] = field(default_factory=dict)
    target: str | None = None


def has_pairs(model: ir.Model) -> bool:
    """Whether any node rounds a tensor to a format."""
    return any(node.op_type in PAIR and node.domain in {"", "com.microsoft"} for node in model.graph)


def take_constants(model: ir.Model, target: str | None) -> Stated:
    """Make floats of all integer constants, in place; gives their integers.

    Graph inputs and outputs that hold integers of a format become real numbers: the network takes and gives these.
    """
    constants: dict[str, StatedConstant] = {}
    for node in model.graph:
        if node.op_type in PAIR and node.domain == "com.microsoft":
            node.domain = ""  # the same operators, for the integers of 16 and 4 bits, before opset 21 had them
    for node in list(model.graph):
        if node.op_type == "QuantizeLinear":
            _round_constant(model, node)
        elif node.op_type == "DequantizeLinear":
            _float_constant(model, node, constants)
    _real_ends(model)
    opset = model.graph.opset_imports.get("", 0)
    if opset and opset < 21:
        wide = {"INT16", "UINT16", "INT4", "UINT4"}
        kinds = {v.dtype.name for n in model.graph if n.op_type in PAIR for v in n.inputs[2:] if v and v.dtype}
        if kinds & wide:
            model.graph.opset_imports[""] = 21
    return Stated(constants=constants, target=target)


def _array(value: ir.Value | None) -> NDArray[Any] | None:
    """A constant's numbers; integers of 4 bits as those of 8."""
    if value is None:
        return None
    tensor = value.const_value
    if tensor is None:
        node = value.producer()
        if node is None or node.op_type != "Constant" or "value" not in node.attributes:
            return None
        tensor = node.attributes["value"].value
    array = np.asarray(tensor.numpy())
    return array.astype(np.int64) if array.dtype.kind not in "biuf" else array


def _kind(value: ir.Value | None, node: ir.Node) -> str:
    import onnx_ir as ir

    if value is not None and value.dtype is not None:
        return value.dtype.name
    if value is not None and value.const_value is not None:
        return str(value.const_value.dtype.name)
    number = node.attributes["output_dtype"].as_int() if "output_dtype" in node.attributes else 2
    return ir.DataType(number or 2).name


def format_of(node: ir.Node, rank: int) -> Format | None:
    """The format of a QuantizeLinear or DequantizeLinear; None where it is not constant, in blocks, or of floats.

    Args:
        node: The node.
        rank: Axes of the tensor.
    """
    scale = _array(node.inputs[1])
    point = node.inputs[2] if len(node.inputs) > 2 else None
    zero = _array(point)
    if scale is None or (point is not None and zero is None) or scale.ndim > 1:
        return None
    source = point if point is not None else node.inputs[0] if node.op_type == "DequantizeLinear" else None
    found = _INTEGERS.get(_kind(source, node))
    if found is None or ("block_size" in node.attributes and node.attributes["block_size"].as_int()):
        return None
    bits, signed = found
    scale = scale.astype(np.float64)
    zero = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64).reshape(scale.shape)
    axis: int | None = None
    if scale.size == 1:
        scale, zero = scale.reshape(()), zero.reshape(())
    else:
        axis = (node.attributes["axis"].as_int() if "axis" in node.attributes else 1) % max(rank, 1)
    try:
        return Format(bits, signed, scale, zero, axis)
    except ValueError as error:
        raise ModelError(
            f"Node '{printable(node.name)}' states no format: {error}. Quantize the network again."
        ) from error


def _round_constant(model: ir.Model, node: ir.Node) -> None:
    """QuantizeLinear of a float constant: its integers are known now."""
    values = _array(node.inputs[0])
    if values is None or values.dtype.kind != "f" or (format := format_of(node, values.ndim)) is None:
        return
    from bitwright.number.format import Rounding

    kind = _kind(node.inputs[2] if len(node.inputs) > 2 else None, node)
    codes = format.quantize(np.asarray(values, np.float32), Rounding.HALF_EVEN)
    if kind not in {"INT8", "UINT8", "INT16", "UINT16", "INT32"}:
        return
    fresh = _fresh(model, f"{node.outputs[0].name}.codes")
    node.outputs[0].replace_all_uses_with(stored(model.graph, fresh, codes.astype(kind.lower())))


def _fresh(model: ir.Model, name: str) -> str:
    taken = set(model.graph.initializers) | {str(v.name) for n in model.graph for v in n.outputs}
    wanted, number = name, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _float_constant(model: ir.Model, node: ir.Node, constants: dict[str, StatedConstant]) -> None:
    """DequantizeLinear of a constant: a float constant of the same name."""
    codes = _array(node.inputs[0])
    if codes is None or codes.dtype.kind not in "iu" or (format := format_of(node, codes.ndim)) is None:
        return
    if format.axis is not None and codes.shape[format.axis] != format.scale.size:
        raise ModelError(
            f"Node '{printable(node.name)}' has {format.scale.size} steps for {codes.shape[format.axis]} channels. "
            "Quantize the network again."
        )
    found = StatedConstant(format, codes.astype(np.int64))
    output = node.outputs[0]
    name = str(output.name)
    if output.is_graph_output():
        return
    model.graph.remove(node)
    output.name = f"{name}~"
    value = stored(model.graph, name, found.reals.astype(np.float32))
    output.replace_all_uses_with(value)
    constants[name] = found


def _real_ends(model: ir.Model) -> None:
    """Inputs and outputs of integers with a format become real numbers, rounded inside."""
    import onnx_ir as ir

    graph = model.graph
    for value in graph.inputs:
        users = [use.node for use in value.uses()]
        if value.dtype is None or value.dtype.name not in _INTEGERS or not users:
            continue
        if any(u.op_type != "DequantizeLinear" for u in users) or value.dtype.name == "INT32":
            continue
        first = users[0]
        rounded = ir.node("QuantizeLinear", [value, *first.inputs[1:]], name=f"{value.name}.quantize")
        rounded.outputs[0].name = _fresh(model, f"{value.name}.codes")
        if "axis" in first.attributes:
            rounded.attributes["axis"] = first.attributes["axis"]
        for use in users:
            use.replace_input_with(0, rounded.outputs[0])
        graph.insert_before(next(iter(graph)), rounded)
        value.type = ir.TensorType(ir.DataType.FLOAT)
    for index, value in enumerate(graph.outputs):
        node = value.producer()
        if node is None or node.op_type != "QuantizeLinear":
            continue
        name = str(value.name)
        value.name = _fresh(model, f"{name}.codes")
        real = ir.node("DequantizeLinear", [value, *node.inputs[1:]], name=f"{name}.dequantize")
        real.outputs[0].name = name
        real.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        graph.append(real)
        graph.outputs[index] = real.outputs[0]


def take_pairs(net: Network, stated: Stated) -> Stated:
    """Take the pairs out of a folded network, in place, and give the formats that they stated.

    A tensor that only a pair reads has the pair's format.  One that others read as well, or that several pairs round
    in different ways, keeps its real numbers and is followed by an ``Identity`` of each format.
    """
    found: dict[int, tuple[Any, Format]] = {}
    for node in net.nodes():
        if node.op_type != "QuantizeLinear" or node.domain:
            continue
        source = node.inputs[0]
        rank = len(net.shape(str(source.name))) if source is not None and net.has_shape(str(source.name)) else 4
        format, after = format_of(node, rank), [use.node for use in node.outputs[0].uses()]
        whole = source is not None and format is not None and not node.outputs[0].is_graph_output()
        if not whole or not after or any(a.op_type != "DequantizeLinear" for a in after):
            continue
        assert source is not None
        assert format is not None
        if any(format_of(a, rank) != format for a in after):
            continue
        if format.axis is not None:
            raise ModelError(
                f"Tensor '{printable(source.name)}' has a step per channel. Only constants may have that: quantize the "
                "network again with one step per tensor for activations."
            )
        target = _home(net, node, source, format, found)
        for reader in after:
            target = _replaced(net, reader, target, format, found)
            net.remove(reader, because=net.note_removed(reader, str(target.name)))
        net.remove(node, because=net.note_removed(node, str(target.name)))
    net.sweep()
    activations = {str(value.name): format for value, format in found.values()}
    return Stated(activations, stated.constants, stated.target)


def _home(net: Network, node: ir.Node, source: ir.Value, format: Format, found: dict[int, tuple[Any, Format]]) -> Any:
    """The tensor that shall hold ``source`` in ``format``: itself where nobody needs it otherwise."""
    known = found.get(id(source))
    if known is not None and known[1] == format:
        return source
    if known is None and not source.is_graph_output() and _only_rounded(source, format, net):
        found[id(source)] = (source, format)
        return source
    return _copy(net, node, source, format, found)


def _only_rounded(source: ir.Value, format: Format, net: Network) -> bool:
    rank = len(net.shape(str(source.name))) if net.has_shape(str(source.name)) else 4
    return all(
        use.node.op_type == "QuantizeLinear" and use.idx == 0 and format_of(use.node, rank) == format
        for use in source.uses()
    )


def _copy(net: Network, before: ir.Node, source: ir.Value, format: Format, found: dict[int, tuple[Any, Format]]) -> Any:
    value = net.new_node(
        "Identity",
        [source],
        before=before,
        name=f"{source.name}.rounded",
        sources=net.sources(before),
        shape=net.shape(str(source.name)),
    )
    found[id(value)] = (value, format)
    return value


def _replaced(net: Network, reader: ir.Node, target: Any, format: Format, found: dict[int, tuple[Any, Format]]) -> Any:
    """Let all who read the DequantizeLinear read ``target``; gives the tensor that holds it now."""
    if net.replace(reader.outputs[0], target):
        return target
    own = _copy(net, reader, target, format, found)  # an output needs a tensor of its own
    net.replace(reader.outputs[0], own)
    return own
