"""Functions that exporters write as several nodes (SiLU, GELU, Mish ...) become one layer, hence one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import erf, sqrt
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.network.evaluate import evaluate
from bitwright.passes._pass import Change, Needs, Note

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

Floats = NDArray[np.float64]

_POINTS = np.concatenate([np.linspace(-9, 9, 145), [-4.0, -3.0, -1.0, 0.0, 1e-3, 1.0, 3.0, 6.0]])
_ELEMENTWISE = frozenset(
    {
        "Mul",
        "Add",
        "Sub",
        "Div",
        "Pow",
        "Sigmoid",
        "Tanh",
        "Erf",
        "Softplus",
        "HardSigmoid",
        "Clip",
        "Relu",
        "Exp",
        "Log",
    }
)
_LARGEST = 12


def _softplus(x: Floats) -> Floats:
    return np.logaddexp(0.0, x)


@dataclass(frozen=True)
class Function:
    """An operator, its attributes, and what it computes."""

    op: str
    compute: Callable[[Floats], Floats]
    attributes: Mapping[str, object] = field(default_factory=dict)


FUNCTIONS: tuple[Function, ...] = (
    Function("SiLU", lambda x: x / (1 + np.exp(-x))),
    Function("HardSwish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    Function("HardSigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1), {"alpha": 1 / 6, "beta": 0.5}),
    Function("Gelu", lambda x: 0.5 * x * (1 + np.array([erf(v / sqrt(2)) for v in x])), {"approximate": "none"}),
    Function(
        "Gelu", lambda x: 0.5 * x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))), {"approximate": "tanh"}
    ),
    Function("Mish", lambda x: x * np.tanh(_softplus(x))),
)


@dataclass(frozen=True, kw_only=True)
class GroupFunctions:
    """Group the nodes of a function of one tensor as one layer.

    A group is grown backward from an elementwise node while everything in it is elementwise with scalar constants and
    is used inside it only.  As soon as one tensor is its only input, the group is evaluated at 153 points; if it
    agrees with a known function (to float32's accuracy) it gets that function's name.  So any order of operands and
    any way of writing the constants is recognized: ``x·σ(x)``, ``x·clip(x+3, 0, 6)/6``, ``x·½·(1+erf(x/√2))``.
    """

    name: ClassVar[str] = "group-functions"
    summary: ClassVar[str] = "Group the nodes of SiLU, HardSwish, GELU and Mish into one layer each."
    changes_function: ClassVar[bool] = False

    def needs(self, net: Network) -> Needs:
        """Nothing."""
        return Needs()

    def apply(self, net: Network, got: Any = None, target: Any = None) -> Change:
        """Group in ``net``."""
        order = {id(node): i for i, node in enumerate(net.nodes())}
        notes: list[Note] = []
        for node in reversed(net.nodes()):
            if not _joins(net, node):
                continue
            found = _grow(net, node, order)
            if found is None:
                continue
            function, nodes = found
            net.group(node, nodes, function.op, function.attributes)
            notes.append(Note(f"{len(nodes)} nodes are one {function.op}", layer=str(node.name)))
        return Change(bool(notes), tuple(notes))


def _joins(net: Network, node: ir.Node) -> bool:
    """Whether ``node`` is elementwise in one or two tensors, with scalar constants, and in no layer yet."""
    if node.op_type not in _ELEMENTWISE or node.domain or net.layer_of(node) != node.name or net.is_grouped(node):
        return False
    shapes = []
    for value in node.inputs:
        if value is None:
            continue
        if net.is_constant(str(value.name)):
            if int(np.prod(net.shape(str(value.name)))) != 1:
                return False
        elif not net.has_shape(str(value.name)):
            return False
        else:
            shapes.append(net.shape(str(value.name)))
    output = str(node.outputs[0].name)
    return bool(shapes) and net.has_shape(output) and all(shape == net.shape(output) for shape in shapes)


def _grow(net: Network, last: ir.Node, order: dict[int, int]) -> tuple[Function, list[ir.Node]] | None:
    nodes = [last]
    while len(nodes) <= _LARGEST:
        inside = {id(node) for node in nodes}
        outside: dict[str, ir.Value] = {}
        for node in nodes:
            for value in node.inputs:
                if value is not None and not net.is_constant(str(value.name)) and id(value.producer()) not in inside:
                    outside[str(value.name)] = value
        if len(outside) == 1 and len(nodes) > 1:
            function = _recognize(net, sorted(nodes, key=lambda n: order[id(n)]), next(iter(outside)))
            if function is not None:
                return function, sorted(nodes, key=lambda n: order[id(n)])
        candidates = []
        for value in outside.values():
            producer = value.producer()
            private = not value.is_graph_output() and all(id(use.node) in inside for use in value.uses())
            if producer is not None and private and _joins(net, producer):
                candidates.append(producer)
        if not candidates:
            return None
        nodes.append(max(candidates, key=lambda n: order[id(n)]))
    return None


def _recognize(net: Network, nodes: list[ir.Node], source: str) -> Function | None:
    values: dict[str, NDArray[Any]] = {source: _POINTS.astype(np.float32)}
    for node in nodes:
        inputs: list[NDArray[Any] | None] = []
        for value in node.inputs:
            if value is None:
                inputs.append(None)
                continue
            constant = net.constant(str(value.name))
            inputs.append(values[str(value.name)] if constant is None else constant.reshape(()))
        result = evaluate(node, inputs, net.opset)
        if result is None or result[0].shape != _POINTS.shape:
            return None
        values[str(node.outputs[0].name)] = result[0]
    got = values[str(nodes[-1].outputs[0].name)].astype(np.float64)
    for function in FUNCTIONS:
        if np.allclose(got, function.compute(_POINTS), rtol=2e-5, atol=2e-5):
            return function
    return None
