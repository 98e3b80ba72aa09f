"""The array's multipliers: one signal for each product of a signed activation and a signed weight."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, signed

from bitwright.fpga.config import Multiplier

PACK_SHIFT = 10
KEPT_BITS = 6


def products(m: Any, kind: Multiplier, activation: Any, first: Any, second: Any | None, name: str) -> list[Any]:
    """Registered products ``activation * first`` and, if there is a second weight, ``activation * second``.

    ``ecp5-pack2`` makes both with one 18 × 18 multiplier: ``P = (a * 2**10 + b) * c``; the low bits of ``P`` are those of
    ``b * c``, and what ``b * c`` borrows from ``a * c`` follows from 6 bits of ``a * c``.  Exact for ``a`` in
    ``-127 .. 127``; the compiler refuses -128 there.
    """
    if kind == "ecp5-pack2" and second is not None:
        return _packed(m, activation, second, first, name)[::-1]
    made = []
    for at, weight in enumerate(w for w in (first, second) if w is not None):
        product = Signal(signed(16), name=f"{name}_{at}")
        m.d.sync += product.eq(activation * weight)
        made.append(product)
    return made


def _packed(m: Module, c: Any, a: Any, b: Any, name: str) -> list[Any]:
    """``[a * c, b * c]``."""
    both = Signal(signed(18), name=f"{name}_weights")
    wide = Signal(signed(26), name=f"{name}_wide")
    small = Signal(KEPT_BITS, name=f"{name}_small")
    m.d.comb += both.eq((a << PACK_SHIFT) + b)
    m.d.sync += [wide.eq(both * c), small.eq(a[:KEPT_BITS] * c[:KEPT_BITS])]
    upper = wide[PACK_SHIFT:].as_signed()
    # Bits 10 .. 15 of b * c: what the upper part has too little of modulo 64, as a signed number.
    borrow = (upper[:KEPT_BITS] - small)[:KEPT_BITS].as_signed()
    low = Signal(signed(16), name=f"{name}_low")
    high = Signal(signed(16), name=f"{name}_high")
    m.d.comb += [low.eq((borrow << PACK_SHIFT) | wide[:PACK_SHIFT]), high.eq(upper - borrow)]
    return [high, low]
