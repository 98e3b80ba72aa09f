"""A layer that reads a concatenation becomes a sum of layers, each with a step of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.linear import read_linear, write_linear
from bitwright.passes.observed import Observed

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network


@dataclass(frozen=True, kw_only=True)
class SplitConcat:
    """Replace ``Conv(Concat(a, b))`` by ``Conv(a) + Conv(b)`` where the ranges of ``a`` and ``b`` differ much.

    A concatenation forces one step on all its inputs on most targets, and the smaller ones lose bits.  A convolution
    or dense layer over it is the sum of one for each input, each with the step of its own input and weights.  The sum
    is one more layer; the multiplications stay the same.

    Attributes:
        ratio: How far the largest magnitudes of the inputs must be apart.
    """

    name: ClassVar[str] = "split-concat"
    summary: ClassVar[str] = (
        "Let each input of a concatenation keep its own step: the layer behind becomes a sum of layers."
    )
    changes_function: ClassVar[bool] = False

    ratio: float = 4.0

    def needs(self, net: Network) -> Needs:
        """Extremes of what is concatenated."""
        return Needs(channels=tuple(dict.fromkeys(t for node, _ in _sites(net) for t in _inputs(node))))

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Split in ``net``; ``got`` is an :class:`Observed`, or None."""
        observed = got.channels if isinstance(got, Observed) else {}
        notes: list[Note] = []
        for concat, readers in _sites(net):
            names = _inputs(concat)
            if any(name not in observed for name in names):
                continue
            heights = [max(float(observed[name].absmax.max()), 1e-30) for name in names]
            if max(heights) < self.ratio * min(heights):
                continue
            sources = net.sources(concat)
            for reader in readers:
                _split(net, concat, reader)
            net.remove(concat)
            text = f"ranges {', '.join(f'{h:.3g}' for h in heights)} no longer share a step"
            notes.append(Note(text, layer=sources[0] if sources else str(concat.name)))
        if not notes:
            return Change(notes=(Note("no concatenation of unlike ranges feeds only convolutions or dense layers"),))
        return Change(True, (Note(f"{len(notes)} concatenations split"), *notes))


def _inputs(node: ir.Node) -> list[str]:
    return [str(v.name) for v in node.inputs if v is not None]


def _sites(net: Network) -> list[tuple[ir.Node, list[ir.Node]]]:
    """Concatenations of channels that only linear layers read."""
    found = []
    for node in net.nodes():
        if node.op_type != "Concat" or node.domain or net.is_grouped(node) or node.outputs[0].is_graph_output():
            continue
        names = _inputs(node)
        output = str(node.outputs[0].name)
        usable = all(net.has_shape(n) and not net.is_constant(n) for n in (*names, output)) and len(set(names)) > 1
        if not usable or int(str(net.attributes(node)["axis"])) % len(net.shape(output)) != 1:
            continue
        uses = list(node.outputs[0].uses())
        layers = [read_linear(net, use.node) if use.idx == 0 else None for use in uses]
        plain = all(
            layer is not None
            and layer.op in ("Conv", "Gemm")
            and layer.groups == 1
            and net.has_shape(str(use.node.outputs[0].name))
            for use, layer in zip(uses, layers, strict=True)
        )
        if uses and plain:
            found.append((node, [use.node for use in uses]))
    return found


def _split(net: Network, concat: ir.Node, reader: ir.Node) -> None:
    """``reader`` becomes the sum; new nodes in front of it multiply."""
    layer = read_linear(net, reader)
    assert layer is not None  # the site was found by reading it
    kept = {k: v for k, v in net.attributes(reader).items() if layer.op == "Conv" and v is not None}
    names, start, parts = _inputs(concat), 0, []
    sources = list(dict.fromkeys((*net.sources(concat), *net.sources(reader))))
    shape = net.shape(str(reader.outputs[0].name))
    for i, name in enumerate(names):
        count = net.shape(name)[1]
        piece = replace(
            layer,
            weight=np.ascontiguousarray(layer.weight[:, start : start + count]),
            bias=layer.bias if i == 0 else None,
        )
        start += count
        value = net.new_node(
            layer.op,
            [net.value(name), reader.inputs[1]],
            kept,
            before=reader,
            name=f"{reader.name}.part{i + 1}",
            sources=sources,
            shape=shape,
        )
        made = value.producer()
        assert made is not None
        write_linear(net, made, piece)
        parts.append(value)
    total = parts[0]
    for i, value in enumerate(parts[1:-1], 2):
        total = net.new_node(
            "Add", [total, value], before=reader, name=f"{reader.name}.sum{i}", sources=sources, shape=shape
        )
    reader.op_type = "Add"
    net.set_attributes(reader, **dict.fromkeys(reader.attributes))
    net.set_input(reader, 0, total)
    net.set_input(reader, 1, parts[-1])
    reader.resize_inputs(2)
    net.fuse(reader, concat)
    net.sweep()
