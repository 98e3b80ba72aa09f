"""The histogram seen through evenly spaced bins, as algorithms made for such histograms want it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitwright.calibrate.tensor_stats import Counts, TensorStats

Reals = NDArray[np.float64]


def below(left: Reals, right: Reals, count: Counts, x: ArrayLike) -> Reals:
    """How many values lie below ``x``, values evenly spread within their (ascending) bins; shape of ``x``.

    A bin whose ends coincide is a jump: its values lie below every larger ``x`` only.
    """
    x = np.asarray(x, np.float64)
    point = left == right
    points, at = left[point], np.concatenate([[0], np.cumsum(count[point])])
    result = at[np.searchsorted(points, x)].astype(np.float64)
    left, right, count = left[~point], right[~point], count[~point]
    if len(left):
        total = np.cumsum(count).astype(np.float64)
        knots = np.stack([left, right], 1).ravel()
        heights = np.stack([total - count, total], 1).ravel()
        result += np.interp(x, knots, heights)
    return result


def linear_counts(left: Reals, right: Reals, count: Counts, edges: Reals) -> Counts:
    """Whole counts between neighboring ``edges``.

    A bin of ours that spans several linear ones deals its values out evenly, each value whole: an outlier stays one
    count in one bin with empty bins around it, as it would be if the values themselves had been counted.
    """
    return np.asarray(np.diff(np.floor(below(left, right, count, edges) + 0.5)), np.int64)


def linear_magnitudes(stats: TensorStats, bins: int = 2048) -> Counts:
    """Counts of non-zero ``|x|`` in ``bins`` equal steps from 0 to :attr:`TensorStats.absmax`, int64 ``[bins]``."""
    left, right, count = stats.magnitudes()
    left, right, count = left[right > 0], right[right > 0], count[right > 0]
    edges = np.linspace(0, stats.absmax, bins + 1)
    edges[-1] = np.inf  # the largest value belongs to the last bin
    return linear_counts(left, right, count, edges)
