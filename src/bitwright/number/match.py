"""Reads a requantizer back out of an expression, so that fast kernels can be chosen for it.

The expression stays the only definition: what is found here is a description of it, and :func:`describe` checks the
description against the expression before giving it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr, Op
from bitwright.number.render import numpy_value

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ShiftDown:
    """``saturate(floor((acc * 2**left + 2**(shift-1)) / 2**shift) + zero, lo, hi)``: half-up, ``shift`` may be 0.

    Attributes:
        shift: Right shift minus left shift, 0-d or ``[channels]``.
        zero: Zero point added after rounding.
        lo: Lowest output.
        hi: Highest output.
    """

    shift: Ints
    zero: int
    lo: int
    hi: int


@dataclass(frozen=True, kw_only=True)
class Float32:
    """``saturate(rint(float32(acc) * multiplier) + zero, lo, hi)``.

    Attributes:
        multiplier: float32, 0-d or ``[channels]``.
        even: Ties to even; otherwise away from zero.
        zero: Zero point added after rounding.
        lo: Lowest output.
        hi: Highest output.
    """

    multiplier: NDArray[np.float32]
    even: bool
    zero: int
    lo: int
    hi: int


def describe(expr: Expr, params: Mapping[str, Ints], variable: str = "acc") -> ShiftDown | Float32 | None:
    """What requantizer ``expr`` is, if it is one that fast kernels know.

    Args:
        expr: Over ``variable`` and ``params``.
        params: Constants, 0-d or ``[channels]``.
        variable: Name of the accumulator.

    Returns:
        A description that was checked against ``expr`` at every step of the output and around it, or None.
    """
    lo, hi = expr.lo, expr.hi
    node = expr
    while node.op in (Op.MIN, Op.MAX) and node.args[1].op is Op.CONST:
        node = node.args[0]
    zero = 0
    if node.op in (Op.ADD, Op.SUB) and node.args[1].op is Op.CONST and node.args[0].op in (Op.SHR, *SCALES):
        zero = node.args[1].value * (1 if node.op is Op.ADD else -1)
        node = node.args[0]
    found: ShiftDown | Float32 | None = None
    if node.op in SCALES and _is_variable(node.args[0], variable):
        pattern = _constant(node.args[1], params)
        if pattern is not None:
            multiplier = pattern.astype(np.uint32).view(np.float32)
            found = Float32(multiplier=multiplier, even=node.op is Op.SCALE32_EVEN, zero=zero, lo=lo, hi=hi)
    else:
        shift = _half_up_shift(node, params, variable)
        if shift is not None:
            found = ShiftDown(shift=shift, zero=zero, lo=lo, hi=hi)
    return found if found is not None and _agrees(found, expr, params, variable) else None


SCALES = (Op.SCALE32_EVEN, Op.SCALE32_AWAY)


def _is_variable(node: Expr, variable: str) -> bool:
    return node.op is Op.VAR and node.name == variable


def _constant(node: Expr, params: Mapping[str, Ints]) -> Ints | None:
    if node.op is Op.CONST:
        return np.asarray(node.value, np.int64)
    return np.asarray(params[node.name], np.int64) if node.op is Op.VAR and node.name in params else None


def _half_up_shift(node: Expr, params: Mapping[str, Ints], variable: str) -> Ints | None:
    """The net right shift of ``((acc << left) + half) >> right``, or None for another shape."""
    right: Ints = np.zeros((), np.int64)
    if node.op is Op.SHR and node.args[0].op is Op.ADD:
        amount = _constant(node.args[1], params)
        if amount is None:
            return None
        right, node = amount, node.args[0].args[0]  # that the addend is one half is checked by evaluation
    left: Ints = np.zeros((), np.int64)
    if node.op is Op.SHL:
        amount = _constant(node.args[1], params)
        if amount is None:
            return None
        left, node = amount, node.args[0]
    return right - left if _is_variable(node, variable) else None


def _agrees(found: ShiftDown | Float32, expr: Expr, params: Mapping[str, Ints], variable: str) -> bool:
    """Compare at, just below and just above every value where the description's output changes."""
    acc = next(n for n in expr.walk() if _is_variable(n, variable))
    codes = np.arange(found.lo - 2, found.hi + 3) if found.hi - found.lo < 1 << 16 else np.arange(-512, 513)
    scale = np.exp2(-found.shift.astype(np.float64)) if isinstance(found, ShiftDown) else found.multiplier
    scale = np.atleast_1d(np.asarray(scale, np.float64))
    for ratio in np.unique(scale):
        edge = np.floor((codes - found.zero - 0.5) / ratio)
        near = np.unique(np.concatenate([edge + d for d in (-1, 0, 1, 2)] + [np.array([acc.lo, 0, acc.hi])]))
        near = near[(near >= acc.lo) & (near <= acc.hi)].astype(np.int64)
        channel = int(np.flatnonzero(scale == ratio)[0])
        chosen = {k: np.asarray(v if np.ndim(v) == 0 else v[channel]) for k, v in params.items()}
        if not np.array_equal(numpy_value(expr, {variable: near, **chosen}), emulate(found, near, channel)):
            return False
    return True


def emulate(found: ShiftDown | Float32, acc: Ints, channel: int = 0) -> Ints:
    """The described output for accumulators ``acc`` of one channel."""
    if isinstance(found, ShiftDown):
        shift = int(np.atleast_1d(found.shift)[channel if found.shift.ndim else 0])
        real = np.floor(acc * 2.0**-shift + 0.5)
    else:
        multiplier = np.atleast_1d(found.multiplier)[channel if found.multiplier.ndim else 0]
        product = (acc.astype(np.float32) * multiplier).astype(np.float64)
        real = (
            np.rint(product) if found.even else np.where(product < 0, -np.floor(0.5 - product), np.floor(product + 0.5))
        )
    return np.asarray(np.clip(real + found.zero, found.lo, found.hi), np.int64)
