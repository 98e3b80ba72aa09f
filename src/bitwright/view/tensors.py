"""From a quantized network to the tensors that are seen: formats, ranges, and where the values lie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.view.seen import BitsSeen, TensorSeen, TypeSeen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bitwright.calibrate.statistics import Statistics
    from bitwright.calibrate.tensor_stats import TensorStats
    from bitwright.number.format import Format
    from bitwright.quantized import Quantized
    from bitwright.tensors import TensorReport

DEEPEST = -126
"""Smaller powers of two are denormal in float32; no strip goes there."""


def type_seen(format: Format) -> TypeSeen:
    """A format, and the columns that it covers."""
    steps = np.atleast_1d(format.scale)
    tops, bottoms = format_powers(format)
    low, high = format.real_range
    exponent = format.exponent
    zero = np.atleast_1d(format.zero_point)
    return TypeSeen(
        text=str(format),
        bits=format.bits,
        signed=format.signed,
        top=int(tops.max()),
        bottom=int(bottoms.min()),
        step=float(steps.min()),
        low=float(np.min(low)),
        high=float(np.max(high)),
        exponent=int(exponent) if exponent is not None and exponent.ndim == 0 else None,
        zero_point=int(zero[0]) if len(set(zero.tolist())) == 1 else 0,
        per_channel=format.axis is not None,
    )


def format_powers(format: Format) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The highest and the lowest power of two that each channel holds, ``[1]`` or ``[channels]``.

    The lowest number of a signed format is one step further out than the highest; it alone makes no column.
    """
    steps, zero = np.atleast_1d(format.scale), np.atleast_1d(format.zero_point)
    reach = np.maximum(np.maximum(format.hi - zero, zero - format.lo - (1 if format.signed else 0)), 1)
    return _power(steps * reach), _power(steps)


def _power(positive: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray(np.frexp(positive)[1] - 1, np.int64)


def bits_of_values(values: NDArray[np.floating[Any]], format: Format) -> BitsSeen | None:
    """Where constants lie in their format, exactly, each channel by its own.

    Args:
        values: In float, any shape.
        format: What they are stored in.
    """
    if not values.size:
        return None
    magnitudes = np.abs(np.asarray(values, np.float64))
    powers = np.where(magnitudes > 0, np.frexp(magnitudes)[1] - 1, DEEPEST)
    low, high = (format.along(limit, values.ndim) for limit in format.real_range)
    half = format.along(format.scale, values.ndim) / 2
    _, bottoms = format_powers(format)
    bottom = format.along(bottoms if format.axis is not None else bottoms[0], values.ndim)
    filled = magnitudes > 0
    over = filled & ((values < low - half) | (values > high + half))
    under = filled & ~over & (powers < bottom)
    return _columns(powers, [filled & ~over & ~under, over, under], int((~filled).sum()))


def bits_of_stats(stats: TensorStats, format: Format) -> BitsSeen | None:
    """Where the values of an activation lie in a format for the whole tensor, as its histogram tells."""
    if not stats.finite:
        return None
    left, right, count = stats.bins()
    low, high = (float(limit) for limit in format.real_range)
    half = float(format.scale) / 2
    middle = (left + right) / 2
    magnitudes = np.abs(middle)
    # What lies below 2^-131 shares the middle bin with the zeros.
    filled = magnitudes > 0
    powers = np.where(filled, np.frexp(magnitudes)[1] - 1, DEEPEST)
    over = filled & ((right < low - half) | (left > high + half))
    under = filled & ~over & (powers < int(format_powers(format)[1][0]))
    zeros = int(count[~filled].sum())
    return _columns(powers, [filled & ~over & ~under, over, under], zeros, count)


def _columns(
    powers: NDArray[Any],
    parts: list[NDArray[np.bool_]],
    zeros: int,
    weights: NDArray[np.int64] | None = None,
) -> BitsSeen | None:
    filled = np.logical_or.reduce(parts)
    if not filled.any():
        return BitsSeen(top=0, inside=(), over=(), under=(), zeros=zeros)
    powers = np.maximum(powers, DEEPEST)
    top, bottom = int(powers[filled].max()), int(powers[filled].min())
    found = []
    for part in parts:
        held = None if weights is None else weights[part]
        sums = np.bincount(top - powers[part], held, minlength=top - bottom + 1)
        columns = [int(n) for n in sums]
        while columns and not columns[-1]:
            columns.pop()
        found.append(tuple(columns))
    return BitsSeen(top=top, inside=found[0], over=found[1], under=found[2], zeros=zeros)


def tensors_seen(q: Quantized, statistics: Statistics | None = None) -> tuple[TensorSeen, ...]:
    """Every tensor that the program holds in integers, learnables first.

    Args:
        q: The quantized network.
        statistics: Of its activations, if not those in its file.

    Raises:
        ModelError: if the float network is not in the file and cannot be found.
    """
    from bitwright.calibrate.spec import read_layers
    from bitwright.tensors import judging, tensor_reports

    known = judging(q, statistics)
    formats = {f"{item.layer}.{item.parameter}": item for item in q.program.learnables}
    held = {b.tensor: b for b in reversed(tuple(q.program.buffers.values())) if b.tensor is not None}
    specs = {spec.name: spec for spec in read_layers(q.lowered_network, q.target).layers}
    roots = _groups(q)
    found = []
    for report in tensor_reports(q, known):
        bits: BitsSeen | None = None
        if report.kind == "Activations":
            buffer = held[report.tensor]
            format, shape = buffer.format, buffer.shape[1:]
            stats = None if known is None else known.activations.get(report.tensor)
            bits = None if stats is None else bits_of_stats(stats, format)
        else:
            item = formats[report.tensor]
            format, shape = item.format, item.shape
            spec = specs.get(report.layer)
            if spec is not None and spec.is_linear and report.msb_counts is not None:
                values = spec.weights() if report.kind == "Weights" else spec.bias()
                bits = None if values is None else bits_of_values(np.asarray(values), format)
        found.append(tensor_seen(report, format, bits, "×".join(map(str, shape)), roots.get(report.tensor, "")))
    return tuple(found)


def tensor_seen(report: TensorReport, format: Format, bits: BitsSeen | None, shape: str, shares: str) -> TensorSeen:
    """What is seen of one tensor."""
    lossless = report.sqnr_db == math.inf
    return TensorSeen(
        name=report.tensor,
        layer=report.layer,
        kind=report.kind,
        type=type_seen(format),
        min=report.min,
        max=report.max,
        overflow=report.overflow,
        underflow=report.underflow,
        sqnr_db=None if lossless else report.sqnr_db,
        lossless=lossless,
        bits=bits,
        shape=shape,
        shares=shares,
    )


def _groups(q: Quantized) -> dict[str, str]:
    """Tensor → the tensor whose format it must have, for those that share one."""
    groups = dict(dict(q.provenance.get("formats") or {}).get("groups") or {})
    return {str(tensor): str(root) for tensor, root in groups.items() if root != tensor}
