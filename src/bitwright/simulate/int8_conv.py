"""A contraction as one ``QLinearConv``: its constants, the same with more channels, and its node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr
from bitwright.ops.linear import accumulator_bounds
from bitwright.program.forms import Axis
from bitwright.program.program import Buffer
from bitwright.simulate.graph import GraphWriter
from bitwright.simulate.int8 import solve

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Int8Convolution:
    """Constants of a ``QLinearConv`` that gives the raw codes of a step.

    Attributes:
        weights: int8 ``[out, in / groups, *taps]``.
        bias: int32 ``[out]``, what makes the rounding exact included.
        multiplier: float32 ``[out]``.
        axes: Windows; none is spread or has negative padding.
        groups: Channel groups.
        x_zero: Raw code of the input that means zero.
        y_zero: Output zero point.
        limits: Bounds of the raw output that saturation does not give, or None.
    """

    weights: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.float32]
    axes: tuple[Axis, ...]
    groups: int
    x_zero: int
    y_zero: int
    limits: tuple[int, int] | None

    def widened(self, inputs: int, outputs: int) -> Int8Convolution:
        """The same with more channels at the end: inputs that nobody looks at and outputs that mean nothing.

        Args:
            inputs: Input channels of each group; where there is one per group, groups are added instead.
            outputs: Output channels.
        """
        more = outputs - len(self.weights)
        widths = [(0, more), (0, inputs - self.weights.shape[1]), *[(0, 0)] * len(self.axes)]
        return replace(
            self,
            weights=np.pad(self.weights, widths),
            bias=np.pad(self.bias, (0, more)),
            multiplier=np.pad(self.multiplier, (0, more), constant_values=1),
            groups=outputs if self.groups > 1 else 1,
        )

    def write(self, graph: GraphWriter, x: str) -> str:
        """Add the node; its output is not limited yet."""
        unit = graph.constant(np.asarray(1.0, np.float32))
        return graph.node(
            "QLinearConv",
            x,
            unit,
            graph.constant(np.asarray(self.x_zero, np.uint8)),
            graph.constant(self.weights),
            graph.constant(self.multiplier),
            graph.constant(np.zeros(len(self.bias), np.int8)),
            unit,
            graph.constant(np.asarray(self.y_zero, np.uint8)),
            graph.constant(self.bias),
            group=self.groups,
            **window(self.axes),
        )


def int8_convolution(
    weights: NDArray[np.integer[Any]],
    bias: Ints,
    axes: Sequence[Axis],
    groups: int,
    *,
    source: Buffer,
    input_zero: int,
    target: Buffer,
    expr: Expr,
    params: Mapping[str, Ints],
) -> Int8Convolution | None:
    """The convolution, or None if no constants are proven exact.

    Args:
        weights: ``[out, in / groups, *taps]``.
        bias: ``[out]`` in accumulator steps.
        axes: Windows, one per axis of taps.
        groups: Channel groups.
        source: The input.
        input_zero: Its integer that means zero.
        target: The output.
        expr: Epilogue over ``acc`` and ``params``.
        params: Constants of the epilogue, 0-d or ``[out]``.
    """
    plain = len(axes) <= 2 and all(a.spread == 1 and a.before >= 0 and a.after >= 0 for a in axes)
    if not plain or source.format.bits > 8 or target.format.bits > 8 or weights.dtype != np.int8:
        return None
    may_miss = any(a.before or a.after for a in axes)
    lows, highs = accumulator_bounds(weights.astype(np.int64), bias, source, input_zero, may_miss=may_miss)
    format = target.format
    found = solve(expr, params, lows, highs, lowest=format.lo, highest=format.hi)
    reach = max(int(np.abs(lows).max()), int(np.abs(highs).max()))
    if found is None or reach + int(np.abs(found.offset).max()) >= 1 << 31:
        return None
    low, high = max(expr.lo, format.lo) - format.lo, min(expr.hi, format.hi) - format.lo
    return Int8Convolution(
        weights=weights.astype(np.int8, copy=False),
        bias=(bias + found.offset).astype(np.int32),
        multiplier=found.multiplier,
        axes=tuple(axes),
        groups=groups,
        x_zero=input_zero - source.format.lo,
        y_zero=found.y_zero,
        limits=(low, high) if low > 0 or high < 255 else None,
    )


def window(axes: Sequence[Axis]) -> dict[str, Any]:
    """ONNX attributes of windows that are not spread."""
    return {
        "kernel_shape": [a.taps for a in axes],
        "strides": [a.stride for a in axes],
        "dilations": [a.dilation for a in axes],
        "pads": [*(a.before for a in axes), *(a.after for a in axes)],
    }
