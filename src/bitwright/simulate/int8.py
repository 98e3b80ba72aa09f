"""When is ``QLinearConv`` exactly an integer epilogue?

``QLinearConv`` computes ``clip(rint(float32(acc) * m) + y_zero, 0, 255)``.  An epilogue is a monotone function of the
accumulator, so it is known by its *thresholds*: for each output code, the lowest accumulator that reaches it.  The two
are equal for every accumulator if and only if they are equal at each threshold and one below it.  So equality is
proven by evaluating both there, and the freedom in ``m`` (a few units in the last place) and in where the zero point
is added is used to make it true: rounding half up, for one, becomes a multiplier a hair above the power of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr
from bitwright.number.render import numpy_value

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]
NUDGES = (0, 1, -1, 2, -2, 4, -4, 8, -8)
LARGEST_BIAS = 1 << 30
REMEMBERED = 512
"""Epilogues whose constants are kept: a search builds a network again and again with a layer or two changed."""


@dataclass(frozen=True, kw_only=True)
class Int8Requantizer:
    """Constants that make ``QLinearConv`` exact.

    Attributes:
        multiplier: float32 ``[channels]``.
        offset: Added to the bias, int64 ``[channels]``.
        y_zero: Output zero point, 0..255.
    """

    multiplier: NDArray[np.float32]
    offset: Ints
    y_zero: int


def thresholds(
    expr: Expr, params: Mapping[str, Ints], lo: Ints, hi: Ints, codes: Ints
) -> tuple[Ints, NDArray[np.bool_]]:
    """The lowest accumulator whose output is at least each code, by bisection.

    Args:
        expr: Monotone in ``acc``.
        params: Constants, 0-d or ``[channels]``.
        lo: Lowest accumulator of each channel, ``[channels]``.
        hi: Highest accumulator of each channel.
        codes: Output codes ``[k]``.

    Returns:
        Accumulators ``[channels, k]``, and where a threshold lies inside ``(lo, hi]``.
    """
    columns = {k: v[:, None] if v.ndim else v for k, v in params.items()}

    def output(acc: Ints) -> Ints:
        return np.asarray(np.broadcast_to(numpy_value(expr, {"acc": acc, **columns}), acc.shape))

    shape = (len(lo), len(codes))
    below = np.broadcast_to(lo[:, None], shape).copy()
    above = np.broadcast_to(hi[:, None], shape).copy()
    inside = (output(below) < codes) & (output(above) >= codes)
    while (above - below > 1).any():
        middle = below + (above - below) // 2
        reached = output(middle) >= codes
        above = np.where(reached, middle, above)
        below = np.where(reached, below, middle)
    return above, inside


def emulate(acc: Ints, multiplier: NDArray[np.float32], y_zero: int) -> Ints:
    """What ``QLinearConv`` makes of accumulators ``[channels, k]``, before saturation."""
    product = acc.astype(np.float32) * multiplier[:, None]
    return np.asarray(np.rint(product).astype(np.int64) + y_zero)


def solve(
    expr: Expr, params: Mapping[str, Ints], lo: Ints, hi: Ints, *, lowest: int, highest: int
) -> Int8Requantizer | None:
    """Constants for which ``QLinearConv`` gives ``expr - lowest``, clamped later to the expression's own range.

    Args:
        expr: The epilogue, over ``acc`` and ``params``; its range gives the clamp.
        params: Constants, 0-d or ``[channels]``.
        lo: Proven lowest accumulator of each channel, ``[channels]``.
        hi: Proven highest accumulator.
        lowest: Lowest code of the output's format: code 0 in unsigned bytes.
        highest: Highest code of the output's format.

    Returns:
        The constants, or None if none were found that are proven exact.  The same question gets the same object.
    """
    asked = tuple((name, values.shape, np.asarray(values, np.int64).tobytes()) for name, values in params.items())
    return _solved(expr, asked, *(np.asarray(x, np.int64).tobytes() for x in (lo, hi)), lowest, highest)


@lru_cache(maxsize=REMEMBERED)
def _solved(
    expr: Expr,
    asked: tuple[tuple[str, tuple[int, ...], bytes], ...],
    lows: bytes,
    highs: bytes,
    lowest: int,
    highest: int,
) -> Int8Requantizer | None:
    """See :func:`solve`; arrays as bytes, which can be compared."""
    params = {name: np.frombuffer(values, np.int64).reshape(shape) for name, shape, values in asked}
    lo, hi = np.frombuffer(lows, np.int64), np.frombuffer(highs, np.int64)
    first, last = max(expr.lo, lowest), min(expr.hi, highest)
    codes = np.arange(first + 1, last + 1)
    if not len(codes):
        return None
    at, inside = thresholds(expr, params, lo, hi, codes)
    targets = codes - lowest
    columns = {k: v[:, None] if v.ndim else v for k, v in params.items()}
    ends = np.stack([lo, hi], 1)
    expected = np.broadcast_to(numpy_value(expr, {"acc": ends, **columns}), ends.shape) - lowest
    constant = ~inside.any(1)
    for y_zero, offset in _zero_points(at, inside, targets):
        still, still_offset = _constant_output(lo, hi, expected[:, 0] - y_zero)
        offset = np.where(constant, still_offset, offset)
        if (np.abs(offset) > LARGEST_BIAS).any():
            continue
        moved = at + offset[:, None]
        guess = np.where(constant, still, _multipliers(moved, inside, targets - y_zero))
        best: NDArray[np.float32] | None = None
        left = np.ones(len(at), bool)
        for nudge in NUDGES:
            trial = (guess.view(np.int32) + nudge).view(np.float32)
            right = emulate(moved, trial, y_zero) >= targets
            wrong = emulate(moved - 1, trial, y_zero) >= targets
            good = ((right & ~wrong) | ~inside).all(1)
            reached = np.clip(emulate(ends + offset[:, None], trial, y_zero), first - lowest, last - lowest)
            good &= (reached == expected).all(1)
            best = trial if best is None else np.where(left & good, trial, best)
            left &= ~good
            if not left.any():
                found = Int8Requantizer(multiplier=np.asarray(best, np.float32), offset=offset, y_zero=y_zero)
                found.multiplier.flags.writeable = found.offset.flags.writeable = False  # of many readers
                return found
    return None


def _zero_points(at: Ints, inside: NDArray[np.bool_], targets: Ints) -> list[tuple[int, Ints]]:
    """Candidates for the zero point and what is added to the bias.

    One where zero accumulates to the middle of a code (then half-even may do), and one where the zero point goes into
    the bias so that everything that is not saturated is positive (then half-up and half-down become a tiny excess in
    the multiplier).
    """
    channels, count = at.shape
    zeros = np.zeros(channels, np.int64)
    # The code that accumulator 0 has; outputs there are targets[index] - 1.
    index = (at <= 0).sum(1)
    codes = np.concatenate([[targets[0] - 1], targets])[index]
    candidates = []
    usable = inside.any(1)
    if usable.any():
        common = int(np.median(codes[usable]))
        if 0 <= common <= 255:
            candidates.append((common, zeros))
    if count >= 2:
        # Where the line through the thresholds meets code 0: T(k) = (k - 1/2) * step - offset.
        first = np.argmax(inside, 1)
        last = count - 1 - np.argmax(inside[:, ::-1], 1)
        rows = np.arange(channels)
        span = np.maximum(last - first, 1)
        step = (at[rows, last] - at[rows, first]) / span
        offset = np.rint((targets[first] - 0.5) * step - at[rows, first])
        power = np.exp2(np.rint(np.log2(np.maximum(step, 2.0**-40))))
        exact = np.ceil((targets[first] - 0.5) * power - at[rows, first])
        for guess in (exact, offset):
            safe = np.where(usable & np.isfinite(guess), guess, 0)
            candidates.append((0, np.clip(safe, -(2.0**31), 2.0**31).astype(np.int64)))
    return candidates


def _constant_output(lo: Ints, hi: Ints, code: Ints) -> tuple[NDArray[np.float32], Ints]:
    """Multipliers and offsets that map the whole of ``[lo, hi]`` to one code."""
    bits = np.ceil(np.log2(hi - lo + 1.0)).astype(np.int64) + 2
    return np.exp2(-bits).astype(np.float32), (code << bits) - (lo + hi) // 2


def _multipliers(at: Ints, inside: NDArray[np.bool_], codes: Ints) -> NDArray[np.float32]:
    """The middle of the multipliers that satisfy every threshold: ``m * T >= k - 1/2 > m * (T - 1)``."""
    low = np.zeros(len(at))
    high = np.full(len(at), np.inf)
    edge = np.broadcast_to(codes - 0.5, at.shape).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        for acc, reaches in ((at, True), (at - 1, False)):
            ratio = edge / acc
            for positive in (True, False):
                where = inside & (acc > 0 if positive else acc < 0) & np.isfinite(ratio)
                # m * acc >= edge bounds m from below for positive acc and from above for negative acc.
                if reaches == positive:
                    low = np.maximum(low, np.where(where, ratio, -np.inf).max(1))
                else:
                    high = np.minimum(high, np.where(where, ratio, np.inf).min(1))
    low, high = np.maximum(low, 0), np.where(np.isfinite(high), high, np.maximum(low, 2.0**-30) * 1.0001)
    middle = np.where(high > low, 0.5 * (low + high), low)
    return np.where(middle > 0, middle, 2.0**-30).astype(np.float32)
