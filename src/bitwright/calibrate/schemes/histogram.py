"""The top bit that loses least, judged from how many values have their most significant bit where.

The source tool documents only that its histogram option fits the distribution and that its histograms count most
significant bits; the rule below is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.bins import DENORMAL
from bitwright.calibrate.ranges import floor_log2, format_for_range, is_signed
from bitwright.calibrate.scheme import choose_by_range, clipped, pieces
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import Format, FormatRule

Reals = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sums:
    """Count, sum of ``|x|`` and sum of ``x^2`` of the values in each of some ascending classes of magnitude."""

    n: Reals
    first: Reals
    second: Reals


def sums_per_power(stats: TensorStats, values: NDArray[np.float32] | None) -> tuple[int, Sums]:
    """The sums for every power of two from the lowest to the highest in use: (lowest power, sums).

    Exact from ``values``; from a histogram the sums take values as evenly spread in their bins (1.6 % wide at most).
    """
    if values is not None:
        x = np.abs(values[np.isfinite(values) & (values != 0)].astype(np.float64))
        power, weights = np.maximum(floor_log2(x), DENORMAL), (np.ones_like(x), x, x * x)
    else:
        left, right, count = stats.magnitudes()
        left, right, count = left[right > 0], right[right > 0], count[right > 0]
        power = np.maximum(floor_log2(np.maximum(left, np.finfo(np.float64).tiny)), DENORMAL)
        weights = _moments(left, right, count)
    low = int(power.min())
    return low, Sums(*(np.bincount(power - low, w).astype(np.float64) for w in weights))


def _moments(left: Reals, right: Reals, count: NDArray[np.int64]) -> tuple[Reals, Reals, Reals]:
    center, width = (left + right) / 2, right - left
    return count.astype(np.float64), count * center, count * (center**2 + width**2 / 12)


def errors_by_top_bit(lowest: int, sums: Sums, magnitude_bits: int) -> Reals:
    """The error ``E(T)`` of every top bit ``T = lowest + i``, for ``LSB = 2^(T - magnitude_bits + 1)``.

    ``E(T) = Σ n·LSB²/12`` over the bits of the window, plus ``Σ (LSB - |x|)²`` over the bit just below it, whose values
    round up to one LSB, plus ``Σ x²`` below that (they become zero), plus ``Σ (|x| - max)²`` above (they saturate at
    ``max = (2^magnitude_bits - 1)·LSB``).  All but the first are exact for exact sums.
    """
    powers = np.arange(lowest, lowest + len(sums.n))
    errors = np.empty(len(powers))
    for i, top in enumerate(powers):
        lsb = 2.0 ** (top - magnitude_bits + 1)
        largest = (2.0**magnitude_bits - 1) * lsb
        window = (powers > top - magnitude_bits) & (powers <= top)
        up, zero, over = powers == top - magnitude_bits, powers < top - magnitude_bits, powers > top
        errors[i] = (
            sums.n[window].sum() * lsb**2 / 12
            + (sums.n[up] * lsb**2 - 2 * lsb * sums.first[up] + sums.second[up]).sum()
            + sums.second[zero].sum()
            + (sums.second[over] - 2 * largest * sums.first[over] + sums.n[over] * largest**2).sum()
        )
    return errors


def best_top_bit(lowest: int, sums: Sums, magnitude_bits: int, overflow: float | None = None) -> int:
    """The top bit with the smallest error, the larger on ties; or the smallest whose share of overflows is allowed."""
    if overflow is not None:
        above = np.append(np.cumsum(sums.n[::-1])[::-1][1:], 0.0)
        return lowest + int(np.argmax(above <= overflow * sums.n.sum()))
    errors = errors_by_top_bit(lowest, sums, magnitude_bits)
    return lowest + int(np.flatnonzero(errors == errors.min())[-1])


def best_threshold(stats: TensorStats, highest_code: int, overflow: float | None = None) -> float:
    """The same error model for any step: the clipping threshold, among the ends of the bins, that loses least.

    A value below half a step becomes zero, one above the threshold saturates, and the others lose ``step²/12``.
    """
    left, right, count = stats.magnitudes()
    left, right, count = left[right > 0], right[right > 0], count[right > 0]
    n, first, second = (np.concatenate([[0.0], np.cumsum(m)]) for m in _moments(left, right, count))
    if overflow is not None:
        allowed = n[-1] - n[1:] <= overflow * n[-1]
        return float(right[np.argmax(allowed)])
    step = right / highest_code
    inside = np.arange(1, len(right) + 1)
    small = np.minimum(np.searchsorted(right, step / 2, side="right"), inside)
    above_n, above_1, above_2 = n[-1] - n[inside], first[-1] - first[inside], second[-1] - second[inside]
    errors = (n[inside] - n[small]) * step**2 / 12 + second[small] + above_2 - 2 * right * above_1 + above_n * right**2
    return float(right[np.flatnonzero(errors == errors.min())[-1]])


@dataclass(frozen=True)
class Histogram:
    """The window of bits that loses least.

    Attributes:
        overflow: If given, the finest window in which at most this share of the non-zero values overflows, instead of
            the one with the smallest error.
    """

    name: ClassVar[str] = "histogram"
    summary: ClassVar[str] = "The window of bits with the smallest error, from counts of most significant bits."
    aliases: ClassVar[tuple[str, ...]] = ("hist", "msb", "distribution")

    overflow: float | None = None

    def __post_init__(self) -> None:
        if self.overflow is not None and not 0 <= self.overflow < 1:
            raise ValueError(f"overflow must lie in 0..1, not {self.overflow}")

    def choose(
        self,
        stats: TensorStats,
        rule: FormatRule,
        *,
        values: NDArray[Any] | None = None,
        axis: int | None = None,
    ) -> Format:
        """See :meth:`bitwright.calibrate.scheme.Scheme.choose`."""
        if rule.scaling == "power-of-two":
            return self._power_of_two(stats, rule, values, axis)

        def range_of(part: TensorStats, row: NDArray[np.float32] | None, signed: bool) -> tuple[float, float]:
            part = part if row is None else TensorStats.of(row)
            if part.negligible:
                return 0.0, 0.0
            return clipped(part, best_threshold(part, (1 << (rule.bits - signed)) - 1, self.overflow))

        return choose_by_range(stats, rule, values, axis, range_of)

    def _power_of_two(
        self, stats: TensorStats, rule: FormatRule, values: NDArray[Any] | None, axis: int | None
    ) -> Format:
        axis = axis if rule.per_channel else None
        parts = pieces(stats, rule, values, axis)
        signed = is_signed(rule, [part.lo for part, _ in parts])
        magnitude_bits = rule.bits - signed
        tops = []
        for part, row in parts:
            part = part if row is None else TensorStats.of(row)
            usable = not part.negligible and (signed or part.hi > 0)
            top = best_top_bit(*sums_per_power(part, row), magnitude_bits, self.overflow) if usable else None
            tops.append(top)
        living = [top for top in tops if top is not None]
        if not living:
            zero = np.zeros(len(parts)) if axis is not None else 0.0
            return format_for_range(zero, zero, rule, axis=axis, signed=signed)
        exponent = np.array([max(living) if top is None else top for top in tops]) - magnitude_bits + 1
        exponent = np.clip(exponent, *rule.exponent_range)
        chosen = exponent if axis is not None else exponent[0]
        return Format.power_of_two(rule.bits, chosen, signed=signed, axis=axis, narrow=rule.narrow)
