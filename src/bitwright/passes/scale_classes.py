"""Which channels of which tensors can be scaled, and which of them only together.

Multiplying a channel of an activation by ``f`` and dividing it out again in whoever reads it leaves a network as it
is, provided that everything in between is positively homogeneous (ReLU, pooling, sums, concatenation).  Each (tensor,
channel) is a point; operators tie points together; a linear layer with constant weights ties nothing, because its
weights take up any factor on either side.  What an operator does not allow to be scaled is tied to the class 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bitwright.passes.linear import read_linear

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

Labels = NDArray[np.int64]

FIXED = 0
_SAME = frozenset({"Relu", "LeakyRelu", "Identity", "Dropout", "Add", "Sub", "Sum", "Max", "Min"})
_SPATIAL = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})


@dataclass(frozen=True, eq=False)
class ScaleClasses:
    """The classes.

    Attributes:
        labels: Tensor → class of each of its channels, int64 ``[channels]``; class 0 cannot be scaled.
        count: Number of classes, class 0 included.
        clips: Tensor → upper bound of the clip ``[0, bound]`` that made it.
    """

    labels: Mapping[str, Labels]
    count: int
    clips: Mapping[str, float]

    def free(self, tensor: str) -> NDArray[np.bool_]:
        """Which channels of ``tensor`` can be scaled."""
        return np.asarray(self.labels[tensor] != FIXED)


class _Points:
    """Points and ties, joined at the end."""

    def __init__(self) -> None:
        self.start: dict[str, int] = {}
        self.size: dict[str, int] = {}
        self.total = 1
        self.ties: list[tuple[Labels, Labels]] = []

    def add(self, tensor: str, channels: int) -> None:
        if tensor not in self.start:
            self.start[tensor], self.size[tensor] = self.total, channels
            self.total += channels

    def of(self, tensor: str) -> Labels:
        return np.arange(self.start[tensor], self.start[tensor] + self.size[tensor])

    def tie(self, a: Labels, b: Labels) -> None:
        self.ties.append((a, b))

    def fix(self, tensor: str) -> None:
        if tensor in self.start:
            self.tie(self.of(tensor), np.zeros(self.size[tensor], np.int64))

    def solve(self) -> Labels:
        left = np.concatenate([np.zeros(0, np.int64), *(a for a, _ in self.ties)])
        right = np.concatenate([np.zeros(0, np.int64), *(b for _, b in self.ties)])
        return components(self.total, left, right)


def components(total: int, left: Labels, right: Labels) -> Labels:
    """The smallest member of the connected component of each of ``total`` points under ties ``left[i] ~ right[i]``."""
    label = np.arange(total)
    while True:
        low = np.minimum(label[left], label[right])
        new = label.copy()
        np.minimum.at(new, left, low)
        np.minimum.at(new, right, low)
        # A root that met a smaller one takes everything that points to it along.
        np.minimum.at(new, label[left], low)
        np.minimum.at(new, label[right], low)
        new = new[new]
        if np.array_equal(new, label):
            return label
        label = new


def channels_of(net: Network, tensor: str) -> int:
    """Number of channels: the size of axis 1; 0 where there is none or the shape is unknown."""
    if not net.has_shape(tensor) or len(net.shape(tensor)) < 2:
        return 0
    return int(net.shape(tensor)[1])


def scale_classes(net: Network) -> ScaleClasses:
    """Read the classes off a prepared network."""
    points = _Points()
    clips: dict[str, float] = {}
    tensors = [*net.inputs, *(str(v.name) for node in net.nodes() for v in node.outputs if v.name)]
    for tensor in tensors:
        points.add(tensor, channels_of(net, tensor))
    for tensor in (*net.inputs, *net.outputs):
        points.fix(tensor)
    for node in net.nodes():
        if node.op_type == "Constant":
            continue
        if not _tie(net, node, points, clips):
            for value in (*node.inputs, *node.outputs):
                if value is not None and value.name:
                    points.fix(str(value.name))
    roots = points.solve()
    _, dense = np.unique(roots, return_inverse=True)  # the root 0 sorts first
    labels = {t: np.asarray(dense[points.of(t)], np.int64) for t in tensors}
    return ScaleClasses(labels, int(dense.max()) + 1, clips)


def _tie(net: Network, node: ir.Node, points: _Points, clips: dict[str, float]) -> bool:
    """Tie what ``node`` ties; False if it allows no scaling at all."""
    if node.domain or not node.outputs or net.is_pattern(node):
        return False
    names = [str(v.name) for v in node.inputs if v is not None]
    computed = [n for n in names if not net.is_constant(n)]
    output = str(node.outputs[0].name)
    if not computed or output not in points.start:
        return False
    linear = read_linear(net, node)
    if linear is not None:
        return linear.axis == 1 and len(computed) == 1
    if node.op_type == "Clip":
        bound = clip_bound(net, node)
        if bound is None:
            return False
        clips[output] = bound
        return _equal(points, computed[:1], output)
    if node.op_type == "PRelu":
        return len(computed) == 1 and _equal(points, computed, output)
    if node.op_type in _SAME:
        return len(computed) == len(names) and _equal(points, computed, output)
    if node.op_type in _SPATIAL:
        return len(node.outputs) == 1 and _equal(points, computed, output)
    if node.op_type == "Concat":
        return _concat(net, node, points, names, output)
    if node.op_type in ("Flatten", "Reshape", "Squeeze"):
        return _flat(net, points, computed[0], output)
    if node.op_type == "Pad":
        return _padded(net, node) and _equal(points, computed[:1], output)
    if node.op_type == "ReduceMean":
        return _over_space(net, node, computed[0]) and _equal(points, computed[:1], output)
    return False


def clip_bound(net: Network, node: ir.Node) -> float | None:
    """The upper bound of a ``Clip`` to ``[0, bound]`` with constant bounds; None for any other."""
    values = [None if v is None else net.constant(str(v.name)) for v in list(node.inputs)[1:3]]
    if len(values) < 2 or values[0] is None or values[1] is None:
        return None
    low, high = (float(np.ravel(v)[0]) for v in values if v is not None)
    return high if low == 0.0 and 0.0 < high < np.inf else None


def _equal(points: _Points, inputs: list[str], output: str) -> bool:
    if any(points.size.get(t, 0) != points.size[output] for t in inputs):
        return False
    for tensor in inputs:
        points.tie(points.of(tensor), points.of(output))
    return True


def _concat(net: Network, node: ir.Node, points: _Points, names: list[str], output: str) -> bool:
    axis = int(str(net.attributes(node)["axis"]))
    if axis % len(net.shape(output)) != 1 or any(net.is_constant(n) or n not in points.start for n in names):
        return False
    points.tie(np.concatenate([points.of(n) for n in names]), points.of(output))
    return True


def _over_space(net: Network, node: ir.Node, source: str) -> bool:
    """Whether a reduction leaves samples and channels apart."""
    second = node.inputs[1] if len(node.inputs) > 1 else None
    given = net.attributes(node).get("axes") if second is None else net.constant(str(second.name))
    if given is None or not net.has_shape(source):
        return False
    rank = len(net.shape(source))
    return all(int(axis) % rank > 1 for axis in np.ravel(np.asarray(given)))


def _flat(net: Network, points: _Points, source: str, output: str) -> bool:
    """``[n, c, *size] → [n, c·size]``, or the same with trailing axes of size 1."""
    if not net.has_shape(source) or not net.has_shape(output):
        return False
    before, after = net.shape(source), net.shape(output)
    if len(before) < 2 or len(after) < 2 or before[0] != after[0] or any(n != 1 for n in after[2:]):
        return False
    each, rest = divmod(after[1], before[1])
    if rest or int(np.prod(before[1:])) != after[1]:
        return False
    points.tie(np.repeat(points.of(source), each), points.of(output))
    return True


def _padded(net: Network, node: ir.Node) -> bool:
    """Whether a ``Pad`` puts zeros around space only."""
    pads = net.constant(str(node.inputs[1].name)) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    value = node.inputs[2] if len(node.inputs) > 2 else None
    filled = None if value is None else net.constant(str(value.name))
    if pads is None or len(node.inputs) > 3 or (value is not None and (filled is None or np.any(filled != 0))):
        return False
    rank = len(pads) // 2
    outside = pads.reshape(2, rank)[:, :2]
    return str(net.attributes(node).get("mode", "constant")) == "constant" and not outside.any()
