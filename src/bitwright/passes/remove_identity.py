"""Nodes that change nothing go; their names stay on record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bitwright.errors import printable
from bitwright.passes._pass import Change, Needs, Note

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

_SHAPE_ONLY = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"})


@dataclass(frozen=True, kw_only=True)
class RemoveIdentity:
    """Remove nodes whose output equals their input.

    1. Identity, Dropout (inference).
    2. Reshape, Flatten, Squeeze, Unsqueeze, Expand, Slice, Pad, Resize, Cast, Transpose that change neither shape nor
       order nor type; Concat, Sum, Max, Min of one tensor; pooling over one element; Clip without limits.
    3. Mul and Div by ones, Add and Sub of zeros.
    4. Two Transposes that cancel; two that do not become one.

    A node between an input (or constant) and an output of the network stays, because an output needs a maker.
    """

    name: ClassVar[str] = "remove-identity"
    summary: ClassVar[str] = "Remove nodes that change nothing."
    changes_function: ClassVar[bool] = False

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Remove them from ``net`` in place."""
        removed: list[str] = []
        merged: list[str] = []
        for node in net.nodes():
            if node.graph is None:
                continue
            if node.op_type == "Transpose" and _merge_transposes(net, node):
                merged.append(str(node.name))
            source = _carried(net, node)
            if source is None or not net.replace(node.outputs[0], source):
                continue
            removed.append(str(node.name))
            net.remove(node, because=net.note_removed(node, str(source.name)))
        net.sweep()
        notes = [Note("takes over the transposition before it", layer=name) for name in merged]
        if removed:
            some = ", ".join(printable(n, 40) for n in removed[:3])
            notes.append(
                Note(f"{len(removed)} nodes change nothing and were removed: {some}{' …' * (len(removed) > 3)}")
            )
        return Change(bool(removed or merged), tuple(notes))


def _merge_transposes(net: Network, node: ir.Node) -> bool:
    """Let ``node`` do what it and the Transpose before it do; the first one goes if nobody else reads it."""
    source = node.inputs[0]
    before = None if source is None else source.producer()
    if before is None or before.op_type != "Transpose" or before.inputs[0] is None or source is None:
        return False
    first: Any = net.attributes(before)["perm"]
    second: Any = net.attributes(node)["perm"]
    combined = [int(first[axis]) for axis in second]
    alone = net.only_consumer(str(source.name)) is node
    if not alone and combined != sorted(combined):
        return False  # both would stay: nothing is won
    net.set_attributes(node, perm=combined)
    net.set_input(node, 0, before.inputs[0])
    if alone:
        net.fuse(node, before)
        net.remove(before)
    return True


def _carried(net: Network, node: ir.Node) -> ir.Value | None:
    """The input that ``node`` passes on unchanged, or None if it changes something."""
    if node.domain or not node.inputs or node.inputs[0] is None or not node.outputs:
        return None
    source, output = node.inputs[0], node.outputs[0]
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return None
    if node.op_type == "Identity":
        return source
    if node.op_type == "Dropout":
        return source if _not_training(net, node) else None
    if not (net.has_shape(str(source.name)) and net.has_shape(str(output.name))):
        return None
    attributes: dict[str, Any] = net.attributes(node)
    if node.op_type in {"Mul", "Add", "Sub", "Div"}:
        return _neutral(net, node)
    if net.shape(str(source.name)) != net.shape(str(output.name)):
        return None
    match node.op_type:
        case op if op in _SHAPE_ONLY:
            same = True
        case "Transpose":
            perm = [axis for axis in attributes["perm"] if net.shape(str(source.name))[axis] != 1 or axis == 0]
            # Moving axes of one element about is no change either, but the batch is not one element for long.
            same = perm == sorted(perm) and (not net.batchable or attributes["perm"][0] == 0)
        case "Cast":
            same = net.dtype(str(source.name)) == net.dtype(str(output.name))
        case "Slice":
            same = _no_reversal(net, node)
        case "Pad":
            same = attributes.get("mode") != "wrap" and _all_zero(net, node, 1)
        case "Concat" | "Sum" | "Max" | "Min" | "Mean":
            same = len(node.inputs) == 1
        case "MaxPool" | "AveragePool":
            same = (
                all(k == 1 for k in attributes["kernel_shape"])
                and all(s == 1 for s in attributes["strides"])
                and not any(attributes["pads"])
            )
        case "Clip":
            same = all(v is None for v in node.inputs[1:])
        case "Resize":
            same = attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize"
        case _:
            same = False
    return source if same else None


def _neutral(net: Network, node: ir.Node) -> ir.Value | None:
    """The other operand, if one is a constant that changes nothing."""
    neutral = 1 if node.op_type in {"Mul", "Div"} else 0
    for index, value in enumerate(node.inputs):
        if value is None or (index == 0 and node.op_type in {"Sub", "Div"}) or not net.is_constant(str(value.name)):
            continue
        other = node.inputs[1 - index]
        constant = net.constant(str(value.name))
        if other is None or constant is None or not np.all(constant == neutral):
            continue
        if net.shape(str(other.name)) == net.shape(str(node.outputs[0].name)) and not net.is_constant(str(other.name)):
            return other
    return None


def _not_training(net: Network, node: ir.Node) -> bool:
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    if mode is None:
        return True
    value = net.constant(str(mode.name))
    return value is not None and not value.any()


def _no_reversal(net: Network, node: ir.Node) -> bool:
    steps = node.inputs[4] if len(node.inputs) > 4 else None
    if steps is None:
        return True
    value = net.constant(str(steps.name))
    return value is not None and bool((value == 1).all())


def _all_zero(net: Network, node: ir.Node, index: int) -> bool:
    value = node.inputs[index] if len(node.inputs) > index else None
    array = None if value is None else net.constant(str(value.name))
    return array is not None and not array.any()
