"""The squared error that a format is expected to make on the values of a histogram."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.tensor_stats import Counts

Reals = NDArray[np.float64]


def expected_squared_error(
    left: Reals, right: Reals, count: Counts, scale: Reals, lo_code: Reals, hi_code: Reals
) -> Reals:
    """Sum over all values of ``(x - quantized x)^2``, ``[candidates]``, values evenly spread within each bin.

    Codes are relative to the zero point (``quantized = scale · clip(round(x / scale), lo_code, hi_code)``), so clipping
    and rounding are one formula: with ``u = x / scale`` and ``k`` the code of ``u``, an antiderivative of the squared
    error ``(u - k)^2`` over all rounding cells and both tails is ``k/12 + (u - k)^3/3``.  It is continuous, hence exact
    for a bin that spans any number of cells.  Within one cell the mean of the ends is used, which does not cancel.

    Args:
        left: Left ends of the bins, ``[bins]``; equal to ``right`` for a bin that is a single value.
        right: Right ends.
        count: Values in each bin.
        scale: Step of each candidate, positive.
        lo_code: Lowest code of each candidate.
        hi_code: Highest code.
    """
    u, v = left[None, :] / scale[:, None], right[None, :] / scale[:, None]
    k_u = np.clip(np.rint(u), lo_code[:, None], hi_code[:, None])
    k_v = np.clip(np.rint(v), lo_code[:, None], hi_code[:, None])
    e_u, e_v = u - k_u, v - k_v
    one_cell = (e_u * e_u + e_u * e_v + e_v * e_v) / 3
    across = ((k_v - k_u) / 12 + (e_v**3 - e_u**3) / 3) / np.where(k_u == k_v, 1.0, v - u)
    mean = np.where(k_u == k_v, one_cell, across)
    return np.asarray((mean @ count.astype(np.float64)) * scale**2, np.float64)
