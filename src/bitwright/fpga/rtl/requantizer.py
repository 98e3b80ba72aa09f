"""The end of a sum, rendered from the same expressions as the simulator's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from amaranth.hdl import Signal, signed

from bitwright.fpga.requant import clamping, rounding_shift
from bitwright.number.expr import Op
from bitwright.number.expr import var as variable
from bitwright.number.format import Rounding
from bitwright.number.hardware import amaranth_value


def rounded(m: Any, rounding: Rounding, acc: Any, shift: Any, register: bool, name: str) -> Any:
    """``round(acc / 2**shift)`` for a signed ``acc`` and an unsigned ``shift`` that holds still.

    Every rounding ends in a shift to the right; with ``register`` there is one before that shift, and the result comes a
    cycle later.
    """
    values = {"acc": acc, "shift": shift}
    expr = rounding_shift(rounding, len(acc), len(shift))
    if not register:
        return amaranth_value(expr, values)
    if expr.op is not Op.SHR:
        raise NotImplementedError(f"{rounding.value} does not end in a shift")
    before, by = expr.args
    held = Signal(signed(before.bits), name=f"{name}_rounded")
    m.d.sync += held.eq(amaranth_value(before, values))
    return amaranth_value(
        replace(expr, args=(variable("before", before.lo, before.hi), by)), {**values, "before": held}
    )


def clamped(value: Any, lo: Any, hi: Any) -> Any:
    """``value`` between ``lo`` and ``hi``, 8 bits."""
    return amaranth_value(clamping(len(value)), {"acc": value, "lo": lo, "hi": hi})[:8]
