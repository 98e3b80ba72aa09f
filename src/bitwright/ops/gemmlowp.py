"""The fixed-point softmax of TensorFlow Lite and CMSIS-NN, bit for bit.

``exp`` in Q0.31 of each distance to the maximum (a table: there are at most 256 distances), their sum in Q12.19, its
reciprocal by three steps of Newton's method in Q2.29, one product and one rounding shift.

Source: gemmlowp ``fixedpoint/fixedpoint.h`` (``exp_on_negative_values``, ``one_over_one_plus_x_for_x_in_0_1``),
TensorFlow Lite ``kernels/internal/reference/softmax.h`` and ``kernels/internal/common.h`` (``GetReciprocal``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr, const, maximum, minimum, round_shift, saturate, var
from bitwright.number.format import Format, Rounding
from bitwright.number.requantize import integer_multiplier
from bitwright.ops.operator import NoIntegerForm, Site, element
from bitwright.program.builder import Builder
from bitwright.program.forms import Axis, Epilogue, Reduce, Table
from bitwright.program.program import Buffer

ONE = (1 << 31) - 1
_DIFFERENCE_BITS = 5  # integer bits of a distance
_SUM_BITS = 12  # integer bits of the sum
# exp(-2^n) in Q0.31, n = -2 .. 4.
_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
_EXP_EIGHTH, _THIRD = 1895147668, 715827883  # exp(-1/8) and 1/3 in Q0.31
_A, _B = 1515870810, -1010580540  # 48/17 and -32/17 in Q2.29

Ints = NDArray[np.int64]


def high(a: Ints, b: Ints | int) -> Ints:
    """``SaturatingRoundingDoublingHighMul``: ``a·b / 2^31``, ties up."""
    return np.asarray((a * b + (1 << 30)) >> 31, np.int64)


def away(a: Ints, bits: int) -> Ints:
    """``RoundingDivideByPOT``: ``a / 2^bits``, ties away from zero."""
    half = 1 << (bits - 1)
    return np.where(a >= 0, (a + half) >> bits, -((-a + half) >> bits))


def exp_negative(x: Ints) -> Ints:
    """``exp_on_negative_values``: Q5.26, at most 0, to Q0.31."""
    quarter = 1 << 24
    rest = (x & (quarter - 1)) - quarter
    a = np.clip(rest << _DIFFERENCE_BITS, -(1 << 31), ONE) + (1 << 28)
    square = high(a, a)
    cube, fourth = high(square, a), away(high(square, square), 2)
    inner = away(high(fourth + cube, _THIRD) + square, 1)
    result = _EXP_EIGHTH + high(a + inner, _EXP_EIGHTH)
    remainder = rest - x
    for power, factor in enumerate(_POWERS, start=-2):
        result = np.where(remainder & (1 << (26 + power)), high(result, factor), result)
    return np.where(x == 0, ONE, result)


def exponentials(step: float) -> Ints:
    """``exp(-step·d)`` in Q0.31 for the distances ``d = -255 .. 0``; what is far below is 0.

    Raises:
        NoIntegerForm: if the step is so fine that the kernels do not take it.
    """
    real = min(step * 2.0 ** (31 - _DIFFERENCE_BITS), 2.0**31 - 1)
    if real <= 1:
        raise NoIntegerForm("its input has too fine a step for the fixed-point softmax")
    multiplier, shift = (int(v) for v in integer_multiplier(np.asarray(real), 31))
    left = 31 - shift
    distances = np.arange(-255, 1, dtype=np.int64)
    lowest = -math.floor(((1 << _DIFFERENCE_BITS) - 1) * 2.0 ** (31 - _DIFFERENCE_BITS) / 2.0**left)
    kept = distances >= lowest
    scaled = high(np.where(kept, distances, 0) << left, multiplier)
    return np.where(kept, exp_negative(np.clip(scaled, -(1 << 31), 0)), 0)


def fixed_point_softmax(site: Site, build: Builder, source: Buffer, axes: tuple[Axis, ...], top: Buffer) -> Buffer:
    """Emit the steps.

    Args:
        site: The layer; its output has the step 1/256 and the zero point at its lowest code.
        build: Where the steps go.
        source: The input.
        axes: One window over the axis.
        top: The maximum over the window.
    """
    result = site.result.format
    if float(result.scale) != 1 / 256 or int(result.zero_point) != result.lo or result.bits != 8:
        raise NoIntegerForm("the fixed-point softmax has the output step 1/256 and its zero at the lowest code")
    count = math.prod(axis.taps for axis in axes)
    if count >= 1 << _SUM_BITS:
        raise NoIntegerForm(f"the sum of {count} exponentials does not fit the fixed-point softmax")
    x, m = element(source, "x0"), element(top, "x1")
    distance = Format(9, True, source.format.scale)
    below = build.buffer(source.shape, distance, lo=-255, hi=0)
    below = build.map(minimum(x - m, 0), [source, top], below, suffix=".distance")
    entries = np.zeros(distance.hi - distance.lo + 1, np.int64)
    entries[-255 - distance.lo : 1 - distance.lo] = exponentials(float(source.format.scale))
    fine = Format(32, True, np.asarray(2.0**-31))
    powers = build.buffer(source.shape, fine, lo=0, hi=ONE)
    build.step(Table(table=build.tensor("exp", entries)), [below], [powers], ".exp")
    parts = build.buffer(source.shape, Format(21, True, np.asarray(2.0**-19)), lo=0, hi=1 << 19)
    parts = build.map(round_shift(element(powers, "x0"), 12, Rounding.HALF_UP), [powers], parts, suffix=".parts")
    total = _sum(build, parts, axes, count)
    sums = maximum(element(total, "x0"), 1 << 19)  # never met: the largest element alone contributes exp(0) = 2^19
    lead = build.buffer(total.shape, Format(6, True, np.asarray(1.0)), lo=0, hi=_SUM_BITS)
    lead = build.map(_leading_zeros(sums), [total], lead, suffix=".lead")
    inverse = build.buffer(total.shape, fine, lo=0, hi=ONE)
    inverse = build.map(reciprocal(sums, element(lead, "x1")), [total, lead], inverse, suffix=".inverse")
    e, r, z = element(powers, "x0"), element(inverse, "x1"), element(lead, "x2")
    product = round_shift(e * r, 31, Rounding.HALF_UP)
    quotient = round_shift(product, const(31 - 8 + _SUM_BITS) - z, Rounding.HALF_UP)
    out = build.buffer(site.result.shape, result, tensor=site.result.tensor)
    return build.map(saturate(quotient + result.lo, result.lo, result.hi), [powers, inverse, lead], out)


def _sum(build: Builder, parts: Buffer, axes: Sequence[Axis], count: int) -> Buffer:
    acc = var("acc", 0, parts.hi * count)
    shape = (1, *(axis.outputs(n) for axis, n in zip(axes, parts.shape[1:], strict=True)))
    out = build.buffer(shape, Format(32, True, parts.format.scale), lo=0, hi=acc.hi)
    build.step(Reduce(combine="sum", axes=tuple(axes), epilogue=Epilogue(expr=acc)), [parts], [out], ".sum")
    return out


def _leading_zeros(x: Expr) -> Expr:
    """Leading zeros of a sum in ``2^19 .. 2^31 - 1`` as an unsigned number of 32 bits."""
    zeros: Expr = const(_SUM_BITS)
    for bit in range(20, 31):
        if x.hi >> bit:
            zeros = zeros - minimum(x >> bit, 1)
    return zeros


def reciprocal(x: Expr, zeros: Expr) -> Expr:
    """``GetReciprocal``: ``2^62 / (x << zeros)`` in Q0.31 for ``x << zeros`` in ``2^31 .. 2^32``."""
    a = saturate((x << zeros) - (1 << 31), 0, ONE)
    half = (a + (1 << 31)) >> 1

    def product(p: Expr, q: Expr | int) -> Expr:
        return round_shift(p * q, 31, Rounding.HALF_UP)

    y = product(half, _B) + _A
    for _ in range(3):
        error = product(half, y) * -1 + (1 << 29)
        y = saturate(y + (product(y, error) << 2), 0, (1 << 30) + (1 << 16))  # the limits are never met
    return saturate(y << 1, 0, ONE)
