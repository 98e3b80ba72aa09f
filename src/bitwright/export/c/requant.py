"""Which epilogues the kernels know: found by rebuilding the expression, so that what is found is proven.

An epilogue is taken apart into the constants of one of the requantizers below, put together again by the same functions
that built it (``number/expr.py``), and compared row by row.  Equal rows are the same expression; no test values are
involved.  Anything else is rendered as it is, as a function of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr, Op, round_shift, saturate, scale_float32, to_rows
from bitwright.number.format import Rounding

Ints = NDArray[np.int64]
Kind = Literal["shift", "single", "double", "float32_even", "float32_away"]


@dataclass(frozen=True, kw_only=True)
class Requant:
    """An epilogue that a kernel knows; ``c`` is the output channel, ``sat`` clamps to ``[lo, hi]``.

    - ``shift``: ``sat(((acc + 2^(s-1)) >> s) + zero)``, half-up; ``s = shift[c] >= 0``
    - ``single``: ``sat(((acc·m + 2^(s-1)) >> s) + zero)`` in 64 bits, half-up; ``m = multiplier[c]``, ``1 <= s <= 62``
    - ``double``: ``high = (acc·2^left·m + 2^30) >> 31``, then ``high / 2^right`` rounded half away from zero,
      ``sat(… + zero)``; ``shift[c]`` is ``right`` where positive, ``-left`` where negative
    - ``float32_even``, ``float32_away``: ``sat(round(float32(acc) · f) + zero)``; ``multiplier[c]`` holds the bits of
      ``f``

    Attributes:
        kind: Which.
        multiplier: int32 values, ``[channels]`` or ``[1]``; empty for ``shift``.
        shift: ``[channels]`` or ``[1]``; empty for float32.
        zero: Zero point of the output.
        lo: Lowest output.
        hi: Highest output.
        largest: Largest absolute value of ``acc·2^left`` that can occur; below 2^30 some cores have a shorter way.
    """

    kind: Kind
    multiplier: Ints
    shift: Ints
    zero: int
    lo: int
    hi: int
    largest: int

    @property
    def per_channel(self) -> bool:
        """Whether the constants differ from channel to channel."""
        return max(self.multiplier.size, self.shift.size) > 1


INT32 = 1 << 31


def recognize(expr: Expr, params: Mapping[str, Ints], channels: int) -> Requant | None:
    """The requantizer that ``expr`` provably is, or None.

    Args:
        expr: Over ``acc`` and ``params``.
        params: Constants, 0-d or ``[channels]``.
        channels: Output channels.
    """
    node, zero = expr, 0
    while node.op in (Op.MIN, Op.MAX) and node.args[1].op is Op.CONST:
        node = node.args[0]
    if node.op in (Op.ADD, Op.SUB) and node.args[1].op is Op.CONST and node.args[0].op in (Op.SHR, *SCALES):
        zero = node.args[1].value * (1 if node.op is Op.ADD else -1)
        node = node.args[0]
    for attempt in (_float32, _double, _single, _shift):
        found = attempt(node, params)
        if found is None:
            continue
        kind, core, multiplier, shift, largest = found
        whole = saturate(core + zero, *_clamps(expr))
        if to_rows(whole) == to_rows(expr):
            return Requant(
                kind=kind,
                multiplier=_spread(multiplier, channels),
                shift=_spread(shift, channels),
                zero=zero,
                lo=expr.lo,
                hi=expr.hi,
                largest=largest,
            )
    return None


SCALES = (Op.SCALE32_EVEN, Op.SCALE32_AWAY)
Found = tuple[Kind, Expr, Ints, Ints, int]
NONE: Ints = np.zeros(0, np.int64)


def _clamps(expr: Expr) -> tuple[int, int]:
    """The bounds of the outermost clamps; where one was left out because it never bites, the range itself."""
    lo, hi = expr.lo, expr.hi
    while expr.op in (Op.MIN, Op.MAX) and expr.args[1].op is Op.CONST:
        lo, hi = (lo, expr.args[1].value) if expr.op is Op.MIN else (expr.args[1].value, hi)
        expr = expr.args[0]
    return lo, hi


def _spread(values: Ints, channels: int) -> Ints:
    flat = np.ravel(values).astype(np.int64)
    if flat.size == 0 or (flat == flat[0]).all():
        return flat[:1]
    assert flat.size == channels
    return flat


def _values(node: Expr, params: Mapping[str, Ints]) -> Ints | None:
    if node.op is Op.CONST:
        return np.asarray(node.value, np.int64)
    return np.asarray(params[node.name], np.int64) if node.op is Op.VAR and node.name in params else None


def _is_acc(node: Expr) -> bool:
    return node.op is Op.VAR and node.name == "acc" and node.lo >= -INT32 and node.hi < INT32


def _left(node: Expr, params: Mapping[str, Ints]) -> tuple[Expr, Ints, int] | None:
    """``acc`` or ``acc << left``: the accumulator, left, and the largest absolute value."""
    left: Ints = np.zeros((), np.int64)
    if node.op is Op.SHL:
        values = _values(node.args[1], params)
        if values is None or not _is_acc(node.args[0]):
            return None
        left = values
        return node.args[0], left, max(abs(node.lo), abs(node.hi))
    return (node, left, max(abs(node.lo), abs(node.hi))) if _is_acc(node) else None


def _float32(node: Expr, params: Mapping[str, Ints]) -> Found | None:
    if node.op not in SCALES or not _is_acc(node.args[0]):
        return None
    pattern = _values(node.args[1], params)
    if pattern is None:
        return None
    singles = pattern.astype(np.uint32).view(np.float32).astype(np.float64)
    even = node.op is Op.SCALE32_EVEN
    core = scale_float32(
        node.args[0], node.args[1], float(singles.min()), float(singles.max()),
        Rounding.HALF_EVEN if even else Rounding.HALF_AWAY,
    )  # fmt: skip
    if core.lo < -INT32 or core.hi >= INT32:
        return None
    return ("float32_even" if even else "float32_away"), core, pattern, NONE, 0


def _double(node: Expr, params: Mapping[str, Ints]) -> Found | None:
    products = [n for n in node.walk() if n.op is Op.MUL and _left(n.args[0], params) is not None]
    if not products or node.op is not Op.SHR:
        return None
    product = products[0]
    inner, multiplier = _left(product.args[0], params), _values(product.args[1], params)
    if inner is None or multiplier is None or (multiplier < 0).any() or (multiplier >= INT32).any():
        return None
    high = round_shift(product, 31, Rounding.HALF_UP)
    right_node = node.args[1]
    core, right = high, np.zeros((), np.int64)
    if to_rows(high) != to_rows(node):
        values = _values(right_node, params)
        if values is None:
            return None
        core, right = round_shift(high, right_node, Rounding.HALF_AWAY), values
    left = inner[1]
    half = 1 << max(int(right.max()) - 1, 0)
    if high.lo - 1 - half < -INT32 or high.hi + half >= INT32:  # the second rounding is done in 32 bits
        return None
    if (right > 30).any() or (left > 31).any() or ((left > 0) & (right > 0)).any():
        return None
    return "double", core, multiplier, right - left, inner[2]


def _single(node: Expr, params: Mapping[str, Ints]) -> Found | None:
    if node.op is not Op.SHR or node.args[0].op is not Op.ADD:
        return None
    inner = node.args[0].args[0]
    product = _unshifted(inner, params)
    if product.op is not Op.MUL or not _is_acc(product.args[0]):
        return None
    multiplier, right = _values(product.args[1], params), _values(node.args[1], params)
    if (
        multiplier is None
        or right is None
        or (right < 1).any()
        or (multiplier < 0).any()
        or (multiplier >= INT32).any()
    ):
        return None
    core = round_shift(inner, node.args[1], Rounding.HALF_UP)
    if core.lo < -INT32 or core.hi >= INT32:
        return None
    return "single", core, multiplier, right, max(abs(product.args[0].lo), abs(product.args[0].hi))


def _unshifted(node: Expr, params: Mapping[str, Ints]) -> Expr:
    """``node`` without a left shift by constants that are all 0."""
    if node.op is Op.SHL:
        left = _values(node.args[1], params)
        if left is not None and not left.any():
            return node.args[0]
    return node


def _shift(node: Expr, params: Mapping[str, Ints]) -> Found | None:
    if _is_acc(node):
        return "shift", node, NONE, np.zeros(1, np.int64), max(abs(node.lo), abs(node.hi))
    if node.op is not Op.SHR or node.args[0].op is not Op.ADD:
        return None
    inner = node.args[0].args[0]
    acc, right = _unshifted(inner, params), _values(node.args[1], params)
    if not _is_acc(acc) or right is None or (right > 30).any():
        return None
    if node.args[0].lo < -INT32 or node.args[0].hi >= INT32:
        return None
    return "shift", round_shift(inner, node.args[1], Rounding.HALF_UP), NONE, right, max(abs(acc.lo), abs(acc.hi))
