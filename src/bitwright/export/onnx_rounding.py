"""The declared roundings, and real numbers to integers, as ONNX nodes that are exact for every float."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.format import Format, Rounding
from bitwright.simulate.graph import GraphWriter


def rounded(graph: GraphWriter, x: str, rounding: Rounding, dtype: np.dtype[Any]) -> str:
    """Round the float tensor ``x`` to integers; returns the result's tensor name.

    ONNX's ``Round`` takes ties to even, and what it leaves, ``x - Round(x)``, is exact.  So the other roundings to
    nearest are that one, moved by a step where the remainder is a tie that went the other way.

    Args:
        graph: Where the nodes go.
        x: Floats.
        rounding: How.
        dtype: Their type.
    """
    half = np.asarray(0.5, dtype)

    def where_tie(rest: str, value: float) -> str:
        return graph.node("Equal", rest, graph.constant(np.asarray(value, dtype)))

    match rounding:
        case Rounding.FLOOR:
            return graph.node("Floor", x)
        case Rounding.TOWARD_ZERO:
            return graph.node("Mul", graph.node("Sign", x), graph.node("Floor", graph.node("Abs", x)))
        case Rounding.HALF_EVEN:
            return graph.node("Round", x)
        case Rounding.HALF_UP:
            near = graph.node("Round", x)
            fell = where_tie(graph.node("Sub", x, near), float(half))
            return graph.node("Add", near, graph.node("Cast", fell, to=dtype))
        case Rounding.HALF_AWAY:
            magnitude = graph.node("Abs", x)
            near = graph.node("Round", magnitude)
            fell = where_tie(graph.node("Sub", magnitude, near), float(half))
            up = graph.node("Add", near, graph.node("Cast", fell, to=dtype))
            return graph.node("Mul", graph.node("Sign", x), up)


HAIR = 2.0**-12
"""Less than one in the 514 halves that a byte can be off, and more than float32 rounds away."""
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
SMALLEST, LARGEST = 2.0**-100, 2.0**100
"""Powers of two by which float32 values are scaled without leaving the normal numbers of any network."""


def quantized_floats(graph: GraphWriter, x: str, format: Format, rounding: Rounding) -> str:
    """Real numbers as integers in float64, saturated to ``format``, as ``Format.quantize`` gives them.

    Args:
        graph: Where the nodes go.
        x: float32.
        format: Per tensor.
        rounding: How.
    """

    def number(value: float) -> str:
        return graph.constant(np.asarray(value, np.float64))

    zero, reach = int(format.zero_point), float(format.hi - format.lo + 2)
    value = graph.node("Div", graph.node("Cast", x, to=F64), number(float(format.scale)))
    # Far outside the format nothing is lost by cutting off, and infinities become finite.
    codes = rounded(graph, graph.node("Clip", value, number(-reach), number(reach)), rounding, F64)
    codes = graph.node("Add", codes, number(zero)) if zero else codes
    return graph.node("Clip", codes, number(format.lo), number(format.hi))


def saturated(graph: GraphWriter, x: str, scale: NDArray[np.float32], format: Format) -> str:
    """``QuantizeLinear`` of ``x`` to codes counted from the lowest of ``format``."""
    zero, span = int(format.zero_point) - format.lo, format.hi - format.lo
    codes = graph.node("QuantizeLinear", x, graph.constant(scale), graph.constant(np.asarray(zero, np.uint8)))
    if span == 255:
        return codes
    return graph.node("Clip", codes, *(graph.constant(np.asarray(v, np.uint8)) for v in (0, span)))


def quantized_bytes(graph: GraphWriter, x: str, format: Format, rounding: Rounding) -> str:
    """Real numbers as uint8 codes counted from the lowest of ``format``, which has at most 8 bits.

    The input is often the largest tensor of a network, so the usual cases are a few nodes.  Half away: the code
    depends on the integer part of ``2 * x / scale`` alone, which is cut toward zero, as casts do.  Half to even with a
    power of two: that is ``QuantizeLinear``.
    """
    scale, lo, hi = float(format.scale), format.lo, format.hi
    exact = format.exponent is not None and SMALLEST < scale < LARGEST
    if rounding is Rounding.HALF_EVEN and exact:
        return saturated(graph, x, np.asarray(scale, np.float32), format)
    if rounding is Rounding.HALF_AWAY:
        work = F32 if exact else F64
        if exact:
            doubled = graph.node("Mul", x, graph.constant(np.asarray(2 / scale, work)))
        else:
            quotient = graph.node("Div", graph.node("Cast", x, to=F64), graph.constant(np.asarray(scale, work)))
            doubled = graph.node("Mul", quotient, graph.constant(np.asarray(2.0, work)))
        last = 2 * (hi - lo + 2)
        limits = (graph.constant(np.asarray(v, work)) for v in (-last, last))
        halves = graph.node("Cast", graph.node("Clip", doubled, *limits), to=np.dtype(np.int32))
        # An odd number of halves goes to the next integer away from zero: a hair more than half of it, rounded.
        scale32 = np.asarray(2 / (1 + HAIR), np.float32)
        return saturated(graph, graph.node("Cast", halves, to=F32), scale32, format)
    codes = quantized_floats(graph, x, format, rounding)
    codes = graph.node("Sub", codes, graph.constant(np.asarray(lo, np.float64))) if lo else codes
    return graph.node("Cast", codes, to=np.dtype(np.uint8))
