"""Real inputs to integers and back, fast: the same rule as ``Format.quantize`` in one pass."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from bitwright.errors import NonFinite
from bitwright.number.format import Format, Rounding

CODES = {
    Rounding.HALF_AWAY: 0,
    Rounding.HALF_UP: 1,
    Rounding.HALF_EVEN: 2,
    Rounding.TOWARD_ZERO: 3,
    Rounding.FLOOR: 4,
}


@numba.njit(nogil=True, cache=True)
def _quantize(
    x: NDArray[np.float32], out: NDArray[np.int32], scale: float, zero: int, lo: int, hi: int, how: int
) -> int:  # pragma: no cover  (compiled)
    """Quantize a flat float32 array into int32 codes; returns the first index that is NaN, or -1."""
    for i in range(x.size):
        real = np.float64(x[i]) / scale
        if real != real:  # noqa: PLR0124  (NaN is the one number that differs from itself)
            return i
        low = np.floor(real)
        part = real - low
        if how == 0:
            low += 1.0 if (part > 0.5 or (part == 0.5 and real >= 0)) else 0.0
        elif how == 1:
            low += 1.0 if part >= 0.5 else 0.0
        elif how == 2:
            low = np.rint(real)
        elif how == 3:
            low = np.trunc(real)
        low += zero
        out[i] = lo if low < lo else hi if low > hi else np.int32(low)
    return -1


def quantize_input(
    x: NDArray[Any], format: Format, rounding: Rounding, name: str = "input"
) -> NDArray[np.integer[Any]]:
    """Integers of a network's input, as ``format.quantize(x, rounding)`` gives them.

    Args:
        x: Real numbers of any shape; integers (token numbers) pass through.
        format: Per-tensor format of the input.
        rounding: How to round.
        name: The input, for the error.

    Raises:
        NonFinite: if ``x`` holds NaN.
    """
    x = np.asarray(x)
    if np.issubdtype(x.dtype, np.integer) or x.dtype == np.bool_:
        return np.clip(x.astype(np.int64), format.lo, format.hi).astype(format.dtype)
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    out = np.empty(flat.size, np.int32)
    bad = _quantize(flat, out, float(format.scale), int(format.zero_point), format.lo, format.hi, CODES[rounding])
    if bad >= 0:
        sample = bad // max(1, flat.size // max(1, len(x)))
        raise NonFinite(
            f"Sample {sample} of the batch holds NaN in input '{name}': no integer stands for it. Leave it out.",
            tensor=name,
            sample=sample,
        )
    return out.astype(format.dtype).reshape(x.shape)
