"""The end of a sum, rendered from the same expressions as the simulator's."""

from __future__ import annotations

from typing import Any

from bitwright.fpga.requant import clamping, rounding_shift
from bitwright.number.format import Rounding
from bitwright.number.hardware import amaranth_value


def rounded(rounding: Rounding, acc: Any, shift: Any) -> Any:
    """``round(acc / 2**shift)`` for a signed ``acc`` and an unsigned ``shift``."""
    return amaranth_value(rounding_shift(rounding, len(acc), len(shift)), {"acc": acc, "shift": shift})


def clamped(value: Any, lo: Any, hi: Any) -> Any:
    """``value`` between ``lo`` and ``hi``, 8 bits."""
    return amaranth_value(clamping(len(value)), {"acc": value, "lo": lo, "hi": hi})[:8]
