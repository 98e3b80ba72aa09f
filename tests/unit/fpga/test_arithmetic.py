"""The hardware's own arithmetic: multipliers for every operand, the shift at the end of a sum."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Const, Elaboratable, Module, Signal, signed
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.fpga.config import Multiplier
from bitwright.fpga.limits import GIVERS, TAKERS
from bitwright.fpga.requant import requantize
from bitwright.fpga.rtl.multiply import pair_sums, products, registers_inside
from bitwright.fpga.rtl.requantizer import clamped, narrow_shift, rounded
from bitwright.fpga.sim.build import cxxrtl, models
from bitwright.fpga.stages import PRODUCTS
from bitwright.number.format import Rounding

# Every activation with every pair of weights, or with enough pairs where the products have nothing in common; the pair
# (-128, negative) is what the compiler keeps from multipliers that make two products at once.
HARNESS = """
#include "processor.cc"
extern "C" int64_t wrong(int latency, int step, int packed) {
    cxxrtl_design::p_processor top;
    top.p_rst.set<bool>(false); top.p_clk.set<bool>(false); top.step();
    int64_t bad = 0, count = 0;
    static int want_a[16], want_b[16];
    for (int x = -128; x < 128; x++)
        for (int b = -128; b < 128; b++)
            for (int a = -128 + (b & (step - 1)); a < 128; a += step) {
                if (packed && a == -128 && b < 0) continue;
                top.p_x.set<uint8_t>(x); top.p_first.set<uint8_t>(b); top.p_second.set<uint8_t>(a);
                want_a[count % 16] = x * a; want_b[count % 16] = x * b;
                top.p_clk.set<bool>(true); top.step();
                top.p_clk.set<bool>(false); top.step();
                count++;
                if (count >= latency) {
                    int at = (count - latency) % 16;
                    bad += (int16_t)top.p_product0.get<uint16_t>() != want_b[at];
                    bad += (int16_t)top.p_product1.get<uint16_t>() != want_a[at];
                }
            }
    return count < 1000 ? -1 : bad;
}
"""


class Multiplies(Elaboratable):
    """One multiplier, its inputs registered as in the array."""

    def __init__(self, kind: Multiplier) -> None:
        self.kind = kind
        self.x, self.first, self.second = (Signal(signed(8), name=n) for n in ("x", "first", "second"))
        self.products = [Signal(signed(16), name=f"product{n}") for n in range(2)]

    def ports(self) -> list[Signal]:
        return [self.x, self.first, self.second, *self.products]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = [Signal(signed(8), name=f"held{n}") for n in range(3)]
        for register, value in zip(held, (self.x, self.first, self.second), strict=True):
            m.d["comb" if registers_inside(self.kind) else "sync"] += register.eq(value)
        found = products(m, self.kind, *held, "one")
        m.d.comb += [port.eq(value) for port, value in zip(self.products, found, strict=True)]
        return m


@pytest.mark.parametrize(("kind", "step"), [("infer", 64), ("ecp5", 64), ("ecp5-pack2", 1), ("ice40-mac16", 64)])
def test_multipliers(kind: Multiplier, step: int, tmp_path: Path) -> None:
    top = Multiplies(kind)
    text = str(rtlil.convert(top, ports=top.ports(), name="processor", emit_src=False))
    assert ("SB_MAC16" in text) == (kind == "ice40-mac16")
    (tmp_path / "processor.il").write_text(text, "utf-8")
    (tmp_path / "harness.cpp").write_text(HARNESS, "utf-8")
    read = f"{models(text, tmp_path)}read_rtlil processor.il; hierarchy -top processor; flatten"
    library = ctypes.CDLL(str(cxxrtl(tmp_path, read)))
    library.wrong.restype = ctypes.c_int64
    assert library.wrong(1 + PRODUCTS[kind], step, kind == "ecp5-pack2") == 0


# Sums of two products, for operands at the ends of what a byte holds, in all combinations.
SUMS = """
#include "processor.cc"
extern "C" int64_t wrong(int latency) {
    cxxrtl_design::p_processor top;
    top.p_rst.set<bool>(false); top.p_clk.set<bool>(false); top.step();
    static const int ends[6] = {-128, -127, -1, 0, 5, 127};
    static int want0[16], want1[16];
    int64_t bad = 0, count = 0;
    for (int n = 0; n < 6 * 6 * 6 * 6 * 6 * 6; n++) {
        int v[6];
        for (int k = 0, rest = n; k < 6; k++, rest /= 6) v[k] = ends[rest % 6];
        top.p_x0.set<uint8_t>(v[0]); top.p_x1.set<uint8_t>(v[1]);
        top.p_first0.set<uint8_t>(v[2]); top.p_first1.set<uint8_t>(v[3]);
        top.p_second0.set<uint8_t>(v[4]); top.p_second1.set<uint8_t>(v[5]);
        want0[count % 16] = v[0] * v[2] + v[1] * v[3]; want1[count % 16] = v[0] * v[4] + v[1] * v[5];
        top.p_clk.set<bool>(true); top.step();
        top.p_clk.set<bool>(false); top.step();
        count++;
        if (count >= latency) {
            int at = (count - latency) % 16;
            bad += ((int32_t)(top.p_sum0.get<uint32_t>() << 15) >> 15) != want0[at];
            bad += ((int32_t)(top.p_sum1.get<uint32_t>() << 15) >> 15) != want1[at];
        }
    }
    return bad;
}
"""


class Sums(Elaboratable):
    """A pair of blocks that add their products themselves."""

    def __init__(self) -> None:
        self.given = {f"{n}{k}": Signal(signed(8), name=f"{n}{k}") for n in ("x", "first", "second") for k in range(2)}
        self.sums = [Signal(signed(17), name=f"sum{n}") for n in range(2)]

    def ports(self) -> list[Signal]:
        return [*self.given.values(), *self.sums]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        x, first, second = ((self.given[f"{n}0"], self.given[f"{n}1"]) for n in ("x", "first", "second"))
        found = pair_sums(m, x, first, second, "pair")
        m.d.comb += [port.eq(value) for port, value in zip(self.sums, found, strict=True)]
        return m


def test_multipliers_that_add(tmp_path: Path) -> None:
    top = Sums()
    text = str(rtlil.convert(top, ports=top.ports(), name="processor", emit_src=False))
    (tmp_path / "processor.il").write_text(text, "utf-8")
    (tmp_path / "harness.cpp").write_text(SUMS, "utf-8")
    read = f"{models(text, tmp_path)}read_rtlil processor.il; hierarchy -top processor; flatten"
    library = ctypes.CDLL(str(cxxrtl(tmp_path, read)))
    library.wrong.restype = ctypes.c_int64
    assert library.wrong(2 + PRODUCTS["ice40-mac16"]) == 0


class Rounds(Elaboratable):
    """Halves up, rounded behind the shift, and a byte's clamp."""

    def __init__(self) -> None:
        self.value, self.shift, self.result = Signal(signed(32)), Signal(5), Signal(signed(8))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        found = rounded(m, Rounding.HALF_UP, self.value, self.shift, False, "value", late=True)
        m.d.comb += self.result.eq(clamped(found, Const(-128, signed(8)), Const(127, signed(8))))
        return m


class Shifts(Elaboratable):
    """The shift at the end of a sum."""

    def __init__(self) -> None:
        self.value, self.shift, self.result = Signal(signed(33)), Signal(5), Signal(signed(9))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self.result.eq(narrow_shift(m, self.value, self.shift, "value"))
        return m


LARGEST = (1 << 32) - 1
VALUES = st.one_of(
    st.integers(-LARGEST - 1, LARGEST),
    st.integers(-600, 600),
    st.builds(lambda bit, near: max(min((1 << bit) + near, LARGEST), -LARGEST), st.integers(0, 32), st.integers(-2, 2)),
    st.builds(lambda bit, near: near - (1 << bit), st.integers(0, 31), st.integers(-2, 2)),
)


def gives(top: Shifts | Rounds, cases: list[tuple[int, int]], wanted: Callable[[int, int], int]) -> None:
    """Whether the hardware gives what is wanted of each value and shift."""

    async def bench(context: Any) -> None:
        for value, shift in cases:
            context.set(top.value, value)
            context.set(top.shift, shift)
            await context.delay(1e-9)
            assert context.get(top.result) == wanted(value, shift), (value, shift)

    simulator = Simulator(top)
    simulator.add_testbench(bench)
    simulator.run()


CASES = st.lists(st.tuples(VALUES, st.integers(0, 31)), min_size=100, max_size=100)


@settings(max_examples=10)
@given(CASES)
def test_a_narrow_shift_is_a_shift_that_is_held_in_9_bits(cases: list[tuple[int, int]]) -> None:
    gives(Shifts(), cases, lambda value, shift: max(min(value >> shift, 255), -256))


@settings(max_examples=10)
@given(CASES)
def test_halves_rounded_behind_the_shift_are_the_definition(cases: list[tuple[int, int]]) -> None:
    held = [(max(min(value, (1 << 31) - 1), -(1 << 31)), shift) for value, shift in cases]
    gives(Rounds(), held, lambda value, shift: int(requantize(Rounding.HALF_UP, np.asarray(value), shift, -128, 127)))


def test_who_takes_a_token_can_be_given_it() -> None:
    for givers, takers in zip(GIVERS, TAKERS, strict=True):
        assert bool(givers) == bool(takers)
        assert not givers & takers
