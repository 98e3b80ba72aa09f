"""The array's multipliers: one signal for each product of a signed activation and a signed weight."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed

from bitwright.fpga.config import Multiplier

PACK_SHIFT = 10
KEPT_BITS = 6


def registers_inside(kind: Multiplier) -> bool:
    """Whether the multipliers have the registers of activations and weights in them."""
    return kind == "ice40-mac16"


def products(m: Any, kind: Multiplier, activation: Any, first: Any, second: Any | None, name: str) -> list[Any]:
    """Registered products ``activation * first`` and, if there is a second weight, ``activation * second``.

    How many cycles later is in ``stages.PRODUCTS``.  ``ecp5-pack2`` makes both with one 18 × 18 multiplier:
    ``P = (a * 2**10 + b) * c``; the low bits of ``P`` are those of ``b * c``, and what ``b * c`` borrows from ``a * c``
    follows from 6 bits of ``a * c``.  Exact for ``a`` in ``-127 .. 127``; the compiler refuses -128 there.

    ``ice40-mac16`` makes both with one block that multiplies 8 × 8 bits twice (Lattice, iCE40 DSP function usage guide).
    """
    if kind == "ice40-mac16":
        return _mac16(m, activation, first, second, name)
    if kind == "ecp5-pack2":
        if second is None:
            activation, first = (_registered(m, v, f"{name}_in{at}") for at, v in enumerate((activation, first)))
            one = _registered(m, activation * first, f"{name}_wide")
            return [_registered(m, one, f"{name}_0")]
        return _packed(m, activation, second, first, name)[::-1]
    return [
        _registered(m, activation * weight, f"{name}_{at}")
        for at, weight in enumerate(w for w in (first, second) if w is not None)
    ]


def sums_inside(kind: Multiplier) -> bool:
    """Whether the multipliers add their products in pairs themselves."""
    return kind == "ice40-mac16"


def pair_sums(
    m: Any, rows: tuple[Any, Any], firsts: tuple[Any, Any], seconds: tuple[Any, Any] | None, name: str
) -> list[Any]:
    """``rows[0] * firsts[0] + rows[1] * firsts[1]``, and the same of ``seconds``, 17 bits, a cycle after the products.

    The second of two blocks adds to its own products those of the first, in 16 bits.  A sum lies in ``-32512 .. 32768``, so
    the one that does not fit, of four times -128, is the only one that looks like -32768.
    """
    low = _mac16(m, rows[0], firsts[0], None if seconds is None else seconds[0], f"{name}_low")
    both = _mac16(m, rows[1], firsts[1], None if seconds is None else seconds[1], f"{name}_high", add=low)
    return [Cat(value[:16], value[15] & value[8:15].any()).as_signed() for value in both]


def _registered(m: Module, value: Any, name: str) -> Any:
    value = Value.cast(value)
    register = Signal(value.shape(), name=name)
    m.d.sync += register.eq(value)
    return register


def _packed(m: Module, c: Any, a: Any, b: Any, name: str) -> list[Any]:
    """``[a * c, b * c]``: weights side by side, products, products apart."""
    both = _registered(m, ((a << PACK_SHIFT) + b)[: PACK_SHIFT + 8].as_signed(), f"{name}_weights")
    a6, c = _registered(m, a[:KEPT_BITS], f"{name}_a"), _registered(m, c, f"{name}_c")
    wide = _registered(m, (both * c)[: PACK_SHIFT + 16].as_signed(), f"{name}_wide")
    small = _registered(m, _low_product(a6, c[:KEPT_BITS]), f"{name}_small")
    upper = wide[PACK_SHIFT:].as_signed()
    # Bits 10 .. 15 of b * c: what the upper part has too little of modulo 64, as a signed number.
    borrow = (upper[:KEPT_BITS] - small)[:KEPT_BITS].as_signed()
    low = Signal(signed(16), name=f"{name}_low")
    high = Signal(signed(16), name=f"{name}_high")
    m.d.sync += [low.eq((borrow << PACK_SHIFT) | wide[:PACK_SHIFT]), high.eq(upper - borrow)]
    return [high, low]


def _low_product(a: Any, c: Any) -> Any:
    """``a * c`` modulo ``2**KEPT_BITS``, of sums: a ``*`` would take a multiplier of the device."""
    rows = [((a << bit)[:KEPT_BITS] & c[bit].replicate(KEPT_BITS)) for bit in range(KEPT_BITS)]
    while len(rows) > 1:
        rows = [sum(rows[at + 1 : at + 2], rows[at])[:KEPT_BITS] for at in range(0, len(rows), 2)]
    return rows[0]


def _mac16(
    m: Module, activation: Any, first: Any, second: Any | None, name: str, add: list[Any] | None = None
) -> list[Any]:
    """Both products of one SB_MAC16, its inputs and outputs registered; or, a cycle later, their sums with ``add``.

    ``synth_ice40 -dsp`` would set the block's parameters anew (Yosys 0.70), so it must not be given.
    """
    count = 1 if second is None else 2
    out = Signal(32, name=f"{name}_both")
    zero = {n: Const(0, 1) for n in ("AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT", "OLOADTOP",
                                     "OLOADBOT", "ADDSUBTOP", "ADDSUBBOT", "OHOLDTOP", "OHOLDBOT", "CI", "ACCUMCI",
                                     "SIGNEXTIN")}  # fmt: skip
    x, w0, w1 = (Value.cast(v)[:8] for v in (activation, first, Const(0, 8) if second is None else second))
    c, d = (Const(0, 16) if add is None or at >= len(add) else Value.cast(add[at])[:16] for at in (1, 0))
    # The output: 2, the product of 8 x 8 bits; 1, a register behind an adder, of the product (1) and C or D (1).
    select = Const(2 if add is None else 1, 2)
    m.submodules[f"mac_{name}"] = Instance(
        "SB_MAC16",
        p_A_REG=Const(1, 1), p_B_REG=Const(1, 1), p_A_SIGNED=Const(1, 1), p_B_SIGNED=Const(1, 1),
        p_TOP_8x8_MULT_REG=Const(1, 1), p_BOT_8x8_MULT_REG=Const(1, 1), p_MODE_8x8=Const(1, 1),
        p_TOPOUTPUT_SELECT=select, p_BOTOUTPUT_SELECT=select,
        p_TOPADDSUB_LOWERINPUT=Const(1, 2), p_BOTADDSUB_LOWERINPUT=Const(1, 2),
        p_TOPADDSUB_UPPERINPUT=Const(1, 1), p_BOTADDSUB_UPPERINPUT=Const(1, 1),
        i_CLK=ClockSignal(), i_CE=Const(1, 1), i_A=Cat(x, x), i_B=Cat(w0, w1), i_C=c, i_D=d,
        **{f"i_{n}": v for n, v in zero.items()}, o_O=out,
    )  # fmt: skip
    return [out[16 * at : 16 * at + 16].as_signed() for at in range(count)]
