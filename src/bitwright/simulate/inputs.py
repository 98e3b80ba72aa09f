"""Real inputs to integers and integers back to real outputs, fast: the rules of ``Format`` in one pass over memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import NonFinite, printable
from bitwright.number.format import Format, Rounding

CODES = {
    Rounding.HALF_AWAY: 0,
    Rounding.HALF_UP: 1,
    Rounding.HALF_EVEN: 2,
    Rounding.TOWARD_ZERO: 3,
    Rounding.FLOOR: 4,
}
WIDEST = 16
"""Bits of the widest format that the compiled loop writes; wider ones go through ``Format.quantize``."""


@cache
def _kernel(how: int) -> Callable[..., int]:
    """The compiled loop of one rounding: ``kernel(x, out, scale, zero, lo, hi)``, the number of NaN in ``x``.

    There is no branch and no way out of the loop, so that the compiler can use vector instructions; every step is exact
    in float64 or rounded as ``Format.quantize`` rounds it.
    """

    def quantize(
        x: NDArray[np.float32], out: NDArray[Any], scale: float, zero: float, lo: float, hi: float
    ) -> int:  # pragma: no cover  (compiled)
        bad = 0
        for i in range(x.size):
            real = np.float64(x[i]) / scale
            if how == 0:
                size = abs(real)
                whole = np.floor(size)
                whole += 1.0 if size - whole >= 0.5 else 0.0
                q = np.copysign(whole, real)
            elif how == 1:
                whole = np.floor(real)
                q = whole + (1.0 if real - whole >= 0.5 else 0.0)
            elif how == 2:
                q = np.rint(real)
            elif how == 3:
                q = np.trunc(real)
            else:
                q = np.floor(real)
            q += zero
            q = lo if q < lo else q
            q = hi if q > hi else q
            bad += 1 if real != real else 0  # noqa: PLR0124  (NaN is the one number that differs from itself)
            out[i] = np.int32(q)
        return bad

    return _compiled(quantize)


@cache
def _widening() -> Callable[..., None]:
    """The compiled loop of :func:`dequantize_output`."""

    def dequantize(
        q: NDArray[Any], out: NDArray[np.float64], scale: float, zero: int
    ) -> None:  # pragma: no cover  (compiled)
        for i in range(q.size):
            out[i] = np.float64(np.int32(q[i]) - zero) * scale

    return _compiled(dequantize)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as machine code, kept on disk where any folder for it can be written."""
    import numba

    try:
        return numba.njit(nogil=True, cache=True)(function)
    except (RuntimeError, OSError):
        return numba.njit(nogil=True)(function)


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
    if format.bits <= WIDEST and format.axis is None:
        out = np.empty(flat.size, format.dtype)
        limits = (float(format.zero_point), float(format.lo), float(format.hi))
        if not _kernel(CODES[rounding])(flat, out, float(format.scale), *limits):
            return out.reshape(x.shape)
    elif not np.isnan(flat).any():
        return format.quantize(flat.reshape(x.shape), rounding)
    first = int(np.argmax(np.isnan(flat)))
    sample = first // max(1, flat.size // max(1, len(x)))
    raise NonFinite(
        f"Sample {sample} of the batch holds NaN in input '{printable(name)}': no integer stands for it. Leave it out.",
        tensor=name,
        sample=sample,
    )


def dequantize_output(q: NDArray[np.integer[Any]], format: Format) -> NDArray[np.float64]:
    """The real numbers that integers ``q`` stand for, as ``format.dequantize(q)`` gives them; same shape as ``q``."""
    if format.axis is not None or q.dtype.itemsize > WIDEST // 8:
        return format.dequantize(q)
    out = np.empty(q.size, np.float64)
    _widening()(np.ascontiguousarray(q).reshape(-1), out, float(format.scale), int(format.zero_point))
    return out.reshape(q.shape)
