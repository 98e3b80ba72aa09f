"""The calibration table: one row per learnable and per activation, as people know it from other tools.

Its length follows a law: ``2·(convolutions + dense layers) + (layers - fused activations) + inputs``, where layers are
all source nodes, the inputs and the outputs; a batch normalization that was folded counts as fused.  An input has two
rows, as it comes (pixels) and as the network gets it (``_normalization``), always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bitwright.calibrate.constants import constant_inputs, weight_axis
from bitwright.calibrate.inputs import Contracts, contracts_of
from bitwright.calibrate.linear import below
from bitwright.calibrate.statistics import Statistics
from bitwright.calibrate.tensor_stats import TensorStats

if TYPE_CHECKING:
    from bitwright.data.contract import InputContract
    from bitwright.network.layer import Layer
    from bitwright.network.network import Network

Kind = Literal["Weights", "Bias", "Activations"]
Names = Literal["joined", "plain"]


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        optimized_layer: Name of the layer as it is computed, with ``_Weights`` or ``_Bias`` for learnables.
        network_layers: Names of the source layers in it, the last one last.
        kind: ``Weights``, ``Bias`` or ``Activations``.
        min: Smallest value, None if there is none.
        max: Largest value.
        count: Number of values.
        zeros: How many are zero.
        msb_counts: Power of two → how many values have their most significant bit there.
        tensor: Name of the tensor in the network file; empty if it is not in it.
    """

    optimized_layer: str
    network_layers: tuple[str, ...]
    kind: Kind
    min: float | None
    max: float | None
    count: int
    zeros: int
    msb_counts: Mapping[int, int]
    tensor: str

    def to_json(self) -> dict[str, Any]:
        """The row as plain values for JSON; powers of two become text, as JSON has only such keys."""
        return {
            "optimized_layer": self.optimized_layer,
            "network_layers": list(self.network_layers),
            "kind": self.kind,
            "min": self.min,
            "max": self.max,
            "count": self.count,
            "zeros": self.zeros,
            "msb_counts": {str(b): n for b, n in self.msb_counts.items()},
            "tensor": self.tensor,
        }


def _row(name: str, sources: Sequence[str], kind: Kind, stats: TensorStats, tensor: str) -> Row:
    finite = bool(stats.finite)
    low, high = (stats.lo, stats.hi) if finite else (None, None)
    return Row(name, tuple(sources), kind, low, high, stats.count, stats.zeros, stats.msb_counts(), tensor)


def calibration_table(
    net: Network,
    statistics: Statistics,
    contract: InputContract | Contracts | None = None,
    *,
    names: Names = "joined",
) -> list[Row]:
    """All rows: the learnables layer by layer, then the activations from input to output.

    A convolution or dense layer without a bias is shown with the zero bias that it computes with.

    Args:
        net: The network that was observed.
        statistics: What was observed of it.
        contract: How samples became inputs, or input → that; an input without one is taken as it is.
        names: ``joined`` joins the names of what was fused (``conv1_relu_conv1``), ``plain`` takes the main one's.

    Raises:
        StaleCalibration: if the statistics belong to another network.
    """
    statistics.check(network=net.fingerprint)
    layers, contracts = net.layers(), contracts_of(net, contract)
    rows = [row for layer in layers for row in _learnables(net, statistics, layer, names)]
    for name in net.inputs:
        if name in statistics.activations:
            rows += _inputs(name, statistics.activations[name], contracts.get(name))
    for layer in layers:
        if not layer.sources:
            continue  # a front end turned a layout there: no layer of the user's, and the same numbers once more
        observed = [t for t in layer.outputs if t in statistics.activations]
        if observed:
            parts = [statistics.activations[t].overall() for t in observed]
            stats = sum(parts[1:], parts[0])
            rows.append(_row(_name(layer, names), layer.sources, "Activations", stats, observed[0]))
        carried = [r for r in net.removed if not r.constant and r.tensor in observed]
        rows += [_row(r.name, [r.name], "Activations", statistics.activations[r.tensor], r.tensor) for r in carried]
    for r in net.removed:
        if not r.constant and r.tensor in net.inputs and r.tensor in statistics.activations:
            rows.append(_row(r.name, [r.name], "Activations", statistics.activations[r.tensor], r.tensor))
    for name in net.outputs:
        if name in statistics.activations:
            rows.append(_row(name, [name], "Activations", statistics.activations[name], name))
    return rows


def _name(layer: Layer, names: Names) -> str:
    return "_".join(layer.sources) if names == "joined" else layer.name


def _learnables(net: Network, statistics: Statistics, layer: Layer, names: Names) -> list[Row]:
    weights, bias = constant_inputs(net, layer)
    if weights is None or weights not in statistics.weights:
        return []
    name = _name(layer, names)
    rows = [_row(f"{name}_Weights", layer.sources, "Weights", statistics.weights[weights], weights)]
    if bias is not None:
        rows.append(_row(f"{name}_Bias", layer.sources, "Bias", statistics.biases[bias], bias))
    elif len(layer.main.inputs) < 3 or layer.main.inputs[2] is None:
        rows.append(
            _row(f"{name}_Bias", layer.sources, "Bias", TensorStats.of(np.zeros(_outputs(net, layer, weights))), "")
        )
    return rows


def _outputs(net: Network, layer: Layer, weights: str) -> int:
    """Number of output channels of a layer with weights."""
    shape, axis = net.shape(weights), weight_axis(net, layer, weights)
    if axis is not None:
        return shape[axis]
    return shape[1] * int(str(net.attributes(layer.main).get("group", 1)))


def _inputs(name: str, stats: TensorStats, contract: InputContract | None) -> list[Row]:
    normalized = _row(f"{name}_normalization", [name], "Activations", stats, name)
    plain = contract is None or (set(contract.mean) == {0.0} and set(contract.std) == {1.0})
    first = (
        _row(name, [name], "Activations", stats, name) if plain or contract is None else _pixels(name, stats, contract)
    )
    return [first, normalized]


def _pixels(name: str, stats: TensorStats, contract: InputContract) -> Row:
    """The row of the input before it was normalized.

    The range is that of the normalized channels, undone, so exact up to rounding in float32.  The counts are estimates:
    they spread each bin of the histogram evenly over whole pixel values.
    """
    if not stats.finite:
        return _row(name, [name], "Activations", stats, "")
    parts = [stats]
    if stats.channel_hist is not None and stats.channel_lo is not None:
        parts = [stats.channel(c) for c in range(len(stats.channel_lo))]
    mean = np.broadcast_to(np.asarray(contract.mean), len(parts)) if len(contract.mean) in (1, len(parts)) else None
    std = np.broadcast_to(np.asarray(contract.std), len(parts)) if len(contract.std) in (1, len(parts)) else None
    if mean is None or std is None:  # channels were not told apart: the widest that it can be
        lows = [stats.lo * s + m for m, s in _pairs(contract)]
        highs = [stats.hi * s + m for m, s in _pairs(contract)]
        return Row(name, (name,), "Activations", _snap(min(lows)), _snap(max(highs)), stats.count, 0, {}, "")
    edges = np.concatenate([[0.0], np.exp2(np.arange(0, 17))]) - 0.5
    low, high, filled = float("inf"), float("-inf"), np.zeros(len(edges))
    for part, m, s in zip(parts, mean, std, strict=True):
        if part.finite:
            low, high = min(low, part.lo * s + m), max(high, part.hi * s + m)
            left, right, count = part.bins()
            filled += below(left * s + m, right * s + m, count, edges)
    counts = np.diff(np.floor(filled + 0.5)).astype(np.int64)
    msb = {b: int(n) for b, n in enumerate(counts[1:]) if n}
    return Row(name, (name,), "Activations", _snap(low), _snap(high), stats.count, int(counts[0]), msb, "")


def _pairs(contract: InputContract) -> list[tuple[float, float]]:
    n = max(len(contract.mean), len(contract.std))
    means, stds = (v * n if len(v) == 1 else v for v in (contract.mean, contract.std))
    return list(zip(means, stds, strict=True))


def _snap(pixel: float) -> float:
    """The whole number that a pixel was before it went through float32 and back."""
    return float(round(pixel)) if abs(pixel - round(pixel)) < 1e-3 else float(pixel)
