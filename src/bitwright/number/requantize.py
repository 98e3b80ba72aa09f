"""From an accumulator to an output integer: the requantizers that real machines have.

Each is a few operations of ``number/expr.py`` and the constants they need, per tensor or per channel.

Sources: CMSIS 5.9.0 ``NN_ROUND`` and Vitis ``DPU_ROUND`` (shift); gemmlowp and TensorFlow Lite
``MultiplyByQuantizedMultiplier`` (multiplier, single and double rounding); ONNX Runtime ``QLinearConv``, TensorRT and
ncnn (float32 product).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.arithmetic import Arithmetic
from bitwright.number.expr import EXACT, Expr, Op, const, evaluate, round_shift, scale_float32, var
from bitwright.number.format import Rounding


@dataclass(frozen=True)
class Scaled:
    """An expression and the constants that its extra variables stand for.

    Attributes:
        expr: The expression.
        params: Variable → int64 values, 0-d (whole tensor) or 1-d (one per channel).
        ratio: The real factor that the integers realize, same shape as the widest constant.
    """

    expr: Expr
    params: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    ratio: NDArray[np.float64] = field(default_factory=lambda: np.ones(()))


def parameter(name: str, values: NDArray[np.int64]) -> Expr:
    """A variable for constants ``values``; a single value becomes a plain constant."""
    values = np.asarray(values, np.int64)
    lo, hi = int(values.min()), int(values.max())
    return var(name, lo, hi) if values.ndim else const(lo)


def integer_multiplier(ratio: NDArray[np.float64], bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``ratio ≈ multiplier * 2**-shift`` with ``2**(bits-1) <= multiplier < 2**bits``; elementwise.

    The mantissa is rounded half away from zero as in TensorFlow Lite's ``QuantizeMultiplier``.

    Args:
        ratio: Positive real factors.
        bits: Magnitude bits of the multiplier (31 for Q31).

    Returns:
        int64 multipliers and int64 right shifts (negative: left).
    """
    mantissa, exponent = np.frexp(np.asarray(ratio, np.float64))
    multiplier = np.floor(np.ldexp(mantissa, bits) + 0.5).astype(np.int64)
    carry = multiplier == 1 << bits
    return np.where(carry, multiplier >> 1, multiplier), bits - np.asarray(exponent, np.int64) - carry


def rescale(x: Expr, ratio: NDArray[np.float64], arithmetic: Arithmetic, prefix: str = "") -> Scaled:
    """``x * ratio`` rounded to an integer by the machine's requantizer; not yet saturated, no zero point added.

    Args:
        x: The accumulator, in steps of input scale times weight scale.
        ratio: Accumulator step over output step, positive, 0-d or one per channel.
        arithmetic: Which requantizer, and how it rounds.
        prefix: Put before the names of the constants, so that one expression can hold several rescalings.

    Raises:
        ValueError: ``requantize = "shift"`` and a ratio is not a power of two.
        OverflowError: the product does not fit 64 bits.
    """
    ratio = np.asarray(ratio, np.float64)
    return REQUANTIZERS[arithmetic.requantize](x, ratio, arithmetic, prefix)


def _split(shift: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A signed right shift as (left, right), both >= 0."""
    return np.maximum(-shift, 0), np.maximum(shift, 0)


def _shift(x: Expr, ratio: NDArray[np.float64], arithmetic: Arithmetic, prefix: str) -> Scaled:
    mantissa, exponent = np.frexp(ratio)
    if (mantissa != 0.5).any():
        raise ValueError("a shifting requantizer needs scales that are powers of two")
    left, right = _split(1 - np.asarray(exponent, np.int64))
    params = {f"{prefix}left": left, f"{prefix}right": right}
    y = round_shift(x << parameter(f"{prefix}left", left), parameter(f"{prefix}right", right), arithmetic.rounding)
    return _used(y, params, ratio)


def _single(x: Expr, ratio: NDArray[np.float64], arithmetic: Arithmetic, prefix: str) -> Scaled:
    multiplier, shift = integer_multiplier(ratio, arithmetic.multiplier_bits)
    # Far below one half of any representable product the result is 0; keep the shift in range.
    too_small = shift > 62
    multiplier, shift = np.where(too_small, 0, multiplier), np.where(too_small, 62, shift)
    left, right = _split(shift)
    params = {f"{prefix}multiplier": multiplier, f"{prefix}left": left, f"{prefix}right": right}
    product = (x * parameter(f"{prefix}multiplier", multiplier)) << parameter(f"{prefix}left", left)
    y = round_shift(product, parameter(f"{prefix}right", right), arithmetic.rounding)
    return _used(y, params, multiplier * np.exp2(-shift.astype(np.float64)))


def _double(x: Expr, ratio: NDArray[np.float64], arithmetic: Arithmetic, prefix: str) -> Scaled:
    multiplier, shift = integer_multiplier(ratio, 31)
    shift = shift - 31  # what is left after the doubling high multiply
    too_small = shift > 31
    multiplier, shift = np.where(too_small, 0, multiplier), np.where(too_small, 0, shift)
    left, right = _split(shift)
    params = {f"{prefix}multiplier": multiplier, f"{prefix}left": left, f"{prefix}right": right}
    widened = x << parameter(f"{prefix}left", left)
    high = round_shift(widened * parameter(f"{prefix}multiplier", multiplier), 31, Rounding.HALF_UP)
    y = round_shift(high, parameter(f"{prefix}right", right), Rounding.HALF_AWAY)
    return _used(y, params, multiplier * np.exp2(-(shift + 31).astype(np.float64)))


def _float32(x: Expr, ratio: NDArray[np.float64], arithmetic: Arithmetic, prefix: str) -> Scaled:
    single = np.asarray(ratio, np.float32)
    bits = np.asarray(single.view(np.uint32).astype(np.int64))
    name = f"{prefix}scale32"
    multiplier = var(name, int(bits.min()), int(bits.max()))
    y = scale_float32(x, multiplier, float(single.min()), float(single.max()), arithmetic.rounding)
    return Scaled(y, {name: bits}, np.asarray(single, np.float64))


def _used(y: Expr, params: dict[str, NDArray[np.int64]], ratio: NDArray[Any]) -> Scaled:
    names = set(y.variables())
    return Scaled(y, {k: v for k, v in params.items() if k in names}, np.asarray(ratio, np.float64))


Requantizer = Callable[[Expr, NDArray[np.float64], Arithmetic, str], Scaled]
REQUANTIZERS: Mapping[str, Requantizer] = {
    "shift": _shift,
    "multiplier-single": _single,
    "multiplier-double": _double,
    "float32": _float32,
}


Interval = tuple[NDArray[np.object_], NDArray[np.object_]]


def bound_by_parameters(
    expr: Expr,
    params: Mapping[str, NDArray[np.int64]],
    bounds: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per-channel interval of ``expr``, tighter than its own because each channel has its own constants.

    Args:
        expr: The expression.
        params: Constants, 0-d or ``[channels]``.
        bounds: For every other variable, lowest and highest value, 0-d or ``[channels]``.

    Returns:
        Lowest and highest value, broadcast over the channels.
    """

    def leaf(node: Expr) -> Interval:
        if node.op is Op.CONST:
            value = np.array(node.value, object)
            return value, value
        if node.name in params:
            value = np.asarray(params[node.name]).astype(object)
            return value, value
        lo, hi = bounds[node.name]
        return np.asarray(lo).astype(object), np.asarray(hi).astype(object)

    def combine(node: Expr, a: Interval, b: Interval) -> Interval:
        if node.op in (Op.SCALE32_EVEN, Op.SCALE32_AWAY):
            scale = np.asarray(b[0], np.int64).astype(np.uint32).view(np.float32).astype(np.float64)
            rounded = [np.rint(np.asarray(v, np.float64) * scale * (1 + g)) for v in a for g in (-(2**-20), 2**-20)]
            corners = [np.asarray(r).astype(np.int64).astype(object) for r in rounded]
            return np.minimum.reduce(corners) - 1, np.maximum.reduce(corners) + 1
        apply = np.frompyfunc(EXACT[node.op], 2, 1)
        if node.args[0] is node.args[1] and node.op is Op.MUL:
            squares = [np.asarray(apply(v, v)) for v in a]
            straddles = (a[0] <= 0) & (a[1] >= 0)
            return np.where(straddles, 0, np.minimum(*squares)), np.maximum(*squares)
        corners = [np.asarray(apply(x, y)) for x in a for y in b]
        return np.minimum.reduce(corners), np.maximum.reduce(corners)

    table: dict[Op, Callable[[Expr, Interval, Interval], Interval]] = {
        op: combine for op in Op if op not in (Op.CONST, Op.VAR)
    }
    lo, hi = evaluate(expr, leaf, table)
    lo, hi = np.broadcast_arrays(lo, hi)
    return lo.astype(np.int64), hi.astype(np.int64)
