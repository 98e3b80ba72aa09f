"""Counting arrays into statistics, as they come."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.bins import BINS, nonfinite_count

if TYPE_CHECKING:
    from bitwright.calibrate.tensor_stats import Counts, TensorStats

# A row shorter than this is not worth a pass of its own for the extremes of its channel.
_SHORT_ROW = 16
# A row at least this long is counted into the histogram of its channel at once.
_LONG_ROW = 4096
_scratch = threading.local()


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
        from bitwright.calibrate.kernels import scan_rows

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
            bad = np.int64(self._add_channels(x, *self._split(x.shape)))
        if bad < 0 or not x.ndim:
            return None if bad < 0 else 0
        return int(np.argmin(np.isfinite(x.reshape(len(x), -1)).all(1)))

    def value(self) -> TensorStats:
        """The statistics of everything added so far."""
        from bitwright.calibrate.tensor_stats import TensorStats

        lo, hi = _floats(self._lo, np.inf), _floats(self._hi, -np.inf)
        hist = self._hist if self._channel_hist is None else self._channel_hist.sum(0)
        channels = self._axis is not None and bool(self._lo.size)
        return TensorStats(
            self._count,
            int(self._zeros[0]),
            nonfinite_count(hist),
            float(lo.min(initial=np.inf)),
            float(hi.max(initial=-np.inf)),
            hist,
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

    def _add_channels(self, x: NDArray[np.float32], outer: int, channels: int, inner: int) -> int:
        """Count an array that has channels; a negative number if all its values are finite."""
        from bitwright.calibrate.kernels import channel_histograms, scan_rows

        tables = _tables()
        if self._wants_hist and self._channel_hist is None:
            self._channel_hist = np.zeros((channels, BINS), np.int64)
        if self._channel_hist is not None and inner >= _LONG_ROW:
            bad = -1
            for r, row in enumerate(x.reshape(outer * channels, 1, inner).view(np.int32)):
                at = slice(r % channels, r % channels + 1)
                hist = self._channel_hist[r % channels]
                bad = max(bad, int(scan_rows(row, self._lo[at], self._hi[at], tables, hist, self._zeros)))
            return bad
        if inner >= _SHORT_ROW:
            bits = x.reshape(outer * channels, inner).view(np.int32)
            bad = int(scan_rows(bits, self._lo, self._hi, tables, self._hist, self._zeros))
        else:
            bits = x.reshape(1, -1).view(np.int32)
            bad = int(scan_rows(bits, *_no_extremes(1), tables, self._hist, self._zeros))
            self._add_columns(x.reshape(outer, channels * inner), inner)
        if self._channel_hist is not None:
            channel_histograms(x.reshape(outer, channels, inner).view(np.int32), self._channel_hist)
        return bad

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
