"""The end of a sum: the rounding is rendered from the same expression as the simulator's.

Two parts of it have forms of their own, because they are smaller or faster: the last shift (:func:`narrow_shift`, 9 bits in
place of 32) and the clamp (:func:`clamped`, both comparisons at once).  Tests hold the first to what it says, and the whole
to the simulator's integers.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed

from bitwright.fpga.requant import rounding_shift
from bitwright.number.expr import Op
from bitwright.number.format import Rounding
from bitwright.number.hardware import amaranth_value

NARROW_BITS = 9
"""A sum that is shifted is held between -256 and 255: what is outside of them is outside of every byte's clamp too."""


def rounded(m: Any, rounding: Rounding, acc: Any, shift: Any, register: bool, name: str, *, late: bool = False) -> Any:
    """``round(acc / 2**shift)``, held in a few bits more than a byte's, for an unsigned ``shift`` that holds still.

    Every rounding ends in a shift to the right; with ``register`` there is one before that shift, and the result comes a
    cycle later.  With ``late`` halves up are rounded behind the shift, where few bits are left:
    ``floor((acc + 2**(s - 1)) / 2**s) = floor((floor(2 * acc / 2**s) + 1) / 2)``.
    """
    if late and rounding is Rounding.HALF_UP:
        doubled = narrow_shift(m, Cat(Const(0, 1), acc).as_signed(), shift, name, NARROW_BITS + 1)
        return (doubled + 1) >> 1
    expr = rounding_shift(rounding, len(acc), len(shift))
    if expr.op is not Op.SHR:
        raise NotImplementedError(f"{rounding.value} does not end in a shift")
    before, by = expr.args
    values = {"acc": acc, "shift": shift}
    value = amaranth_value(before, values)
    if register:
        held = Signal(signed(before.bits), name=f"{name}_rounded")
        m.d.sync += held.eq(value)
        value = held
    return narrow_shift(m, value, Value.cast(amaranth_value(by, values))[: by.hi.bit_length()], name)


def narrow_shift(m: Any, value: Any, shift: Any, name: str, bits: int = NARROW_BITS) -> Any:
    """``value >> shift`` for a signed ``value``, held in ``bits`` bits.

    Powers of two from the largest on; after each only the bits stay that the smaller ones can still bring down, and those
    that are given up must be copies of the sign.  A third of the multiplexers of a shifter for all bits.  What each power
    leaves has a signal of its own: as one expression it would be written out three times for each.
    """
    value = Value.cast(value)
    sign, over = value[-1], Const(0, 1)
    steps = [1 << bit for bit in reversed(range(len(shift)))]
    for step, taken in zip(steps, reversed(shift), strict=True):
        window = bits + step - 1
        value = _wide(value, window + step)  # what is brought down has copies of the sign behind it
        kept, lost = Signal(window, name=f"{name}_by{step}"), Signal(name=f"{name}_lost{step}")
        m.d.comb += [
            lost.eq(over | (~taken & (value[window - 1 :] ^ sign.replicate(len(value) - window + 1)).any())),
            kept.eq(Mux(taken, _wide(value >> step, window)[:window], value[:window])),
        ]
        value, over = kept, lost
    value = _wide(value, bits)
    over = over | (value[bits - 1 :] ^ sign.replicate(len(value) - bits + 1)).any()
    end = Cat((~sign).replicate(bits - 1), sign)
    return Mux(over, end, value[:bits]).as_signed()


def _wide(value: Any, bits: int) -> Any:
    """At least ``bits`` bits of a signed value."""
    value = Value.cast(value)
    return value if len(value) >= bits else Cat(value, value[-1].replicate(bits - len(value)))


def clamped(value: Any, lo: Any, hi: Any) -> Any:
    """``value`` between ``lo`` and ``hi``, 8 bits, for ``lo <= hi``: what :func:`bitwright.fpga.requant.clamping` says.

    Both comparisons are made at once, not one after the other.
    """
    return Mux(value < lo, lo, Mux(value > hi, hi, value))[:8]
