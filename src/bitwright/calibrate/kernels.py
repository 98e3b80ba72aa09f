"""Compiled loops over float bits, and the plain NumPy functions that say what they compute.

The loops read a float32 array as int32 bits.  Bits in ``order`` form (see :func:`ordered_numpy`) compare as integers
exactly as the floats compare, which is what lets the compiler use vector instructions for minimum and maximum: the
float forms must care about NaN and signed zero, and are eight times slower.

Importing this module loads numba and the machine code (or compiles it, about a second, the first time ever), so import
it inside functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bitwright.calibrate.bins import BINS, SHIFT

Bits = NDArray[np.int32]

# Below this many elements, filling and folding four tables costs more than the stalls that they avoid.
_DIRECT = 1 << 14


F = TypeVar("F", bound=Callable[..., Any])


def _compiled(signature: str) -> Callable[[F], F]:
    """Compile for one signature, keeping the machine code on disk where any folder for it can be written."""

    def compile_(function: F) -> F:
        try:
            return cast(F, njit(signature, nogil=True, cache=True)(function))
        except (RuntimeError, OSError):  # no writable folder, or the disk is full: compile for this process only
            return cast(F, njit(signature, nogil=True)(function))

    return compile_


@_compiled("int64(int32[:,::1], int32[::1], int32[::1], uint32[:,::1], int64[::1])")
def scan_rows(
    bits: Bits, lo: Bits, hi: Bits, tables: NDArray[np.uint32], hist: NDArray[np.int64]
) -> np.int64:  # pragma: no cover (machine code)
    """Add ``bits [rows, n]`` to ``hist [BINS]``, put each row's ordered extremes in ``lo``/``hi [rows]``, count zeros.

    ``tables [4, BINS]`` is scratch of the calling thread, all zero before and after: neighboring elements often fall
    into one bin, and four tables keep an increment from waiting for the one before it.
    """
    rows, n = bits.shape
    zeros = np.int64(0)
    direct = rows * n < _DIRECT
    t0, t1, t2, t3 = tables[0], tables[1], tables[2], tables[3]
    for r in range(rows):
        row = bits[r]
        low, high, none = np.int32(2147483647), np.int32(-2147483648), np.uint32(0)
        for i in range(n):
            v = np.int32(row[i] ^ np.int32(np.int32(row[i] >> np.int32(31)) & np.int32(0x7FFFFFFF)))
            low, high = np.int32(min(low, v)), np.int32(max(high, v))
        lo[r], hi[r] = low, high
        for i in range(n):
            none += np.uint32(1) if (row[i] & np.int32(0x7FFFFFFF)) == 0 else np.uint32(0)
        zeros += np.int64(none)
        if direct:
            for i in range(n):
                hist[np.uint32(row[i]) >> np.uint32(SHIFT)] += 1
            continue
        whole = n & ~3
        for i in range(0, whole, 4):
            t0[np.uint32(row[i]) >> np.uint32(SHIFT)] += np.uint32(1)
            t1[np.uint32(row[i + 1]) >> np.uint32(SHIFT)] += np.uint32(1)
            t2[np.uint32(row[i + 2]) >> np.uint32(SHIFT)] += np.uint32(1)
            t3[np.uint32(row[i + 3]) >> np.uint32(SHIFT)] += np.uint32(1)
        for i in range(whole, n):
            t0[np.uint32(row[i]) >> np.uint32(SHIFT)] += np.uint32(1)
    if not direct:
        for i in range(BINS):
            hist[i] += np.int64(t0[i]) + np.int64(t1[i]) + np.int64(t2[i]) + np.int64(t3[i])
        tables[:] = 0
    return zeros


@_compiled("void(int32[:,::1], int32[::1], int32[::1])")
def scan_columns(bits: Bits, lo: Bits, hi: Bits) -> None:  # pragma: no cover (machine code)
    """Lower ``lo [n]`` and raise ``hi [n]`` by the ordered bits of every column of ``bits [rows, n]``."""
    rows, n = bits.shape
    for r in range(rows):
        row = bits[r]
        for i in range(n):
            v = np.int32(row[i] ^ np.int32(np.int32(row[i] >> np.int32(31)) & np.int32(0x7FFFFFFF)))
            lo[i], hi[i] = np.int32(min(lo[i], v)), np.int32(max(hi[i], v))


@_compiled("void(int32[:,:,::1], int64[:,::1])")
def channel_histograms(bits: NDArray[np.int32], hist: NDArray[np.int64]) -> None:  # pragma: no cover (machine code)
    """Add ``bits [outer, channels, inner]`` to one histogram per channel, ``hist [channels, BINS]``."""
    for o in range(bits.shape[0]):
        for c in range(bits.shape[1]):
            for i in range(bits.shape[2]):
                hist[c, np.uint32(bits[o, c, i]) >> np.uint32(SHIFT)] += 1


@_compiled("void(float32[:,::1], float64[:,::1], float64[:,::1], float64[:,::1], float64[:,::1])")
def squared_errors(
    values: NDArray[np.float32],
    scale: NDArray[np.float64],
    lo: NDArray[np.float64],
    hi: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:  # pragma: no cover (machine code)
    """``out [c, t] = sum over k of (values[c, k] - quantized)^2`` for codes ``lo[c, t]..hi[c, t]`` of ``scale[c, t]``.

    The inner loop runs over the candidates ``t``, whose sums do not depend on each other: vector instructions without
    reordering any sum, so the result is the same on every machine.  How ties are rounded does not matter here, both
    neighbors are equally far.
    """
    channels, n = values.shape
    candidates = scale.shape[1]
    for c in range(channels):
        s, low, high, total = scale[c], lo[c], hi[c], out[c]
        inverse = 1.0 / s
        for t in range(candidates):
            total[t] = 0.0
        for k in range(n):
            x = np.float64(values[c, k])
            for t in range(candidates):
                q = np.floor(x * inverse[t] + 0.5)
                q = low[t] if q < low[t] else q
                q = high[t] if q > high[t] else q
                e = x - q * s[t]
                total[t] += e * e


def ordered_numpy(x: NDArray[np.float32]) -> Bits:
    """Int32 numbers that compare as the floats do: NaNs beyond the infinities, -0.0 just below 0.0."""
    bits = np.ascontiguousarray(x, np.float32).view(np.int32)
    return np.asarray(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)), np.int32)


def scan_rows_numpy(x: NDArray[np.float32]) -> tuple[Bits, Bits, int, NDArray[np.int64]]:
    """What :func:`scan_rows` computes, from floats ``x [rows, n]``: (lo, hi, zeros, hist)."""
    order = ordered_numpy(x)
    hist = np.bincount((x.view(np.uint32) >> SHIFT).ravel(), minlength=BINS)
    return order.min(1), order.max(1), int((x == 0).sum()), hist.astype(np.int64)


def squared_errors_numpy(
    values: NDArray[np.float32], scale: NDArray[np.float64], lo: NDArray[np.float64], hi: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What :func:`squared_errors` computes."""
    x = values.astype(np.float64)[:, None, :]
    q = np.clip(np.floor(x / scale[..., None] + 0.5), lo[..., None], hi[..., None])
    return np.asarray(((x - q * scale[..., None]) ** 2).sum(-1), np.float64)
