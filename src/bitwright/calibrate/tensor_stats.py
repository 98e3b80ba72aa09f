"""The statistics of one tensor, and everything that can be read off its histogram."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitwright.calibrate.bins import BINS, DENORMAL, FINITE, HALF, magnitude_edges, nonfinite_count, powers

Counts = NDArray[np.int64]
Reals = NDArray[np.float64]

# A row shorter than this is not worth a pass of its own for the extremes of its channel.
_SHORT_ROW = 16
_scratch = threading.local()


def _frozen(array: NDArray[Any] | None) -> NDArray[Any] | None:
    if array is None:
        return None
    array = np.array(array)
    array.flags.writeable = False
    return array


def _same(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    return (a is None) == (b is None) and (a is None or b is None or np.array_equal(a, b))


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
        """Both together.

        Raises:
            ValueError: if both know channels, but different ones.
        """
        if not isinstance(other, TensorStats):
            return NotImplemented
        if not other.count and other.axis is None:
            return self
        if not self.count and self.axis is None:
            return other
        if self.axis != other.axis or self.channels != other.channels:
            raise ValueError(
                f"statistics of {self.channels} channels on axis {self.axis} and of {other.channels} on axis "
                f"{other.axis} cannot be added"
            )
        with_channels = self.channel_lo is not None and other.channel_lo is not None
        both = self.channel_hist is not None and other.channel_hist is not None
        return TensorStats(
            self.count + other.count,
            self.zeros + other.zeros,
            self.nonfinite + other.nonfinite,
            min(self.lo, other.lo),
            max(self.hi, other.hi),
            self.counts + other.counts,
            self.axis,
            np.minimum(self.channel_lo, other.channel_lo) if with_channels else None,  # type: ignore[arg-type]
            np.maximum(self.channel_hi, other.channel_hi) if with_channels else None,  # type: ignore[arg-type]
            self.channel_hist + other.channel_hist if both else None,  # type: ignore[operator]
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


class Tally:
    """Adds arrays up into a :class:`TensorStats`; the arrays are not kept.  One thread at a time may add.

    ``axis`` and ``channel_hist`` as in :meth:`TensorStats.of`.
    """

    def __init__(self, axis: int | None = None, *, channel_hist: bool = False) -> None:
        self._axis, self._wants_hist = axis, channel_hist and axis is not None
        self._count = 0
        self._zeros = np.zeros(1, np.int64)
        self._hist: Counts = np.zeros(BINS, np.int64)
        # Extremes as ordered bits, one per channel (one in all without channels); made when channels are known.
        self._lo = self._hi = np.empty(0, np.int32)
        self._channel_hist: Counts | None = None

    def add(self, x: NDArray[np.float32]) -> int | None:
        """Count every element of ``x``; returns the first index on axis 0 that holds NaN or infinity, else None.

        Raises:
            ValueError: if the number of channels differs from the arrays before.
        """
        from bitwright.calibrate.kernels import channel_histograms, scan_rows

        flags = x.flags
        if x.dtype != np.float32 or not (flags.c_contiguous and flags.aligned):
            x = np.require(x, np.float32, ["C", "A"])
        if not x.size:
            return None
        self._count += x.size
        if self._axis is None:
            if not self._lo.size:
                self._lo, self._hi = _no_extremes(1)
            bits = x.reshape(1, -1).view(np.int32)
            bad = scan_rows(bits, self._lo, self._hi, _tables(), self._hist, self._zeros)
        else:
            outer, channels, inner = self._split(x.shape)
            if inner >= _SHORT_ROW:
                bits = x.reshape(outer * channels, inner).view(np.int32)
                bad = scan_rows(bits, self._lo, self._hi, _tables(), self._hist, self._zeros)
            else:
                bits = x.reshape(1, -1).view(np.int32)
                bad = scan_rows(bits, *_no_extremes(1), _tables(), self._hist, self._zeros)
                self._add_columns(x.reshape(outer, channels * inner), inner)
            if self._wants_hist:
                if self._channel_hist is None:
                    self._channel_hist = np.zeros((channels, BINS), np.int64)
                channel_histograms(x.reshape(outer, channels, inner).view(np.int32), self._channel_hist)
        if bad < 0 or not x.ndim:
            return None if bad < 0 else 0
        return int(np.argmin(np.isfinite(x.reshape(len(x), -1)).all(1)))

    def value(self) -> TensorStats:
        """The statistics of everything added so far."""
        lo, hi = _floats(self._lo, np.inf), _floats(self._hi, -np.inf)
        channels = self._axis is not None and bool(self._lo.size)
        return TensorStats(
            self._count,
            int(self._zeros[0]),
            nonfinite_count(self._hist),
            float(lo.min(initial=np.inf)),
            float(hi.max(initial=-np.inf)),
            self._hist,
            self._axis if channels else None,
            lo if channels else None,
            hi if channels else None,
            self._channel_hist,
        )

    def _split(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        assert self._axis is not None
        axis = self._axis = self._axis % len(shape)
        channels = shape[axis]
        if not self._lo.size:
            self._lo, self._hi = _no_extremes(channels)
        elif len(self._lo) != channels:
            raise ValueError(f"{channels} channels on axis {axis}, {len(self._lo)} before")
        return math.prod(shape[:axis]), channels, math.prod(shape[axis + 1 :])

    def _add_columns(self, table: NDArray[np.float32], inner: int) -> None:
        """Extremes of channels of ``inner`` neighboring columns each."""
        from bitwright.calibrate.kernels import scan_columns

        lo, hi = _no_extremes(table.shape[1])
        scan_columns(table.view(np.int32), lo, hi)
        np.minimum(self._lo, lo.reshape(-1, inner).min(1), out=self._lo)
        np.maximum(self._hi, hi.reshape(-1, inner).max(1), out=self._hi)


_NOTHING_LO, _NOTHING_HI = np.iinfo(np.int32).max, np.iinfo(np.int32).min


def _no_extremes(n: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    return np.full(n, _NOTHING_LO, np.int32), np.full(n, _NOTHING_HI, np.int32)


def _tables() -> NDArray[np.uint32]:
    """The calling thread's scratch."""
    if not hasattr(_scratch, "tables"):
        from bitwright.calibrate.kernels import scratch

        _scratch.tables = scratch()
    return cast(NDArray[np.uint32], _scratch.tables)


def _floats(order: NDArray[np.int32], nothing: float) -> NDArray[np.float32]:
    """The floats that ordered bits stand for (the ordering is its own inverse), -0.0 as 0.0: which of the two came
    first must not show.
    """
    real = (order ^ ((order >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
    empty = (order == _NOTHING_LO) | (order == _NOTHING_HI)
    return np.where(empty, np.float32(nothing), real) + np.float32(0)
