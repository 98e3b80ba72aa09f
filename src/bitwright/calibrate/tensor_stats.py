"""The statistics of one tensor, and everything that can be read off its histogram."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitwright.calibrate.bins import BINS, DENORMAL, FINITE, HALF, magnitude_edges, nonfinite_count, powers

Counts = NDArray[np.int64]
Reals = NDArray[np.float64]


def _frozen(array: NDArray[Any] | None) -> NDArray[Any] | None:
    if array is None:
        return None
    array = np.array(array)
    array.flags.writeable = False
    return array


def _same(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    return (a is None) == (b is None) and (a is None or b is None or np.array_equal(a, b))


def _both(combine: np.ufunc, a: NDArray[Any] | None, b: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if a is None or b is None else np.asarray(combine(a, b))


@dataclass(frozen=True, eq=False)
class TensorStats:
    """Counts, exact range and histogram of all values a tensor took.  ``TensorStats()`` is the identity of ``+``.

    Attributes:
        count: Number of elements, non-finite ones included.
        zeros: Elements equal to 0.0 (or -0.0).
        nonfinite: Elements that are NaN or infinite; they take no part in ranges.
        lo: Exact smallest finite value, ``inf`` if there is none.
        hi: Exact largest finite value, ``-inf`` if there is none.
        hist: int64 ``[16384]``, bins as in :mod:`bitwright.calibrate.bins`.
        axis: The axis of the channels, or None if channels were not asked for.
        channel_lo: float32 ``[channels]``, finite minimum of each channel.
        channel_hi: float32 ``[channels]``.
        channel_hist: int64 ``[channels, 16384]``, only where asked for.
    """

    count: int = 0
    zeros: int = 0
    nonfinite: int = 0
    lo: float = float("inf")
    hi: float = float("-inf")
    hist: Counts | None = None
    axis: int | None = None
    channel_lo: NDArray[np.float32] | None = None
    channel_hi: NDArray[np.float32] | None = None
    channel_hist: Counts | None = None

    def __post_init__(self) -> None:
        hist = np.zeros(BINS, np.int64) if self.hist is None else self.hist
        object.__setattr__(self, "hist", _frozen(hist))
        for name in ("channel_lo", "channel_hi", "channel_hist"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))

    @classmethod
    def of(cls, x: ArrayLike, axis: int | None = None, *, channel_hist: bool = False) -> TensorStats:
        """The statistics of one array (converted to float32), with ranges along ``axis`` if given."""
        from bitwright.calibrate.tally import Tally

        tally = Tally(axis, channel_hist=channel_hist)
        tally.add(np.asarray(x, np.float32))
        return tally.value()

    @property
    def counts(self) -> Counts:
        """The histogram, int64 ``[16384]``."""
        assert self.hist is not None  # set in __post_init__
        return self.hist

    @property
    def channels(self) -> int | None:
        """Number of channels, or None if they were not asked for."""
        return None if self.channel_lo is None else len(self.channel_lo)

    @property
    def finite(self) -> int:
        """Number of finite elements."""
        return self.count - self.nonfinite

    @property
    def absmax(self) -> float:
        """Largest finite magnitude; 0.0 if there is none."""
        return max(abs(self.lo), abs(self.hi)) if self.finite else 0.0

    @property
    def negligible(self) -> bool:
        """Whether every finite value is zero or below 2^-131, where the histogram ends."""
        return not self.counts[1:FINITE].any() and not self.counts[HALF + 1 : HALF + FINITE].any()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TensorStats):
            return NotImplemented
        scalars = ("count", "zeros", "nonfinite", "lo", "hi", "axis")
        arrays = ("hist", "channel_lo", "channel_hi", "channel_hist")
        return all(getattr(self, n) == getattr(other, n) for n in scalars) and all(
            _same(getattr(self, n), getattr(other, n)) for n in arrays
        )

    def __hash__(self) -> int:
        return hash((self.count, self.zeros, self.nonfinite, self.lo, self.hi, self.axis))

    def __add__(self, other: object) -> TensorStats:
        """Both together.  What they do not both know of the same channels is not known of the sum."""
        if not isinstance(other, TensorStats):
            return NotImplemented
        if not other.count and other.axis is None:
            return self
        if not self.count and self.axis is None:
            return other
        low = high = hist = None
        if self.axis == other.axis and self.channels == other.channels:
            low, high = (
                _both(np.minimum, self.channel_lo, other.channel_lo),
                _both(np.maximum, self.channel_hi, other.channel_hi),
            )
            hist = _both(np.add, self.channel_hist, other.channel_hist)
        return TensorStats(
            self.count + other.count,
            self.zeros + other.zeros,
            self.nonfinite + other.nonfinite,
            min(self.lo, other.lo),
            max(self.hi, other.hi),
            self.counts + other.counts,
            None if low is None else self.axis,
            low,
            high,
            hist,
        )

    def __radd__(self, other: object) -> TensorStats:
        """So that ``sum(parts)`` works, which starts from the integer 0."""
        return self if other == 0 else NotImplemented

    def overall(self) -> TensorStats:
        """The same without channels, so that it can be added to that of any other tensor."""
        return replace(self, axis=None, channel_lo=None, channel_hi=None, channel_hist=None)

    def channel(self, index: int) -> TensorStats:
        """The statistics of one channel.

        Raises:
            ValueError: if no histogram per channel was collected.
        """
        if self.channel_hist is None or self.channel_lo is None or self.channel_hi is None:
            raise ValueError("no histogram per channel was collected")
        hist = self.channel_hist[index]
        # Only zero and denormals below 2^-131 share bins 0 and HALF; those few pass as zeros here.
        zeros = int(hist[0] + hist[HALF])
        lo, hi = float(self.channel_lo[index]), float(self.channel_hi[index])
        return TensorStats(int(hist.sum()), zeros, nonfinite_count(hist), lo, hi, hist)

    def magnitude_counts(self) -> Counts:
        """Absolute histogram: elements per finite magnitude bin, int64 ``[8160]``."""
        return np.asarray(self.counts[:FINITE] + self.counts[HALF : HALF + FINITE], np.int64)

    def signed_counts(self) -> tuple[Counts, Counts]:
        """Elements per finite magnitude bin of the negative and of the positive numbers."""
        return self.counts[HALF : HALF + FINITE], self.counts[:FINITE]

    def msb_counts(self) -> dict[int, int]:
        """How many elements have their most significant bit at ``2^b``, ``b = floor(log2 |x|)``; zeros in none.

        Denormals count at ``b = -127``.
        """
        negative, positive = self.msb_counts_signed()
        return {b: negative.get(b, 0) + positive.get(b, 0) for b in sorted({*negative, *positive})}

    def msb_counts_signed(self) -> tuple[dict[int, int], dict[int, int]]:
        """:meth:`msb_counts` of the negative and of the positive numbers.

        Numbers below 2^-131 share a bin with zero and are told apart only together: they count as positive.
        """
        result = []
        for counts, zeros in zip(self.signed_counts(), self._zeros_by_sign(), strict=True):
            per_power = np.bincount(powers() - DENORMAL, counts)
            per_power[0] -= zeros
            result.append({int(b) + DENORMAL: int(per_power[b]) for b in np.flatnonzero(per_power)})
        return result[0], result[1]

    def _zeros_by_sign(self) -> tuple[int, int]:
        """How many elements of bins HALF and 0 are taken for zeros."""
        negative = min(int(self.counts[HALF]), self.zeros)
        return negative, self.zeros - negative

    def bins(self) -> tuple[Reals, Reals, Counts]:
        """The non-empty bins, ascending: (left, right, count), clipped to the exact range.

        Zeros are one bin with left = right = 0, and so are the numbers below 2^-131.  Within any other bin nothing is
        known of where the values lie; callers take them as evenly spread.
        """
        edges = magnitude_edges()
        negative, positive = self.signed_counts()
        n = np.flatnonzero(negative[1:])[::-1] + 1
        p = np.flatnonzero(positive[1:]) + 1
        middle = int(negative[0] + positive[0])
        zero = np.zeros(1 if middle else 0)
        left = np.concatenate([-edges[n + 1], zero, edges[p]])
        right = np.concatenate([-edges[n], zero, edges[p + 1]])
        count = np.concatenate([negative[n], np.full(zero.shape, middle, np.int64), positive[p]])
        if self.finite:
            left, right = np.clip(left, self.lo, self.hi), np.clip(right, self.lo, self.hi)
        return left, right, count

    def magnitudes(self) -> tuple[Reals, Reals, Counts]:
        """The non-empty bins of ``|x|``, ascending, zeros first: (left, right, count), clipped to :attr:`absmax`."""
        edges = magnitude_edges()
        counts = self.magnitude_counts()
        filled = np.flatnonzero(counts)
        left, right = edges[filled], edges[filled + 1].copy()
        right[filled == 0] = 0.0
        return left, np.minimum(right, self.absmax), counts[filled]

    def percentile_bounds(self, p: float) -> tuple[float, float]:
        """Bounds on the ``p``-th percentile (0..100): the ends of the bin that holds the ceil(p% · n)-th value.

        The true value of that rank always lies within.

        Raises:
            ValueError: if there is no finite value, or ``p`` is not in 0..100.
        """
        left, right, at = self._rank(*self.bins(), p)
        return float(left[at]), float(right[at])

    def percentile(self, p: float) -> float:
        """The ``p``-th percentile, taking values as evenly spread within their bin (off by at most 3.1 %)."""
        return self._interpolate(*self.bins(), p)

    def magnitude_percentile(self, p: float) -> float:
        """The ``p``-th percentile of ``|x|``, zeros included; exactly :attr:`absmax` for ``p = 100``."""
        return self._interpolate(*self.magnitudes(), p)

    def _rank(self, left: Reals, right: Reals, count: Counts, p: float) -> tuple[Reals, Reals, int]:
        if not 0 <= p <= 100:
            raise ValueError(f"a percentile lies in 0..100, not {p}")
        if not self.finite:
            raise ValueError("a tensor without finite values has no percentiles")
        total = np.cumsum(count)
        rank = min(max(int(np.ceil(p / 100 * int(total[-1]))), 1), int(total[-1]))
        return left, right, int(np.searchsorted(total, rank))

    def _interpolate(self, left: Reals, right: Reals, count: Counts, p: float) -> float:
        left, right, at = self._rank(left, right, count, p)
        wanted = p / 100 * float(count.sum()) - float(count[:at].sum())
        share = min(max(wanted / float(count[at]), 0.0), 1.0)
        return float(left[at] + share * (right[at] - left[at]))

    def moments(self) -> tuple[float, float]:
        """Mean and variance, estimated: values are taken as evenly spread within their bin.  (0, 0) if empty."""
        left, right, count = self.bins()
        if not count.size:
            return 0.0, 0.0
        center = (left + right) / 2
        total = float(count.sum())
        mean = float((count * center).sum()) / total
        return mean, float((count * ((center - mean) ** 2 + (right - left) ** 2 / 12)).sum()) / total
