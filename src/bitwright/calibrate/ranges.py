"""From a range of real numbers to a format: the min-max rules, exactly.

All functions take arrays (one element per channel, or any shape) and are exact: exponents come from the bits of the
floats, never from ``log2``, which is off by one near powers of two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitwright.number.format import Format, FormatRule, Rounding, round_real

Reals = NDArray[np.float64]
Exponents = NDArray[np.int64]


def code_range(rule: FormatRule, signed: bool) -> tuple[int, int]:
    """Lowest and highest integer of the rule."""
    if signed:
        return -(1 << (rule.bits - 1)) + rule.narrow, (1 << (rule.bits - 1)) - 1
    return 0, (1 << rule.bits) - 1


def is_signed(rule: FormatRule, lo: ArrayLike) -> bool:
    """Whether a tensor whose smallest value (or those of its channels) is ``lo`` gets a signed format."""
    return bool((np.asarray(lo) < 0).any()) if rule.signed == "auto" else bool(rule.signed)


def floor_log2(x: NDArray[Any]) -> Exponents:
    """``floor(log2(x))`` of positive numbers, exactly."""
    return np.asarray(np.frexp(np.asarray(x, np.float64))[1] - 1, np.int64)


def ceil_log2(x: NDArray[Any]) -> Exponents:
    """``ceil(log2(x))`` of positive numbers, exactly."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    return np.asarray(exponent - (mantissa == 0.5), np.int64)


def exponent_mathworks(absmax: Reals, bits: int, *, signed: bool) -> Exponents:
    """``floor(log2(max|x|)) - (bits - 2)``: the top magnitude bit holds the maximum, which may saturate by under 1 LSB.

    Source: quantizeToFloat.m of matlab-deep-learning/quantization-aware-training.
    """
    return floor_log2(absmax) - (bits - 2 if signed else bits - 1)


def exponent_vitis(lo: Reals, hi: Reals, lo_code: int, hi_code: int) -> Exponents:
    """The finest exponent in which nothing saturates by more than half a step: ``ceil(log2 s)``,
    ``s = max(lo / (lo_code - 0.5), hi / (hi_code + 0.5))``.

    Source: vai_q_tensorflow1.x fix_neuron_kernel.cc (``pos0 = floor(log2(1/s))`` is its negative).  Computed there in
    floating point; here the comparison ``hi <= (hi_code + 0.5)·2^e`` is exact.
    """
    below, above = 0.5 - lo_code, hi_code + 0.5

    def fits(exponent: Exponents) -> NDArray[np.bool_]:
        step = np.exp2(exponent.astype(np.float64))
        return np.asarray((hi <= above * step) & (-lo <= below * step), np.bool_)

    exponent = ceil_log2(np.maximum(-lo / below, hi / above))
    exponent = exponent + ~fits(exponent)
    return exponent - fits(exponent - 1)


def exponent_nnom(absmax: Reals, bits: int, *, signed: bool) -> Exponents:
    """``ceil(log2(max|x|·(1 - 2^-bits))) - (bits - 1)``: a range that ends at a power of two saturates by one step.

    Source: NNoM scripts/nnom.py, ``find_dec_bits_max_min``.
    """
    return ceil_log2(absmax * (1 - 2.0**-bits)) - (bits - 1 if signed else bits)


def min_max_exponent(lo: Reals, hi: Reals, rule: FormatRule, *, signed: bool) -> Exponents:
    """The exponent by ``rule.exponent_rule``; for an unsigned format the negative part of the range does not count.

    Where the range is only zero the result is meaningless (see :func:`format_for_range`).
    """
    lo = lo if signed else np.zeros_like(lo)
    absmax = np.maximum(-lo, hi)
    absmax = np.where(absmax > 0, absmax, 1.0)
    match rule.exponent_rule:
        case "mathworks":
            return exponent_mathworks(absmax, rule.bits, signed=signed)
        case "nnom":
            return exponent_nnom(absmax, rule.bits, signed=signed)
        case "vitis":
            return exponent_vitis(np.where(lo == hi, -absmax, lo), hi, *code_range(rule, signed))


def affine(lo: Reals, hi: Reals, rule: FormatRule, *, signed: bool) -> tuple[Reals, Exponents]:
    """(scale, zero point) of a multiplier format for ranges with ``lo <= 0 <= hi``; a range of zero gives scale 0.

    Symmetric: ``scale = max|x| / highest code``, zero point 0.  Asymmetric: ``scale = (hi - lo) / (codes - 1)`` and the
    zero point is the integer nearest to ``lowest code - lo / scale``, so zero is exact and one end may saturate by up
    to half a step.
    """
    lo_code, hi_code = code_range(rule, signed)
    if rule.symmetric:
        return (np.maximum(-lo, hi) if signed else hi) / hi_code, np.zeros(np.shape(lo), np.int64)
    scale = (hi - lo) / (hi_code - lo_code)
    safe = np.where(scale > 0, scale, 1.0)
    zero_point = np.clip(round_real(lo_code - lo / safe, Rounding.HALF_AWAY), lo_code, hi_code)
    return scale, np.asarray(zero_point, np.int64)


def _fill_dead(values: NDArray[Any], dead: NDArray[np.bool_], harmless: float) -> NDArray[Any]:
    """A channel that is only zero takes the largest step of the living ones: the most room for its bias."""
    if not dead.any():
        return values
    return np.where(dead, harmless if dead.all() else values[~dead].max(), values)


def format_for_range(
    lo: ArrayLike, hi: ArrayLike, rule: FormatRule, *, axis: int | None = None, signed: bool | None = None
) -> Format:
    """The format that the min-max rule of ``rule`` gives the range ``lo..hi`` (scalars, or one per channel of ``axis``).

    The range is extended to contain zero.  A tensor that is only zero (or empty: ``lo > hi``) gets the step
    ``2^-(bits - 1)``, with which it can neither overflow nor force a large shift; within a tensor with living
    channels, a dead one takes their largest step.  Steps are kept within ``2^rule.exponent_range``.
    """
    lo, hi = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
    empty = lo > hi
    lo, hi = np.where(empty, 0.0, np.minimum(lo, 0.0)), np.where(empty, 0.0, np.maximum(hi, 0.0))
    signed = is_signed(rule, lo) if signed is None else signed
    unsigned_only = not signed and (rule.symmetric or rule.scaling == "power-of-two")
    dead = np.asarray((hi == 0) & ((lo == 0) | unsigned_only), np.bool_)
    finest, coarsest = rule.exponent_range
    if rule.scaling == "power-of-two":
        exponent = _fill_dead(min_max_exponent(lo, hi, rule, signed=signed), dead, 1 - rule.bits)
        exponent = np.clip(exponent, finest, coarsest)
        return Format.power_of_two(rule.bits, exponent, signed=signed, axis=axis, narrow=rule.narrow)
    scale, zero_point = affine(lo, hi, rule, signed=signed)
    scale = np.clip(_fill_dead(scale, dead, 2.0 ** (1 - rule.bits)), 2.0**finest, 2.0**coarsest)
    return Format(rule.bits, signed, scale, zero_point, axis, rule.narrow)
