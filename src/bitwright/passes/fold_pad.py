"""Zero padding as a node vanishes in the layer that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bitwright.errors import printable
from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.ranges import is_nonnegative

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network


@dataclass(frozen=True, kw_only=True)
class FoldPad:
    """Move a constant zero ``Pad`` of the spatial axes into the attributes of all its readers.

    1. ``Pad → Conv``: the pads add up.
    2. ``Pad → AveragePool``: the zeros count, so only if it counts padding already or has none.
    3. ``Pad → MaxPool``: it pads with minus infinity, so only if its input is proven to be nonnegative (ReLU, Clip from
       0, Sigmoid) and every window holds a real element.
    4. Another value, mode, axis or reader, or negative pads: left alone.
    """

    name: ClassVar[str] = "fold-pad"
    summary: ClassVar[str] = "Move zero padding into the convolution or pooling that reads it."
    changes_function: ClassVar[bool] = False

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Fold ``net`` in place."""
        notes: list[Note] = []
        for node in net.nodes():
            pads = zero_pads(net, node)
            if pads is None or not any(pads):
                continue
            source, output = node.inputs[0], node.outputs[0]
            assert source is not None
            readers = [use.node for use in output.uses() if use.idx == 0]
            if output.is_graph_output() or not readers or len(readers) != len(output.uses()):
                continue
            merged = [_merged(net, reader, pads, source) for reader in readers]
            if any(m is None for m in merged):
                continue
            for reader, attributes in zip(readers, merged, strict=True):
                net.set_attributes(reader, **(attributes or {}))
                net.fuse(reader, node)
                notes.append(
                    Note(f"takes over the padding {list(pads)} of '{printable(node.name)}'", layer=str(reader.name))
                )
            net.replace(output, source)
            net.remove(node)
        net.sweep()
        return Change(bool(notes), tuple(notes))


def zero_pads(net: Network, node: ir.Node) -> tuple[int, ...] | None:
    """The spatial pads ``[begin..., end...]`` of a Pad node that pads with zeros there only, or None."""
    if node.op_type != "Pad" or node.domain or len(node.inputs) < 2:
        return None
    attributes = net.attributes(node)
    source, amounts = node.inputs[0], node.inputs[1]
    if attributes.get("mode", "constant") != "constant" or source is None or amounts is None:
        return None
    values = net.constant(str(amounts.name))
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    if values is None or not net.has_shape(str(source.name)):
        return None
    if fill is not None:
        number = net.constant(str(fill.name))
        if number is None or number.any():
            return None
    rank = len(net.shape(str(source.name)))
    chosen = range(rank)
    if axes is not None:
        array = net.constant(str(axes.name))
        if array is None:
            return None
        chosen = [int(a) % rank for a in array]  # type: ignore[assignment]
    if np.size(values) != 2 * len(chosen):
        return None
    begin, end = [0] * rank, [0] * rank
    for axis, low, high in zip(chosen, values[: len(values) // 2], values[len(values) // 2 :], strict=True):
        begin[axis], end[axis] = int(low), int(high)
    if rank < 3 or any(begin[:2]) or any(end[:2]) or min(*begin, *end) < 0:
        return None
    return (*begin[2:], *end[2:])


def _merged(net: Network, reader: ir.Node, pads: tuple[int, ...], source: ir.Value) -> dict[str, Any] | None:
    """The attributes that let ``reader`` pad itself, or None."""
    if reader.op_type not in {"Conv", "MaxPool", "AveragePool"} or reader.domain:
        return None
    attributes: dict[str, Any] = net.attributes(reader)
    if attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    own = tuple(attributes["pads"])
    total = [a + b for a, b in zip(own, pads, strict=True)]
    if reader.op_type == "Conv":
        return {"pads": total}
    half = len(total) // 2
    kernel = attributes["kernel_shape"]
    # A window of nothing but padding has no maximum and no count; runtimes refuse such pads.
    if attributes.get("ceil_mode") or any(p >= k for p, k in zip(total, (*kernel, *kernel), strict=True)):
        return None
    if reader.op_type == "AveragePool":
        counts = bool(attributes.get("count_include_pad"))
        return {"pads": total, "count_include_pad": 1} if counts or not any(own) else None
    fits = is_nonnegative(net, source) and len(reader.outputs) == 1 and not any(own) and half > 0
    undilated = all(d == 1 for d in attributes["dilations"])
    return {"pads": total} if fits and undilated else None
