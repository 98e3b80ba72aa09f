"""The formats of a network that came quantized, as the lowering wants them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.assign import Formats
from bitwright.calibrate.spec import LayerSpec, NetworkSpec
from bitwright.network.stated import Stated, StatedConstant
from bitwright.number.format import Floats, Format

if TYPE_CHECKING:
    from bitwright.network.network import Network

WIDE = Format(32, True, np.asarray(2.0**-16))
"""For inputs and outputs that the file leaves in float: 32 bits, 16 of them behind the point."""


@dataclass(frozen=True)
class Taken:
    """Formats and integers of a quantized network.

    Attributes:
        formats: Of activations and weights; tensors that the file leaves in float have none.
        biases: Layer → real bias that gives the file's integers again.
        notes: What does not fit, in sentences.
    """

    formats: Formats
    biases: Mapping[str, Floats]
    notes: tuple[str, ...] = ()


def take_formats(net: Network, spec: NetworkSpec, stated: Stated) -> Taken:
    """Formats for the layers of a folded network.

    Args:
        net: The network, its pairs taken out.
        spec: Its layers.
        stated: What its file states.
    """
    activations = _spread(spec, dict(stated.activations))
    notes: list[str] = []
    for name in (*spec.inputs, *spec.outputs):
        if name not in activations and name not in spec.integer:
            activations[name] = WIDE
            notes.append(f"{name}: the file leaves it in float; it is held in {WIDE}")
    by_size: dict[int, list[StatedConstant]] = {}
    for constant in stated.constants.values():
        by_size.setdefault(constant.codes.size, []).append(constant)
    weights: dict[str, Format] = {}
    biases: dict[str, Floats] = {}
    for layer in spec.layers:
        if not layer.is_linear or layer.reason:
            continue
        format = _weight_format(net, layer, stated, by_size)
        if format is None:
            continue
        weights[layer.name] = format
        source = activations.get(layer.tensors[0])
        bias = _bias(net, layer, stated)
        if bias is not None and source is not None:
            biases[layer.name] = _in_steps(bias, np.asarray(source.scale * format.scale))
    group = {tensor: tensor for tensor in activations}
    return Taken(Formats(activations=activations, weights=weights, group=group, notes=tuple(notes)), biases)


def _spread(spec: NetworkSpec, formats: dict[str, Format]) -> dict[str, Format]:
    """Give tensors between which integers only move one format, where the file states it of one of them."""
    for _ in range(2):
        for forth in (True, False):
            for layer in spec.layers if forth else reversed(spec.layers):
                if layer.operator is None or layer.operator.relation != "input" or not layer.tensors:
                    continue
                source, results = layer.tensors[0], layer.outputs
                if source in spec.integer:
                    continue
                if forth and source in formats:
                    for result in results:
                        formats.setdefault(result, formats[source])
                elif not forth and source not in formats and len(spec.consumers.get(source, ())) == 1:
                    known = next((formats[r] for r in results if r in formats), None)
                    if known is not None and source not in spec.inputs:
                        formats[source] = known
    return formats


def _name(net: Network, layer: LayerSpec, position: int) -> str:
    inputs = layer.layer.main.inputs
    value = inputs[position] if len(inputs) > position else None
    return "" if value is None else str(value.name)


def _weight_format(
    net: Network, layer: LayerSpec, stated: Stated, by_size: Mapping[int, list[StatedConstant]]
) -> Format | None:
    """The format of a layer's weights along axis 0 of the contracted layout, or None if the file has them in float."""
    weights = layer.weights()
    named = stated.constants.get(_name(net, layer, 1).split("~folded", maxsplit=1)[0])
    candidates = [] if named is None else [named]
    for constant in (*candidates, *by_size.get(weights.size, [])):
        for turned in (False, True):
            found = _matched(layer, weights, constant, turned=turned)
            if found is not None:
                return found
    return None


def _matched(layer: LayerSpec, weights: Floats, constant: StatedConstant, *, turned: bool) -> Format | None:
    """The format if ``constant``, times a factor per output channel (a folded batch norm), is the weights."""
    given = constant.codes
    if turned and given.ndim != 2:
        return None
    array = given.T if turned else given
    stored = layer.inputs[1]
    assert isinstance(stored, np.ndarray)
    if array.shape != stored.shape or layer.operator is None or layer.operator.weights is None:
        return None
    format = constant.format
    axis = format.axis if format.axis is None or not turned else 1 - format.axis
    shape = [1] * array.ndim
    if axis is not None:
        shape[axis] = -1
    steps = np.broadcast_to(format.scale.reshape(shape if axis is not None else ()), array.shape)
    zeros = np.broadcast_to(format.zero_point.reshape(shape if axis is not None else ()), array.shape)
    plain = {k: v for k, v in layer.attributes.items() if k != "alpha"}
    codes, scale = (layer.operator.weights(np.asarray(v, np.float64), plain) for v in (array - zeros, steps))
    rows, step = codes.reshape(len(codes), -1), scale.reshape(len(scale), -1)
    if step.size and (step != step[:, :1]).any():
        return None  # a step per input channel: the contraction has none
    real = weights.reshape(len(weights), -1)
    ideal = rows * step
    energy = (ideal**2).sum(1)
    factor = np.where(energy > 0, (real * ideal).sum(1) / np.where(energy > 0, energy, 1), 1.0)
    if (factor <= 0).any() or (np.abs(real - ideal * factor[:, None]) > 1e-3 * step * factor[:, None] + 1e-30).any():
        return None
    factor = np.where(np.abs(factor - 1) < 1e-5, 1.0, factor)
    return _contracted_format(format, step[:, 0] * factor, rows)


def _contracted_format(format: Format, scale: Floats, rows: Floats) -> Format:
    """Per channel where the steps differ; a zero point is taken into the integers, which then need another bit."""
    same = bool((scale == scale[0]).all())
    reach = int(np.abs(rows).max(initial=0))
    bits = format.bits
    if format.zero_point.any() or not format.signed:
        bits = max(2, int(np.ceil(np.log2(reach + 1))) + 1, format.bits if format.signed else format.bits + 1)
    narrow = rows.min(initial=0) > -(1 << (bits - 1))
    if same:
        return Format(bits, True, np.asarray(scale[0], np.float64), narrow=narrow)
    return Format(bits, True, np.asarray(scale, np.float64), axis=0, narrow=narrow)


def _bias(net: Network, layer: LayerSpec, stated: Stated) -> StatedConstant | None:
    """The bias as stored, if folding left it alone."""
    constant = stated.constants.get(_name(net, layer, 2).split("~folded", maxsplit=1)[0])
    real = layer.bias()
    if constant is None or real is None or constant.format.bits != 32:
        return None
    reals = constant.reals.reshape(-1)
    if reals.shape != real.shape or not np.allclose(reals, real, rtol=1e-5, atol=1e-30):
        return None
    return constant


def _in_steps(bias: StatedConstant, step: NDArray[np.float64]) -> Floats:
    """Real biases that round to the file's integers where its steps are the accumulator's."""
    own = np.broadcast_to(bias.format.scale, bias.codes.shape).reshape(-1)
    if np.allclose(own, step, rtol=1e-4, atol=0):
        return np.asarray(bias.codes.reshape(-1) * step, np.float64)
    return bias.reals.reshape(-1)
