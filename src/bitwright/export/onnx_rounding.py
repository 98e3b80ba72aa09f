"""The declared roundings as ONNX nodes, exact for every float."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitwright.number.format import Rounding
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
