"""Sums of two bytes as ``DequantizeLinear → Add → QuantizeLinear``, which runtimes fuse into one integer kernel.

The constants come from ``simulate/int8_sum.py``, which tries them on every pair of codes in ONNX Runtime's fused kernel;
here they are tried again on the unfused nodes, so that the file is exact whichever way a runtime takes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr
from bitwright.number.render import numpy_value
from bitwright.program.program import Buffer
from bitwright.simulate.graph import GraphWriter
from bitwright.simulate.int8_sum import Int8Sum, find_sum


def unfused_sum(found: Int8Sum, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the three nodes give for raw codes ``a`` and ``b``, in float32 as the ONNX standard says."""
    (sa, _), (za, _), (sb, _), (zb, _), (sc, _), (zc, _) = found.constants
    left = (a - za).astype(np.float32) * np.float32(sa)
    right = (b - zb).astype(np.float32) * np.float32(sb)
    steps = np.rint((left + right) / np.float32(sc)).astype(np.int64) + int(zc)
    return np.clip(np.clip(steps, 0, 255), *found.clip)


def exact_sum(expr: Expr, a: Buffer, b: Buffer, out: Buffer) -> Int8Sum | None:
    """Constants for which fused and unfused nodes both give ``expr`` over ``x0`` in ``a`` and ``x1`` in ``b``, or None."""
    found = find_sum(expr, a, b, out)
    if found is None:
        return None
    x0 = np.arange(a.lo, a.hi + 1)[:, None]
    x1 = np.arange(b.lo, b.hi + 1)[None, :]
    expected = np.broadcast_to(numpy_value(expr, {"x0": x0, "x1": x1}), (x0.size, x1.size)) - out.format.lo
    got = unfused_sum(found, x0 - a.format.lo, x1 - b.format.lo)
    return found if np.array_equal(expected, got) else None


def write_sum(graph: GraphWriter, found: Int8Sum, a: str, b: str) -> str:
    """The nodes over raw codes ``a`` and ``b``; returns the raw result."""
    names = [graph.constant(np.asarray(value, kind)) for value, kind in found.constants]
    left = graph.node("DequantizeLinear", a, *names[:2])
    right = graph.node("DequantizeLinear", b, *names[2:4])
    out = graph.node("QuantizeLinear", graph.node("Add", left, right), *names[4:])
    if found.clip != (0, 255):
        out = graph.node("Clip", out, *(graph.constant(np.asarray(v, np.uint8)) for v in found.clip))
    return out
