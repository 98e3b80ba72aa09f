"""The end of a sum in the processor, as the one expression that simulator and hardware are rendered from."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.expr import Expr, maximum, minimum, round_shift, var
from bitwright.number.format import Rounding
from bitwright.number.render import numpy_value


def _signed(name: str, bits: int) -> Expr:
    return var(name, -(1 << bits - 1), (1 << bits - 1) - 1)


@cache
def rounding_shift(rounding: Rounding, acc_bits: int, shift_bits: int) -> Expr:
    """``round(acc / 2**shift)`` over the variables ``acc`` and ``shift``.

    Args:
        rounding: Of the processor.
        acc_bits: Width of the two's-complement sum.
        shift_bits: Width of the shift.
    """
    return round_shift(_signed("acc", acc_bits), var("shift", 0, min((1 << shift_bits) - 1, 47)), rounding)


@cache
def clamping(bits: int) -> Expr:
    """``acc`` between ``lo`` and ``hi``, which are bytes."""
    return minimum(maximum(_signed("acc", bits), _signed("lo", 8)), _signed("hi", 8))


def requantize(rounding: Rounding, acc: NDArray[np.int64], shift: int, lo: int, hi: int) -> NDArray[np.int64]:
    """The processor's result for sums ``acc``, any shape."""
    values: dict[str, NDArray[Any]] = {"acc": acc, "shift": np.asarray(shift)}
    shifted = numpy_value(rounding_shift(rounding, 48, 6), values)
    return numpy_value(clamping(50), {"acc": shifted, "lo": np.asarray(lo), "hi": np.asarray(hi)})
