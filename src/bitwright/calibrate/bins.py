"""The fixed bins of every histogram: sign, exponent and five leading mantissa bits of a float32.

A bin's number is ``bits >> 18``: bin ``i < 8192`` holds the positive numbers of magnitude bin ``i``, bin ``8192 + i``
the negative ones.  Magnitude bin ``m`` holds ``[edge(m), edge(m + 1))``; 32 bins to a power of two, so a bin is 1.6 % to
3.1 % wide.  Bin 0 holds zero and denormals below 2^-131; bins from 8160 on hold infinities and NaNs.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SHIFT = 18
BINS = 1 << (32 - SHIFT)
HALF = BINS // 2
FINITE = 0xFF << (23 - SHIFT)
"""Number of magnitude bins that hold finite numbers."""
DENORMAL = -127
"""The power of two under which every denormal number is counted."""


@cache
def magnitude_edges() -> NDArray[np.float64]:
    """Edges of the finite magnitude bins, ascending, shape ``[FINITE + 1]``; the last one is 2^128."""
    edges = (np.arange(FINITE + 1, dtype=np.uint32) << SHIFT).view(np.float32).astype(np.float64)
    edges[-1] = 2.0**128
    edges.flags.writeable = False
    return edges


@cache
def powers() -> NDArray[np.int64]:
    """``floor(log2)`` of the numbers in each finite magnitude bin, shape ``[FINITE]``; denormals count as -127."""
    result = (np.arange(FINITE, dtype=np.int64) >> (23 - SHIFT)) - 127
    result.flags.writeable = False
    return result


def nonfinite_count(hist: NDArray[np.int64]) -> int:
    """How many infinities and NaNs a histogram ``[BINS]`` holds."""
    return int(hist[FINITE:HALF].sum() + hist[HALF + FINITE :].sum())
