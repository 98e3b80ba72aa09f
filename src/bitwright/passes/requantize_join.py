"""A copy with another step for a join, so that other readers of a tensor keep the fine one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bitwright.passes._pass import Change, Needs, Note
from bitwright.passes.observed import Observed

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

JOINS = ("Add", "Sub", "Mul", "Concat")


@dataclass(frozen=True, kw_only=True)
class RequantizeJoin:
    """Insert a depthwise layer of one tap before a join that would give a tensor its step.

    Kernels with one step for all inputs of a sum, a product or a concatenation force the coarsest on each of them, also
    where other layers read it.  A depthwise convolution with weights of one makes a copy in the step of the join, and
    the tensor keeps a step of its own for its other readers.  Costs a layer of one multiplication for each value.

    Attributes:
        ratio: How many times larger than the tensor the largest input of the join must be.
    """

    name: ClassVar[str] = "requantize-join"
    summary: ClassVar[str] = (
        "Let what other layers read keep its own step beside a join: the join gets a copy, requantized to its step."
    )
    changes_function: ClassVar[bool] = False

    ratio: float = 2.0

    def needs(self, net: Network) -> Needs:
        """Extremes of what is joined."""
        return Needs(channels=tuple(dict.fromkeys(t for node in _joins(net, None) for t in _inputs(node))))

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Insert copies in ``net``; ``got`` is an :class:`Observed`, or None."""
        observed = got.channels if isinstance(got, Observed) else {}
        notes: list[Note] = []
        for node in tuple(_joins(net, target)):
            names = _inputs(node)
            if any(name not in observed for name in names):
                continue
            heights = {name: max(float(observed[name].absmax.max()), 1e-30) for name in names}
            for index, name in enumerate(names):
                if max(heights.values()) < self.ratio * heights[name] or not _read_elsewhere(net, name, node):
                    continue
                _copy(net, node, index, name)
                text = (
                    f"'{name}' (up to {heights[name]:.3g}) keeps a step of its own beside {max(heights.values()):.3g}"
                )
                notes.append(Note(text, layer=str(node.name)))
        if not notes:
            return Change(notes=(Note("no join coarsens a tensor that other layers read"),))
        return Change(True, (Note(f"{len(notes)} inputs of joins are requantized copies"), *notes))


def _inputs(node: ir.Node) -> list[str]:
    return [str(v.name) for v in node.inputs if v is not None]


def _joins(net: Network, target: Any) -> Iterator[ir.Node]:
    """Joins of unlike tensors with channels whose inputs the target ties together; without a target, all."""
    for node in net.nodes():
        if node.op_type not in JOINS or node.domain:
            continue
        names = _inputs(node)
        usable = len(set(names)) == len(names) > 1 and all(
            net.has_shape(n) and not net.is_constant(n) and len(net.shape(n)) in (3, 4) for n in names
        )
        if usable and (target is None or (target.op(node.op_type).inputs == "shared" and target.op("Conv").supported)):
            yield node


def _read_elsewhere(net: Network, name: str, join: ir.Node) -> bool:
    value = net.value(name)
    return value.is_graph_output() or any(use.node is not join for use in value.uses())


def _copy(net: Network, join: ir.Node, index: int, name: str) -> None:
    shape = net.shape(name)
    taps = (1,) * (len(shape) - 2)
    weight = net.new_constant(f"{join.name}.one", np.ones((shape[1], 1, *taps), np.float32))
    value = net.new_node(
        "Conv",
        [net.value(name), weight],
        {"group": shape[1], "kernel_shape": list(taps)},
        before=join,
        name=f"{join.name}.copy{index + 1}",
        sources=net.sources(join),
        shape=shape,
    )
    net.set_input(join, index, value)
