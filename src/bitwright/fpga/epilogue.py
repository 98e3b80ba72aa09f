"""Reads what the processor can do out of the expressions of a program, and proves that it is the same.

Nothing is guessed from names of operators: a candidate is found in the expression and then compared with it on every
value that can occur, or on every value around each step of the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga.requant import requantize
from bitwright.number.expr import Expr, Op
from bitwright.number.format import Rounding
from bitwright.number.render import numpy_value

Ints = NDArray[np.int64]

LARGEST_SCALE = (1 << 18) - 1
LARGEST_SHIFT = 40
EXHAUSTIVE = 1 << 22
LARGEST_COEFFICIENT = 1 << 14


@dataclass(frozen=True)
class Finish:
    """``clamp(round((acc * scale + add) >> shift), lo, hi)``."""

    shift: int
    lo: int
    hi: int
    scale: int = 1
    add: int = 0

    def apply(self, rounding: Rounding, acc: Ints) -> Ints:
        """The results for sums ``acc``."""
        return requantize(rounding, acc * self.scale + self.add, self.shift, self.lo, self.hi)


def contraction(expr: Expr, params: Mapping[str, Ints], rounding: Rounding) -> Finish | None:
    """The epilogue of a sum of products, where it is one shift for all channels, rounded as the processor does."""
    values = {name: np.unique(value) for name, value in params.items()}
    if any(len(value) > 1 for value in values.values()) or expr.lo < -128 or expr.hi > 127:
        return None
    constants = {name: np.asarray(value[0]) for name, value in values.items()}
    variables = [node for node in expr.walk() if node.op is Op.VAR and node.name == "acc"]
    if not variables:
        return None
    for shift in sorted(_shifts(expr, constants)):
        found = Finish(shift, expr.lo, expr.hi)
        acc = _edges(found, variables[0].lo, variables[0].hi)
        if np.array_equal(found.apply(rounding, acc), numpy_value(expr, {"acc": acc, **constants})):
            return found
    return None


def other_rounding(expr: Expr, params: Mapping[str, Ints], rounding: Rounding) -> Rounding | None:
    """The rounding with which the processor could do the epilogue that it cannot do with ``rounding``."""
    if contraction(expr, params, rounding) is not None:
        return None
    return next((other for other in Rounding if contraction(expr, params, other) is not None), None)


def _shifts(expr: Expr, constants: Mapping[str, Ints]) -> set[int]:
    """What the shift could be: an amount by which something is shifted right, or one less (half-even doubles first)."""
    amounts = {0}
    for node in expr.walk():
        if node.op is Op.SHR and {n.name for n in node.args[1].walk() if n.op is Op.VAR} <= set(constants):
            amounts.add(int(numpy_value(node.args[1], dict(constants))))
    return {shift for amount in amounts for shift in (amount, amount - 1) if 0 <= shift <= 31}


def _edges(finish: Finish, lo: int, hi: int) -> Ints:
    """Sums around each step of the result, ties among them."""
    codes = np.arange(finish.lo - 2, finish.hi + 3)
    steps = np.concatenate([(codes << finish.shift), (codes << finish.shift) + (1 << finish.shift >> 1)])
    near = np.unique(np.concatenate([steps + d for d in (-2, -1, 0, 1, 2)] + [np.array([lo, -1, 0, 1, hi])]))
    return np.asarray(near[(near >= lo) & (near <= hi)], np.int64)


def total(expr: Expr, lo: int, hi: int, taps: int, rounding: Rounding, may_scale: bool) -> Finish | None:
    """The epilogue of a plain sum over ``lo .. hi``: a shift, or a division by way of a multiplication.

    A quotient ``floor(n / d)`` is ``(n * m + b) >> s`` for a good ``m``; whether it is, is tried on every sum.
    """
    if hi - lo > EXHAUSTIVE or any(v not in ("acc", "count") for v in expr.variables()):
        return None
    acc = np.arange(lo, hi + 1)
    want = numpy_value(expr, {"acc": acc, "count": np.asarray(taps)})
    if want.min() < -128 or want.max() > 127:
        return None
    bounds = int(want.min()), int(want.max())
    slope = _slope(expr, taps)
    for shift in range(LARGEST_SHIFT if may_scale else 16):
        middle = round(slope * (1 << shift))
        near = {middle, middle + 1, middle - 1} if may_scale else {1} if slope * (1 << shift) == 1 else set()
        for scale in sorted(m for m in near if 1 <= m <= LARGEST_SCALE):
            for add in _adds(acc, want, scale, shift, rounding):
                finish = Finish(shift, *bounds, scale, add)
                if np.array_equal(finish.apply(rounding, acc), want):
                    return finish
    return None


def _slope(expr: Expr, taps: int) -> Fraction:
    """How much one step of the sum adds to the result, before rounding and clamping."""
    node, divisor = expr, 1
    while True:
        constant = node.args[1].value if len(node.args) > 1 and node.args[1].op is Op.CONST else None
        if node.op in (Op.MIN, Op.MAX) and constant is not None:
            node = node.args[0]
        elif node.op is Op.SHR and constant is not None:
            node, divisor = node.args[0], divisor << constant
        elif node.op is Op.DIV and constant is not None:
            node, divisor = node.args[0], divisor * constant
        else:
            break
    values = numpy_value(node, {"acc": np.arange(2), "count": np.asarray(taps)})
    return Fraction(int(values[1] - values[0]), divisor)


def _adds(acc: Ints, want: Ints, scale: int, shift: int, rounding: Rounding) -> tuple[int, ...]:
    """Constants that could be right: those that put the first step above ``want.min()`` where it belongs."""
    half = 0 if rounding is Rounding.FLOOR else 1 << shift >> 1
    steps = np.flatnonzero(np.diff(want) > 0)
    if not len(steps):
        return (0,)
    # acc[k + 1] is the first sum of its result: it must reach the step, and the sum before it must not.
    reach = (want[steps + 1] << shift) - half - acc[steps + 1] * scale
    miss = (want[steps + 1] << shift) - half - acc[steps] * scale
    lowest, highest = int(reach.max()), int(miss.min()) - 1
    return (0, lowest) if lowest <= highest else (0,)


@dataclass(frozen=True)
class Linear:
    """``clamp(round((x0*first + x1*second + add) >> shift))``."""

    first: int
    second: int
    finish: Finish


def two_operands(expr: Expr, bounds: tuple[tuple[int, int], tuple[int, int]], rounding: Rounding) -> Linear | None:
    """A sum or difference of two int8 tensors, checked on all pairs of values."""
    inner, shift = _inner(expr)
    at = {(a, b): _value(inner, a, b) for a, b in ((0, 0), (1, 0), (0, 1))}
    first, second = at[1, 0] - at[0, 0], at[0, 1] - at[0, 0]
    (first, second), add, shift = _without(rounding, (first, second), at[0, 0], shift)
    lo, hi = max(expr.lo, -128), min(expr.hi, 127)
    if max(abs(first), abs(second)) > LARGEST_COEFFICIENT or shift > 31:
        return None
    found = Linear(first, second, Finish(shift, lo, hi, 1, add))
    x0, x1 = np.meshgrid(*(np.arange(a, b + 1) for a, b in bounds), indexing="ij")
    return (
        found
        if np.array_equal(
            found.finish.apply(rounding, x0 * first + x1 * second), numpy_value(expr, {"x0": x0, "x1": x1})
        )
        else None
    )


def product(expr: Expr, bounds: tuple[tuple[int, int], tuple[int, int]], rounding: Rounding) -> Finish | None:
    """A product of two int8 tensors, checked on all pairs of values."""
    inner, shift = _inner(expr)
    add = _value(inner, 0, 0)
    (scale,), add, shift = _without(rounding, (_value(inner, 1, 1) - add,), add, shift)
    if not 1 <= scale <= LARGEST_SCALE or shift > LARGEST_SHIFT:
        return None
    found = Finish(shift, max(expr.lo, -128), min(expr.hi, 127), scale, add)
    x0, x1 = np.meshgrid(*(np.arange(a, b + 1) for a, b in bounds), indexing="ij")
    same = np.array_equal(found.apply(rounding, x0 * x1), numpy_value(expr, {"x0": x0, "x1": x1}))
    return found if same else None


def _inner(expr: Expr) -> tuple[Expr, int]:
    """What is under clamps and a constant shift."""
    node = expr
    while node.op in (Op.MIN, Op.MAX) and node.args[1].op is Op.CONST:
        node = node.args[0]
    if node.op is Op.SHR and node.args[1].op is Op.CONST:
        return node.args[0], node.args[1].value
    return node, 0


def _without(rounding: Rounding, slopes: tuple[int, ...], add: int, shift: int) -> tuple[tuple[int, ...], int, int]:
    """Slopes, constant and shift of what is rounded, from those of what is shifted; a guess that is tried afterwards."""
    if rounding in (Rounding.HALF_UP, Rounding.HALF_AWAY):
        return slopes, add - (1 << shift >> 1), shift
    if rounding is Rounding.HALF_EVEN and shift:
        # Doubled: (2x + 2**s - 1 + odd) >> (s + 1), and the slopes may see ``odd`` change.
        return tuple((slope + 1) // 2 for slope in slopes), (add - (1 << shift - 1) + 2) // 2, shift - 1
    return slopes, add, shift


def _value(expr: Expr, x0: int, x1: int) -> int:
    return int(numpy_value(expr, {"x0": np.asarray(x0), "x1": np.asarray(x1)}))
