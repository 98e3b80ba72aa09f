"""What arithmetic means, in rationals and unbounded integers; shares no code with what it judges."""

from __future__ import annotations

import math
from fractions import Fraction

from bitwright.number.arithmetic import SEMANTICS, Arithmetic
from bitwright.number.format import Rounding


def rounded(exact: Fraction, rounding: Rounding) -> int:
    """``exact`` as an integer, by the definition of the rounding."""
    floor = exact.numerator // exact.denominator
    rest = exact - floor
    half = Fraction(1, 2)
    match rounding:
        case Rounding.FLOOR:
            return floor
        case Rounding.TOWARD_ZERO:
            return floor if exact >= 0 or rest == 0 else floor + 1
        case Rounding.HALF_UP:
            return floor + (rest >= half)
        case Rounding.HALF_AWAY:
            return floor + (rest >= half if exact >= 0 else rest > half)
        case Rounding.HALF_EVEN:
            return floor + (rest > half or (rest == half and floor % 2 == 1))


def single(exact: Fraction) -> Fraction:
    """``exact`` in IEEE single precision, ties to even, by the definition (normal numbers)."""
    if exact == 0:
        return Fraction(0)
    magnitude, exponent = abs(exact), 0
    while magnitude >= 2:
        magnitude, exponent = magnitude / 2, exponent + 1
    while magnitude < 1:
        magnitude, exponent = magnitude * 2, exponent - 1
    kept = Fraction(rounded(magnitude * (1 << 23), Rounding.HALF_EVEN), 1 << 23)
    return (kept if exact > 0 else -kept) * Fraction(2) ** exponent


# What follows is written from the formulas of gemmlowp and TensorFlow Lite in C's arithmetic, not from ours.


def c_divide(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a >= 0) == (b >= 0) else -1)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """TensorFlow Lite ``QuantizeMultiplier``: Q31 mantissa and left shift."""
    mantissa, shift = math.frexp(real)
    q = rounded(Fraction(mantissa) * (1 << 31), Rounding.HALF_AWAY)
    if q == 1 << 31:
        q, shift = q // 2, shift + 1
    return (0, 0) if shift < -31 else (q, shift)


def saturating_rounding_doubling_high_mul(a: int, b: int) -> int:
    product = a * b
    nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
    return c_divide(product + nudge, 1 << 31)


def rounding_divide_by_pot(x: int, exponent: int) -> int:
    mask = (1 << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if remainder > threshold else 0)


def tflite_double(x: int, real: float) -> int:
    q, shift = quantize_multiplier(real)
    left, right = max(shift, 0), max(-shift, 0)
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(x << left, q), right)


def tflite_single(x: int, real: float) -> int:
    q, shift = quantize_multiplier(real)
    total = 31 - shift
    return (x * q + (1 << (total - 1))) >> total


def cmsis_single(x: int, real: float) -> int:
    q, shift = quantize_multiplier(real)
    return (((x * q) >> (30 - shift)) + 1) >> 1


def profile(name: str) -> Arithmetic:
    kind, rounding = SEMANTICS[name]
    return Arithmetic(requantize=kind, rounding=rounding, semantics=name)


def requantized(acc: int, ratio: float, arithmetic: Arithmetic) -> int:
    """``acc * ratio`` as the machine rounds it."""
    match arithmetic.requantize:
        case "shift":
            return rounded(acc * Fraction(ratio), arithmetic.rounding)
        case "multiplier-single":
            return tflite_single(acc, ratio)
        case "multiplier-double":
            return tflite_double(acc, ratio)
        case _:
            return rounded(single(single(Fraction(acc)) * single(Fraction(ratio))), arithmetic.rounding)


def saturated(x: int, lo: int = -128, hi: int = 127) -> int:
    """``x`` cut to ``[lo, hi]``."""
    return min(max(x, lo), hi)
