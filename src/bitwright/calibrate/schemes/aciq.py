"""Analytical clipping: the threshold that is best for a normal distribution with the tensor's range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.scheme import choose_by_range, clipped
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import Format, FormatRule

_NCNN_ALPHA = {6: 3.28691474, 8: 3.92403714}


@cache
def alpha(bits: int) -> float:
    """Best clipping threshold of a standard normal distribution, in standard deviations, for ``2^bits`` levels.

    Minimizes clipping plus rounding noise, ``2·[(1 + a²)·Q(a) - a·φ(a)] + a²/(3·4^bits)`` (Banner, Nahshan, Soudry,
    "Post training 4-bit quantization of convolutional networks", 2019).  For 6 and 8 bits the constants of ncnn, which
    differ from the minimum in the seventh digit, so that its thresholds are reproduced.
    """
    if bits in _NCNN_ALPHA:
        return _NCNN_ALPHA[bits]

    def slope(a: float) -> float:
        tail = math.erfc(a / math.sqrt(2)) / 2
        density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
        return 4 * a * tail - 4 * density + 2 * a / (3 * 4.0**bits)

    low, high = 0.0, 40.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return high


def sigma(absmax: float, count: int) -> float:
    """Standard deviation estimated from the largest of ``count`` magnitudes.

    ``2·absmax·0.175·(1 + sqrt(π·ln 4)) / sqrt(2·ln count)``, as ncnn tools/quantize/ncnn2table.cpp.
    """
    return 2 * absmax * 0.175 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(count))


@dataclass(frozen=True)
class Aciq:
    """Clip where a normal distribution of this range loses least; looks only at the largest magnitude and the count."""

    name: ClassVar[str] = "aciq"
    summary: ClassVar[str] = "Clips where a normal distribution of the same range would lose least (as ncnn)."
    aliases: ClassVar[tuple[str, ...]] = ("analytical",)

    def choose(
        self,
        stats: TensorStats,
        rule: FormatRule,
        *,
        values: NDArray[Any] | None = None,
        axis: int | None = None,
    ) -> Format:
        """See :meth:`bitwright.calibrate.scheme.Scheme.choose`.

        An unsigned format has twice the levels for the one side that it has, so it takes the threshold of one more bit.
        """

        def range_of(part: TensorStats, _: NDArray[np.float32] | None, signed: bool) -> tuple[float, float]:
            if part.finite < 3:  # ln 1 is zero, and two values say nothing of a distribution
                return part.lo, part.hi
            return clipped(part, alpha(rule.bits + (not signed)) * sigma(part.absmax, part.finite))

        return choose_by_range(stats, rule, values, axis, range_of)
