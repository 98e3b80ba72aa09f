"""Epilogues that do next to nothing: what clamps they have, and whether clamping is all that they do."""

from __future__ import annotations

import numpy as np

from bitwright.number.expr import Expr, Op
from bitwright.number.render import numpy_value

CODES = 256  # of a byte


def only_clamps(expr: Expr, acc: Expr, lo: int, hi: int) -> bool:
    """Whether an expression of one byte only clamps it: tried for every value that the byte can have."""
    if set(expr.variables()) != {"acc"} or acc.hi - acc.lo >= CODES:
        return False
    values = np.arange(acc.lo, acc.hi + 1)
    got = np.broadcast_to(numpy_value(expr, {"acc": values}), values.shape)
    return bool(np.array_equal(got, np.clip(values, lo, hi)))


def clamps_of(expr: Expr, lo: int = -128, hi: int = 127) -> tuple[int, int]:
    """The outermost clamps; where one was left out because it never bites, the end of the type."""
    while expr.op in (Op.MIN, Op.MAX) and expr.args[1].op is Op.CONST:
        lo, hi = (lo, min(hi, expr.args[1].value)) if expr.op is Op.MIN else (max(lo, expr.args[1].value), hi)
        expr = expr.args[0]
    return lo, hi
