"""Constant folding: everything that does not depend on the input's values is computed once, in linear time.

Values that come from shapes are computed for batch 1 and batch 2.  What is equal for both is a constant.  What
differs holds the batch: there the reader is rewritten so that it takes the batch from its data (Reshape copies the
dimension with a 0) and the network still runs for any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.network.batch import with_batch
from bitwright.network.evaluate import can_evaluate, evaluate
from bitwright.network.layer import Removed
from bitwright.network.shapes import Shape, Shapes, infer_shapes, reshape_target

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

_END = np.iinfo(np.int64).max


def fold_constants(net: Network) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Fold in place.

    Returns:
        Names of the nodes that are gone, and of the nodes that were rewritten to leave the batch free.
    """
    if not _anything_to_do(net):
        return (), ()
    inputs = {name: net.shape(name) for name in net.inputs}
    one = infer_shapes(net.model, inputs)
    two = infer_shapes(net.model, with_batch(inputs, 2)) if net.batchable else one
    freed = [str(node.name) for node in net.nodes() if net.batchable and _free(net, node, one, two)]
    for node in net.nodes():
        _fold_node(net, node, one, two)
    gone = _drop_dead(net)
    net.sweep()
    return tuple(gone), tuple(freed)


def _anything_to_do(net: Network) -> bool:
    for node in net.nodes():
        if node.op_type in {"Constant", "Shape", "Size"} or _is_dead(node):
            return True
        if can_evaluate(node) and all(v is None or v.is_initializer() for v in node.inputs):
            return True
    return False


def _fold_node(net: Network, node: ir.Node, one: Shapes, two: Shapes) -> None:
    """Replace the outputs of ``node`` by constants where that is possible; the node itself is dropped later."""
    if all(not v.uses() for v in node.outputs) or any(v.is_graph_output() for v in node.outputs):
        return
    results = _from_shapes(node, one, two)
    if results is None:
        if not can_evaluate(node) or any(v is not None and not v.is_initializer() for v in node.inputs):
            return
        results = evaluate(node, [None if v is None else net.constant(str(v.name)) for v in node.inputs], net.opset)
    if results is None or len(results) != len(node.outputs):
        return
    for old, array in zip(node.outputs, results, strict=True):
        if old.name and old.uses():
            net.replace(old, net.new_constant(str(old.name), array))


def _from_shapes(node: ir.Node, one: Shapes, two: Shapes) -> Sequence[NDArray[Any]] | None:
    names = [str(v.name) for v in node.outputs if v.name]
    if not names or node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
        return None
    for name in names:
        a, b = one.values.get(name), two.values.get(name)
        if a is None or b is None or a.shape != b.shape or not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            return None
    return [one.values[name] for name in names]


def _free(net: Network, node: ir.Node, one: Shapes, two: Shapes) -> bool:
    """Rewrite an operator whose shape-like input holds the batch; says whether it was one."""
    rule = _FREEING.get(node.op_type)
    if rule is None or node.inputs[0] is None:
        return False
    index, rewrite = rule
    control = node.inputs[index] if len(node.inputs) > index else None
    if control is None:
        return False
    a, b = one.values.get(str(control.name)), two.values.get(str(control.name))
    names = str(node.inputs[0].name), str(node.outputs[0].name)
    if a is None or b is None or a.shape != b.shape or np.array_equal(a, b):
        return False
    if any(name not in shapes.shapes for name in names for shapes in (one, two)):
        return False
    inputs, outputs = ((one.shapes[name], two.shapes[name]) for name in names)
    value = rewrite(net, node, (a, b), inputs, outputs)
    if value is None:
        return False
    net.set_input(node, index, net.new_constant(f"{node.name}.{control.name}", value.astype(np.int64)))
    return True


Pair = tuple[Shape, Shape]
Values = tuple[NDArray[Any], NDArray[Any]]


def _free_reshape(net: Network, node: ir.Node, _: Values, inputs: Pair, outputs: Pair) -> NDArray[np.int64] | None:
    target = free_target(inputs, outputs)
    if target is not None:
        net.set_attributes(node, allowzero=None)  # a 0 copies the batch, also where PyTorch's exporter said otherwise
    return target


def _free_expand(_: Network, __: ir.Node, values: Values, inputs: Pair, ___: Pair) -> NDArray[np.int64] | None:
    """Expanding to the batch that the data has already is expanding to 1."""
    a, b = (v.tolist() for v in values)
    x, y = inputs
    if len(a) != len(x) or any(a[i] != b[i] and (x[i], y[i]) != (a[i], b[i]) for i in range(len(a))):
        return None
    return np.where(values[0] == values[1], values[0], 1)


def _free_slice(net: Network, node: ir.Node, values: Values, inputs: Pair, _: Pair) -> NDArray[np.int64] | None:
    """Up to the batch is up to the end."""
    axes = _axes(net, node, len(values[0]))
    steps = node.inputs[4] if len(node.inputs) > 4 else None
    if axes is None or (steps is not None and not _positive(net, steps)):
        return None
    for p, q, axis in zip(*(v.tolist() for v in values), axes, strict=True):
        if p != q and (p < inputs[0][axis] or q < inputs[1][axis]):
            return None
    return np.where(values[0] == values[1], values[0], _END)


_FREEING: dict[str, tuple[int, Callable[[Any, Any, Values, Pair, Pair], NDArray[np.int64] | None]]] = {
    "Reshape": (1, _free_reshape),
    "Expand": (1, _free_expand),
    "Slice": (2, _free_slice),
}


def _axes(net: Network, node: ir.Node, count: int) -> list[int] | None:
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return list(range(count))
    values = net.constant(str(node.inputs[3].name))
    rank = len(net.shape(str(node.inputs[0].name))) if node.inputs[0] is not None else 0
    return None if values is None or rank == 0 else [int(v) % rank for v in values]


def _positive(net: Network, value: ir.Value) -> bool:
    steps = net.constant(str(value.name))
    return steps is not None and bool((steps > 0).all())


def free_target(inputs: tuple[Shape, Shape], outputs: tuple[Shape, Shape]) -> NDArray[np.int64] | None:
    """A Reshape target that does for both batch sizes what was asked, or None.

    Args:
        inputs: The input's shape for two batch sizes.
        outputs: The wanted output's shape for the same two.
    """
    target: list[int] = []
    for i, (p, q) in enumerate(zip(*outputs, strict=True)):
        if p == q:
            target.append(p)
        elif i < len(inputs[0]) and (inputs[0][i], inputs[1][i]) == (p, q):
            target.append(0)
        else:
            target.append(-1)
    array = np.asarray(target, np.int64)
    fits = all(reshape_target(x, array) == y for x, y in zip(inputs, outputs, strict=True))
    return array if fits else None


def _is_dead(node: ir.Node) -> bool:
    return not any(v.uses() or v.is_graph_output() for v in node.outputs)


def _drop_dead(net: Network) -> list[str]:
    """Remove nodes that nobody reads, last first; their names stay on record."""
    gone = []
    for node in reversed(net.nodes()):
        if _is_dead(node):
            tensor = str(node.outputs[0].name) if node.outputs else ""
            gone.append(str(node.name))
            net.remove(node, because=Removed(str(node.name), node.op_type, tensor, constant=True))
    return gone[::-1]
