"""How each tensor of a quantized network fares in its format, from what the .bw file holds.

Weights and biases are compared number by number with the float network's.  Activations are estimated from the
histogram of the calibration: what the format alone costs each of them, errors from layers before left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.expected import expected_squared_error
from bitwright.calibrate.linear import below
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import Floats, Format

if TYPE_CHECKING:
    from bitwright.calibrate.spec import LayerSpec
    from bitwright.calibrate.statistics import Statistics
    from bitwright.program.program import Learnable, Program
    from bitwright.quantized import Quantized

Kind = Literal["Weights", "Bias", "Activations"]


@dataclass(frozen=True, kw_only=True)
class TensorReport:
    """One tensor in its format.

    Attributes:
        tensor: Name in the float network; ``LAYER.Weights`` or ``LAYER.Bias`` for learnables.
        layer: The layer that makes it or owns it; empty for a network input.
        kind: What it is.
        format: Its format, as text.
        bits: Width of its integers.
        min: Smallest value seen; None if unknown.
        max: Largest.
        overflow: Share of the values that saturate; None if unknown.
        underflow: Share of the values that are not zero and become it.
        sqnr_db: Signal to quantization noise; None if unknown, infinite where the format loses nothing.
        msb_counts: Power of two → values whose most significant bit is there.
    """

    tensor: str
    layer: str
    kind: Kind
    format: str
    bits: int
    min: float | None = None
    max: float | None = None
    overflow: float | None = None
    underflow: float | None = None
    sqnr_db: float | None = None
    msb_counts: dict[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite figure is given as None, for JSON has no such number."""
        finite = self.sqnr_db if self.sqnr_db is not None and math.isfinite(self.sqnr_db) else None
        return {
            "tensor": self.tensor,
            "layer": self.layer,
            "kind": self.kind,
            "format": self.format,
            "bits": self.bits,
            "min": self.min,
            "max": self.max,
            "overflow": self.overflow,
            "underflow": self.underflow,
            "sqnr_db": finite,
            "lossless": self.sqnr_db == math.inf,
            "msb_counts": self.msb_counts,
        }


def tensor_reports(q: Quantized, statistics: Statistics | None = None) -> tuple[TensorReport, ...]:
    """All tensors of the float network that the program holds in integers, learnables first.

    Args:
        q: The quantized network.
        statistics: Of its float network's activations, if not those in its file.

    Raises:
        ModelError: if the float network is not in the file and cannot be found.
    """
    from bitwright.calibrate.spec import read_layers

    moved = rescaled(q)
    specs = {} if moved else {spec.name: spec for spec in read_layers(q.lowered_network, q.target).layers}
    steps = accumulator_steps(q.program)
    learnables = [_learnable(q, item, specs.get(item.layer), steps) for item in q.program.learnables]
    return (*learnables, *activation_reports(q, judging(q, statistics)))


def judging(q: Quantized, statistics: Statistics | None = None) -> Statistics | None:
    """The statistics that tell what formats cost: those given, but of a network that repairs rewrote its own."""
    if rescaled(q):
        return None
    return q.lowered_statistics if statistics is None or q.artefact.rewritten is not None else statistics


def rescaled(q: Quantized) -> bool:
    """Whether a repair moved scales between layers and the network of after that is not in the file.

    Then the float network holds other numbers than the program was made from, and tensors cannot be compared one by one.
    """
    return q.artefact.rewritten is None and any(
        row.get("kept") and str(row.get("repair")).startswith("equalize") for row in q.provenance.get("repairs", ())
    )


def activation_reports(q: Quantized, statistics: Statistics | None) -> tuple[TensorReport, ...]:
    """The activations, inputs first."""
    makers = {name: step.layer for step in q.program.steps for name in step.outputs}
    reports: dict[str, TensorReport] = {}
    for buffer in q.program.buffers.values():
        if buffer.tensor is None or buffer.tensor in reports:
            continue
        stats = None if statistics is None else statistics.activations.get(buffer.tensor)
        known = {} if stats is None else estimate(stats, buffer.format)
        reports[buffer.tensor] = TensorReport(
            tensor=buffer.tensor,
            layer=makers.get(buffer.name, ""),
            kind="Activations",
            format=str(buffer.format),
            bits=buffer.format.bits,
            **known,
        )
    return tuple(reports.values())


def estimate(stats: TensorStats, format: Format) -> dict[str, Any]:
    """Range, shares and signal to noise of a tensor in a format for the whole tensor, from its histogram."""
    if not stats.finite:
        return {}
    left, right, count = stats.bins()
    scale, zero = float(format.scale), int(format.zero_point)
    low, high = scale * (format.lo - zero), scale * (format.hi - zero)
    total = float(count.sum())
    cuts = below(left, right, count, [low - scale / 2, -scale / 2, scale / 2, high + scale / 2])
    codes = np.array([float(format.lo - zero)]), np.array([float(format.hi - zero)])
    noise = float(expected_squared_error(left, right, count, np.array([scale]), *codes)[0])
    signal = float((count * (left * left + left * right + right * right) / 3).sum())
    return {
        "min": stats.lo,
        "max": stats.hi,
        "overflow": float(cuts[0] + total - cuts[3]) / total,
        "underflow": max(0.0, float(cuts[2] - cuts[1]) - stats.zeros) / total,
        "sqnr_db": decibel(signal, noise),
        "msb_counts": {str(power): n for power, n in stats.msb_counts().items()},
    }


def _learnable(
    q: Quantized, item: Learnable, spec: LayerSpec | None, steps: Mapping[str, NDArray[np.float64]]
) -> TensorReport:
    kind: Kind = "Weights" if item.parameter == "Weights" else "Bias"
    values = None if spec is None or not spec.is_linear else spec.weights() if kind == "Weights" else spec.bias()
    stored = q.program.tensors[item.tensor]
    known: dict[str, Any] = {}
    # Channels may have been taken out since, and then the two cannot be compared.
    if values is not None and values.shape == stored.shape:
        if kind == "Weights":
            known = measure(values, item.format.dequantize(stored), item.format)
        elif (step := steps.get(item.tensor)) is not None:
            known = measure(values, stored * step, item.format)
    return TensorReport(
        tensor=f"{item.layer}.{item.parameter}",
        layer=item.layer,
        kind=kind,
        format=str(item.format),
        bits=item.format.bits,
        **known,
    )


def accumulator_steps(program: Program) -> dict[str, NDArray[np.float64]]:
    """Bias → the step in which the program holds it: the input's times the weights', 0-d or ``[out]``."""
    formats = {item.tensor: item.format for item in program.learnables if item.parameter == "Weights"}
    return {
        form.bias: np.asarray(program.buffers[step.inputs[0]].format.scale * formats[form.weight].scale)
        for step, form in reversed(program.contracts())  # where two share one, the first counts
        if form.bias is not None and form.weight in formats
    }


def measure(values: Floats, reals: Floats, format: Format) -> dict[str, Any]:
    """Range, shares and signal to noise of constants.

    Args:
        values: In float.
        reals: What the integers stand for, of the same shape.
        format: How they are stored.
    """
    from bitwright.calibrate.ranges import floor_log2

    if not values.size:
        return {}
    powers, counts = np.unique(floor_log2(np.abs(values[values != 0])), return_counts=True)
    half = format.along(format.scale, values.ndim) / 2
    low, high = (format.along(limit, values.ndim) for limit in format.real_range)
    return {
        "min": float(values.min()),
        "max": float(values.max()),
        "overflow": float(((values < low - half) | (values > high + half)).mean()),
        "underflow": float(((reals == 0) & (values != 0)).mean()),
        "sqnr_db": decibel(float((values**2).sum()), float(((values - reals) ** 2).sum())),
        "msb_counts": {str(int(power)): int(n) for power, n in zip(powers, counts, strict=True)},
    }


def decibel(signal: float, noise: float) -> float | None:
    """``10·log10(signal / noise)``; infinite without noise, None without a signal."""
    if signal <= 0:
        return None
    return math.inf if noise <= 0 else 10 * math.log10(signal / noise)
