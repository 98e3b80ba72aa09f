"""The end of a sum in the processor, as the one expression that simulator and hardware are rendered from."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr, maximum, minimum, round_shift, var
from bitwright.number.format import Rounding
from bitwright.number.render import numpy_value


@cache
def requantizer(rounding: Rounding, acc_bits: int, shift_bits: int) -> Expr:
    """``clamp(round(acc / 2**shift), lo, hi)`` over the variables ``acc``, ``shift``, ``lo`` and ``hi``.

    Args:
        rounding: Of the processor.
        acc_bits: Width of the two's-complement sum.
        shift_bits: Width of the shift.
    """
    acc = var("acc", -(1 << acc_bits - 1), (1 << acc_bits - 1) - 1)
    shift = var("shift", 0, (1 << shift_bits) - 1)
    lo, hi = var("lo", -128, 127), var("hi", -128, 127)
    return minimum(maximum(round_shift(acc, shift, rounding), lo), hi)


def requantize(rounding: Rounding, acc: NDArray[np.int64], shift: int, lo: int, hi: int) -> NDArray[np.int64]:
    """The processor's result for sums ``acc``, any shape."""
    values: dict[str, NDArray[Any]] = {
        "acc": acc, "shift": np.asarray(shift), "lo": np.asarray(lo), "hi": np.asarray(hi)
    }  # fmt: skip
    return numpy_value(requantizer(rounding, 48, 5 if shift < 32 else 6), values)
