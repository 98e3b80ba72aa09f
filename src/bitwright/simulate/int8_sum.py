"""When is ``QLinearAdd`` exactly an integer sum?  Tried on every pair of codes, on this machine's ONNX Runtime.

``QLinearAdd`` computes ``clip(rint(a * ra + b * rb + c), 0, 255)`` in float32, ties to even.  Where a program rounds
half up, scales a hair larger than the powers of two push ties upward; which hair works depends on the formats, so a few
are tried, and the one is taken whose 65,536 results are all right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr, to_rows
from bitwright.number.render import numpy_value
from bitwright.program.program import Buffer
from bitwright.simulate.graph import GraphWriter

Constant = tuple[float, type[np.float32] | type[np.uint8]]
EXCESSES = ((0.0, 0.0), (2.0**-20, 2.0**-20), (2.0**-18, 2.0**-18), (2.0**-15, 2.0**-23), (2.0**-13, 2.0**-21))


@dataclass(frozen=True, kw_only=True)
class Int8Sum:
    """Constants that make ``QLinearAdd`` exact.

    Attributes:
        constants: a_scale, a_zero, b_scale, b_zero, c_scale, c_zero with their types.
        clip: Bounds of the raw output that saturation does not give.
    """

    constants: tuple[Constant, ...]
    clip: tuple[int, int]


def find_sum(expr: Expr, a: Buffer, b: Buffer, out: Buffer) -> Int8Sum | None:
    """Constants for ``expr`` over ``x0`` in ``a`` and ``x1`` in ``b``, or None.

    Args:
        expr: Of ``x0`` and ``x1`` only.
        a: Buffer of ``x0``, at most 8 bits.
        b: Buffer of ``x1``, at most 8 bits.
        out: Where the result goes, at most 8 bits.
    """
    x0 = np.arange(a.format.lo, a.format.hi + 1)[:, None]
    x1 = np.arange(b.format.lo, b.format.hi + 1)[None, :]
    if set(expr.variables()) != {"x0", "x1"}:
        return None
    try:
        expected = np.broadcast_to(numpy_value(expr, {"x0": x0, "x1": x1}), (x0.size, x1.size)) - out.format.lo
    except KeyError:
        return None
    # Only codes that occur must be right.
    occurs = ((x0 >= a.lo) & (x0 <= a.hi)) & ((x1 >= b.lo) & (x1 <= b.hi))
    clip = (max(0, expr.lo - out.format.lo), min(255, expr.hi - out.format.lo))
    ra, rb = (float(x.format.scale) / float(out.format.scale) for x in (a, b))
    za, zb, zc = (int(x.format.zero_point) - x.format.lo for x in (a, b, out))
    key = (tuple(map(tuple, to_rows(expr))), ra, rb, za, zb, zc, clip, a.lo, a.hi, b.lo, b.hi)
    return _found(key, expected.tobytes(), expected.shape, occurs.tobytes())


@lru_cache(maxsize=256)
def _found(key: tuple[Any, ...], expected: bytes, shape: tuple[int, int], occurs: bytes) -> Int8Sum | None:
    _, ra, rb, za, zb, zc, clip, *_ = key
    wanted = np.frombuffer(expected, np.int64).reshape(shape)
    matters = np.frombuffer(occurs, np.bool_).reshape(shape)
    for ea, eb in EXCESSES:
        for drop_a, drop_b in ((False, False), (True, True), (True, False), (False, True)):
            # Leaving out a zero point makes that operand non-negative, so that its excess always goes upward.
            shift = zc - (ra * za if drop_a else 0) - (rb * zb if drop_b else 0)
            if shift != int(shift) or not 0 <= shift <= 255:
                continue
            scales = (ra * (1 + (ea if drop_a or not drop_b else eb)), rb * (1 + (eb if drop_a and not drop_b else ea)))
            constants: tuple[Constant, ...] = (
                (scales[0], np.float32),
                (0 if drop_a else za, np.uint8),
                (scales[1], np.float32),
                (0 if drop_b else zb, np.uint8),
                (1.0, np.float32),
                (int(shift), np.uint8),
            )
            got = np.clip(_run(constants, shape), *clip)
            if ((got == wanted) | ~matters).all():
                return Int8Sum(constants=constants, clip=clip)
    return None


def _run(constants: tuple[Constant, ...], shape: tuple[int, int]) -> NDArray[np.int64]:
    """ONNX Runtime's result for every pair of raw codes."""
    import onnxruntime

    graph = GraphWriter()
    names = [graph.constant(np.asarray(v, t)) for v, t in constants]
    graph.node("QLinearAdd", "a", *names[:2], "b", *names[2:], outputs=["c"], domain="com.microsoft")
    kind = np.dtype(np.uint8)
    model = graph.model([("a", kind, shape), ("b", kind, shape)], [("c", kind, shape)], contrib=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    a, b = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    return np.asarray(session.run(None, {"a": a.astype(np.uint8), "b": b.astype(np.uint8)})[0], np.int64)
