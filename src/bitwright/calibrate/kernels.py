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
from llvmlite import ir
from numba import float32, float64, int32, int64, njit, types, uint32, void
from numba.extending import intrinsic
from numpy.typing import NDArray

from bitwright.calibrate.bins import BINS, HALF, SHIFT

Bits = NDArray[np.int32]

# Below this many elements, filling and folding four tables costs more than the stalls that they avoid.
_DIRECT = 1 << 13

TABLES = 8
# Tables one after the other would all start in the same sets of the innermost cache and push each other out.
_PADDING = 272

_INFINITY = np.int32(0x7F800000)

# Elements read at a time: 8 KiB, so that the second reading finds them in the innermost cache.
_BLOCK = 2048


def scratch() -> NDArray[np.uint32]:
    """Empty tables for :func:`scan_rows`."""
    return np.zeros((TABLES, BINS + _PADDING), np.uint32)


def _read(kind: Any, ndim: int) -> Any:
    """An array that is only read, so that constants and memory maps, which cannot be written, are welcome."""
    return types.Array(kind, ndim, "C", readonly=True)


F = TypeVar("F", bound=Callable[..., Any])


def _compiled(signature: Any) -> Callable[[F], F]:
    """Compile for one signature, keeping the machine code on disk where any folder for it can be written."""

    def compile_(function: F) -> F:
        try:
            return cast(F, njit(signature, nogil=True, cache=True)(function))
        except (RuntimeError, OSError):  # no writable folder, or the disk is full: compile for this process only
            return cast(F, njit(signature, nogil=True)(function))

    return compile_


def _prefetch(_: Any, array: Any, index: Any) -> Any:
    """Ask for ``array[index]``, which may lie beyond the end, to be brought into the cache: a hint without effect.

    Without it a third of the time on large tensors goes to waiting for memory.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        shape = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        hint = builder.module.declare_intrinsic("llvm.prefetch", [address.type], shape)
        # To be read, used more than once, data not instructions.
        builder.call(hint, [address, *(ir.Constant(number, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


_fetch_early: Any = intrinsic(_prefetch)


@_compiled(int64(_read(int32, 2), int32[::1], int32[::1], uint32[:, ::1], int64[::1], int64[::1]))
def scan_rows(
    bits: Bits,
    lo: Bits,
    hi: Bits,
    tables: NDArray[np.uint32],
    hist: NDArray[np.int64],
    zeros: NDArray[np.int64],
) -> np.int64:  # pragma: no cover (machine code)
    """Add ``bits [rows, n]`` to ``hist [BINS]`` and to ``zeros [1]``, and widen the ordered extremes of finite values.

    Row ``r`` belongs to channel ``r % channels`` of ``lo`` and ``hi [channels]``.  Returns the first row that holds NaN
    or infinity, or -1.

    ``tables`` (:func:`scratch`) belongs to the calling thread and is all zero before and after: neighboring elements
    often fall into one bin (after a ReLU half of them are zero), and eight tables keep an increment from waiting for the
    one before it.  Each block of a row is read twice while it is in the innermost cache, once by vector instructions for
    the extremes, once for the bins; meanwhile the next block is on its way from memory.  The smallest magnitude but zero
    says which bins can have been touched, and whether the zeros are all of bin 0.
    """
    rows, n = bits.shape
    direct = rows * n < _DIRECT
    t0, t1, t2, t3 = tables[0], tables[1], tables[2], tables[3]
    t4, t5, t6, t7 = tables[4], tables[5], tables[6], tables[7]
    none, first_bad = -(hist[0] + hist[HALF]), -1
    lowest, highest, smallest = np.int32(2147483647), np.int32(-2147483648), np.uint32(0xFFFFFFFF)
    for r in range(rows):
        row = bits[r]
        low, high = np.int32(2147483647), np.int32(-2147483648)
        for start in range(0, n, _BLOCK):
            block = row[start : start + _BLOCK]  # counted from 0: no check for negative indices, so vectors can be used
            for i in range(block.size):
                v = block[i]
                o = np.int32(v ^ np.int32(np.int32(v >> np.int32(31)) & np.int32(0x7FFFFFFF)))
                low, high = np.int32(min(low, o)), np.int32(max(high, o))
                # One less than the magnitude: zero becomes the largest number.
                m = np.uint32(np.uint32(v & np.int32(0x7FFFFFFF)) - np.uint32(1))
                smallest = np.uint32(min(smallest, m))
            if direct:
                for i in range(block.size):
                    hist[np.uint32(block[i]) >> np.uint32(SHIFT)] += 1
                continue
            whole = block.size & ~7
            for i in range(0, whole, 8):
                _fetch_early(block, i + _BLOCK)
                t0[np.uint32(block[i]) >> np.uint32(SHIFT)] += np.uint32(1)
                t1[np.uint32(block[i + 1]) >> np.uint32(SHIFT)] += np.uint32(1)
                t2[np.uint32(block[i + 2]) >> np.uint32(SHIFT)] += np.uint32(1)
                t3[np.uint32(block[i + 3]) >> np.uint32(SHIFT)] += np.uint32(1)
                t4[np.uint32(block[i + 4]) >> np.uint32(SHIFT)] += np.uint32(1)
                t5[np.uint32(block[i + 5]) >> np.uint32(SHIFT)] += np.uint32(1)
                t6[np.uint32(block[i + 6]) >> np.uint32(SHIFT)] += np.uint32(1)
                t7[np.uint32(block[i + 7]) >> np.uint32(SHIFT)] += np.uint32(1)
            for i in range(whole, block.size):
                t0[np.uint32(block[i]) >> np.uint32(SHIFT)] += np.uint32(1)
        lowest, highest = np.int32(min(lowest, low)), np.int32(max(highest, high))
        if high >= _INFINITY or low <= ~_INFINITY:
            first_bad = r if first_bad < 0 else first_bad
            low, high = np.int32(2147483647), np.int32(-2147483648)
            for i in range(n):
                v = row[i]
                if np.int32(v & np.int32(0x7FFFFFFF)) < _INFINITY:
                    o = np.int32(v ^ np.int32(np.int32(v >> np.int32(31)) & np.int32(0x7FFFFFFF)))
                    low, high = np.int32(min(low, o)), np.int32(max(high, o))
        c = r % lo.size
        lo[c], hi[c] = np.int32(min(lo[c], low)), np.int32(max(hi[c], high))
    if not direct:
        above, below = (int(highest) if highest > 0 else 0), (~int(lowest) if lowest < 0 else 0)
        top, bottom = max(above, below) >> SHIFT, (int(smallest) + 1) >> SHIFT
        for half in range(0, BINS, HALF):
            for part in range(2):  # bin 0, then those that can have been touched
                for i in range(half + part * max(bottom, 1), half + part * top + 1):
                    for t in range(TABLES):
                        hist[i] += np.int64(tables[t, i])
                        tables[t, i] = np.uint32(0)
    none += hist[0] + hist[HALF]
    if (int(smallest) + 1) >> SHIFT == 0:  # bin 0 holds denormals too
        none = 0
        for r in range(rows):
            for i in range(n):
                if bits[r, i] & np.int32(0x7FFFFFFF) == 0:
                    none += 1
    zeros[0] += none
    return np.int64(first_bad)


@_compiled(void(_read(int32, 2), int32[::1], int32[::1]))
def scan_columns(bits: Bits, lo: Bits, hi: Bits) -> None:  # pragma: no cover (machine code)
    """Lower ``lo [n]`` and raise ``hi [n]`` by the ordered bits of the finite values of ``bits [rows, n]``."""
    rows, n = bits.shape
    for r in range(rows):
        row = bits[r]
        for i in range(n):
            v = row[i]
            o = np.int32(v ^ np.int32(np.int32(v >> np.int32(31)) & np.int32(0x7FFFFFFF)))
            finite = np.int32(v & np.int32(0x7FFFFFFF)) < _INFINITY
            low, high = np.int32(min(lo[i], o)), np.int32(max(hi[i], o))
            lo[i] = low if finite else lo[i]
            hi[i] = high if finite else hi[i]


@_compiled(void(_read(int32, 3), int64[:, ::1]))
def channel_histograms(bits: NDArray[np.int32], hist: NDArray[np.int64]) -> None:  # pragma: no cover (machine code)
    """Add ``bits [outer, channels, inner]`` to one histogram per channel, ``hist [channels, BINS]``."""
    for o in range(bits.shape[0]):
        for c in range(bits.shape[1]):
            for i in range(bits.shape[2]):
                hist[c, np.uint32(bits[o, c, i]) >> np.uint32(SHIFT)] += 1


@_compiled(void(_read(float32, 2), *(_read(float64, 2),) * 3, float64[:, ::1]))
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


def scan_rows_numpy(x: NDArray[np.float32]) -> tuple[Bits, Bits, int, NDArray[np.int64], int]:
    """What :func:`scan_rows` computes, from floats ``x [rows, n]``, a channel a row: (lo, hi, zeros, hist, bad row)."""
    order, finite, limits = ordered_numpy(x), np.isfinite(x), np.iinfo(np.int32)
    hist = np.bincount((x.view(np.uint32) >> SHIFT).ravel(), minlength=BINS).astype(np.int64)
    lo, hi = np.where(finite, order, limits.max).min(1), np.where(finite, order, limits.min).max(1)
    bad = np.flatnonzero(~finite.all(1))
    return lo, hi, int((x == 0).sum()), hist, int(bad[0]) if bad.size else -1


def squared_errors_numpy(
    values: NDArray[np.float32], scale: NDArray[np.float64], lo: NDArray[np.float64], hi: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What :func:`squared_errors` computes."""
    x = values.astype(np.float64)[:, None, :]
    q = np.clip(np.floor(x / scale[..., None] + 0.5), lo[..., None], hi[..., None])
    return np.asarray(((x - q * scale[..., None]) ** 2).sum(-1), np.float64)
