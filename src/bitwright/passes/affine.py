"""``scale * x + shift`` per channel: reading it from nodes, and moving it into the linear layers beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import printable
from bitwright.passes import normal
from bitwright.passes._pass import Note
from bitwright.passes.fold import Fold, compare, sentence
from bitwright.passes.linear import Linear, read_linear, scale_inputs, scale_outputs, write_linear

if TYPE_CHECKING:
    import onnx_ir as ir

    from bitwright.network.network import Network

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Affine:
    """What a node computes, if it is ``scale * x + shift``.

    Attributes:
        source: The input ``x``.
        scale: ``[channels]``, or ``[1]`` for one number for all.
        shift: Of the same shape as ``scale``.
        axis: The channel axis; None where there is one number for all.
    """

    source: ir.Value
    scale: Floats
    shift: Floats
    axis: int | None

    def along(self, axis: int, channels: int) -> tuple[Floats, Floats] | None:
        """Scale and shift as ``[channels]`` along ``axis``, or None if they vary along another axis."""
        if self.axis is not None and (self.axis != axis or len(self.scale) != channels):
            return None
        return np.broadcast_to(self.scale, channels).copy(), np.broadcast_to(self.shift, channels).copy()


def batch_norm(
    gamma: NDArray[Any], beta: NDArray[Any], mean: NDArray[Any], variance: NDArray[Any], epsilon: float
) -> tuple[Floats, Floats]:
    """Scale γ/√(σ²+ε) and shift β − μ·scale of a batch normalization; all ``[channels]``.

    Reference: Ioffe and Szegedy, *Batch Normalization*, 2015, algorithm 2.
    """
    scale = np.asarray(gamma, np.float64) / np.sqrt(np.asarray(variance, np.float64) + epsilon)
    return scale, np.asarray(beta, np.float64) - np.asarray(mean, np.float64) * scale


def read_batch_norm(net: Network, node: ir.Node) -> Affine | str | None:
    """``node`` as an :class:`Affine`; None if it is no BatchNormalization, and the reason if it is an odd one."""
    if node.op_type != "BatchNormalization" or node.domain:
        return None
    attributes: dict[str, Any] = net.attributes(node)
    if attributes.get("training_mode"):
        return "it is in training mode"
    parameters = [net.constant(str(v.name)) if v is not None else None for v in node.inputs[1:5]]
    if len(parameters) != 4 or any(p is None for p in parameters):
        return "a parameter is not constant"
    gamma, beta, mean, variance = (np.asarray(p) for p in parameters)
    if not gamma.shape == beta.shape == mean.shape == variance.shape or gamma.ndim != 1:
        return "its parameters have different lengths"
    with np.errstate(all="ignore"):
        scale, shift = batch_norm(gamma, beta, mean, variance, float(attributes["epsilon"]))
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return "a variance is negative or zero"
    source = node.inputs[0]
    assert source is not None
    return Affine(source, scale, shift, 1)


def read_arithmetic(net: Network, node: ir.Node) -> Affine | None:
    """``node``, an Add, Sub, Mul or Div with a constant, as an :class:`Affine`; None if it is none."""
    grouped = net.is_grouped(node)  # the ½ of a GELU stays with the GELU
    if node.op_type not in {"Add", "Sub", "Mul", "Div"} or node.domain or len(node.inputs) != 2 or grouped:
        return None
    left, right = node.inputs
    if left is None or right is None:
        return None
    first, second = net.is_constant(str(left.name)), net.is_constant(str(right.name))
    if first == second or (first and node.op_type == "Div"):
        return None
    source, other = (right, left) if first else (left, right)
    constant = net.constant(str(other.name))
    if constant is None or constant.dtype != np.float32:
        return None
    if not (net.has_shape(str(source.name)) and net.has_shape(str(node.outputs[0].name))):
        return None
    shape = net.shape(str(source.name))
    if net.shape(str(node.outputs[0].name)) != shape or constant.ndim > len(shape):
        return None
    full = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape).astype(np.float64)
    wide = [axis for axis, size in enumerate(full.shape) if size != 1]
    if len(wide) > 1:
        return None
    values = full.reshape(-1)
    one, zero = np.ones_like(values), np.zeros_like(values)
    match node.op_type:
        case "Add":
            scale, shift = one, values
        case "Mul":
            scale, shift = values, zero
        case "Sub":
            scale, shift = (-one, values) if first else (one, -values)
        case _:
            with np.errstate(divide="ignore"):
                scale, shift = 1.0 / values, zero
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return None
    return Affine(source, scale, shift, wide[0] if wide else None)


def fold_into_producer(net: Network, node: ir.Node, affine: Affine) -> tuple[Fold, ...] | str:
    """Move ``node`` into the linear layer that makes its input; gives the folds, or why that is impossible."""
    producer = affine.source.producer()
    layer = None if producer is None else read_linear(net, producer)
    if producer is None or layer is None:
        return "what makes its input is no convolution or matrix product with constant weights"
    if net.only_consumer(str(affine.source.name)) is not node:
        return f"the output of '{printable(producer.name)}' is used elsewhere too"
    numbers = affine.along(layer.axis, layer.outputs)
    if numbers is None:
        return f"its numbers vary along another axis than the channels of '{printable(producer.name)}'"
    scale, shift = numbers
    if shift.any() and not layer.takes_bias:
        return f"'{printable(producer.name)}' is a {producer.op_type}, which has no bias"
    changed = scale_outputs(layer, scale, shift)
    if not _fits_float32(changed):
        return f"weights of '{printable(producer.name)}' would leave the range of float32"
    if not net.replace(node.outputs[0], affine.source):
        return "its output is an output of the network that cannot be renamed"
    sources = net.sources(node)
    net.fuse(producer, node)
    _remember(net, producer, node, scale, shift)
    net.remove(node)
    write_linear(net, producer, changed)
    factors = scale if (scale != 1).any() else None
    return _folds(str(producer.name), sources, layer, changed, factors)


def _remember(net: Network, producer: ir.Node, node: ir.Node, scale: Floats, shift: Floats) -> None:
    """Keep what ``node`` says of the channels that ``producer`` makes from now on."""
    if node.op_type != "BatchNormalization":
        normal.rescale(producer, scale, shift)
        return
    gamma, beta, _, variance = (net.constant(str(v.name)) for v in node.inputs[1:5] if v is not None)
    if gamma is not None and beta is not None and variance is not None:
        epsilon = float(str(net.attributes(node)["epsilon"]))
        normal.write(producer, normal.of_batch_norm(gamma, beta, variance, epsilon))


def fold_into_consumers(net: Network, node: ir.Node, affine: Affine) -> tuple[Fold, ...] | str:
    """Move ``node`` into all the linear layers that read its output; gives the folds, or why that is impossible."""
    output = node.outputs[0]
    if output.is_graph_output():
        return "its output is an output of the network"
    plans: list[tuple[ir.Node, Linear, Linear]] = []
    for use in output.uses():
        consumer, index = use.node, use.idx
        layer = read_linear(net, consumer) if index == 0 else None
        if layer is None:
            return f"'{printable(consumer.name)}', which reads it, is no convolution or matrix product with constant weights"
        numbers = affine.along(layer.axis, layer.inputs)
        if numbers is None:
            return f"its numbers vary along another axis than the channels of '{printable(consumer.name)}'"
        if numbers[1].any() and layer.padded:
            return f"'{printable(consumer.name)}' pads its input with zeros, which would have to be other numbers"
        if numbers[1].any() and not layer.takes_bias:
            return f"'{printable(consumer.name)}' is a {consumer.op_type}, which has no bias"
        changed = scale_inputs(layer, *numbers)
        if not _fits_float32(changed):
            return f"weights of '{printable(consumer.name)}' would leave the range of float32"
        plans.append((consumer, layer, changed))
    if not plans:
        return "nobody reads it"
    sources = net.sources(node)
    net.replace(output, affine.source)
    folds: list[Fold] = []
    for consumer, layer, changed in plans:
        net.fuse(consumer, node)
        write_linear(net, consumer, changed)
        folds.extend(_folds(str(consumer.name), sources, layer, changed, None))
    net.remove(node)
    return tuple(folds)


def absorb(
    net: Network, read: Callable[[Network, ir.Node], Affine | None]
) -> tuple[tuple[Fold, ...], tuple[tuple[ir.Node, Affine, str], ...]]:
    """Move every node that ``read`` understands into the linear layers beside it, until nothing moves any more.

    Those before come first; a chain in front of a layer is taken up from its end.

    Returns:
        The folds, and the nodes that stay with the reasons.
    """
    folds: list[Fold] = []
    while True:
        count = len(folds)
        for node in net.nodes():
            affine = read(net, node)
            result = "" if affine is None else fold_into_producer(net, node, affine)
            folds.extend(() if isinstance(result, str) else result)
        left: list[tuple[ir.Node, Affine, str]] = []
        for node in reversed(net.nodes()):
            affine = read(net, node)
            if affine is None:
                continue
            result = fold_into_consumers(net, node, affine)
            if isinstance(result, str):
                left.append((node, affine, result))
            else:
                folds.extend(result)
        if len(folds) == count:
            net.sweep()
            return tuple(folds), tuple(reversed(left))


def fold_notes(folds: tuple[Fold, ...]) -> list[Note]:
    """A sentence for each layer and each thing folded into it."""
    groups: dict[tuple[str, tuple[str, ...]], list[Fold]] = {}
    for fold in folds:
        groups.setdefault((fold.layer, fold.sources), []).append(fold)
    return [Note(sentence(tuple(group)), layer=layer) for (layer, _), group in groups.items()]


def _fits_float32(layer: Linear) -> bool:
    """Whether the new numbers are float32 numbers: finite, and no weight lost by underflow."""
    tensors = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    limit = float(np.finfo(np.float32).max)
    return all(bool((np.abs(x) <= limit).all()) for x in tensors)


def _folds(
    name: str, sources: tuple[str, ...], before: Linear, after: Linear, scales: Floats | None
) -> tuple[Fold, ...]:
    return compare(name, sources, (before.weight, after.weight), (before.bias, after.bias), scales)
