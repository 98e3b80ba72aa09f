"""A serial line: 8 bits, no parity, one stop bit."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Signal

LEAST_DIVISOR = 4
"""Clock cycles of a bit."""


class Receiver(Elaboratable):
    """Bytes from a pin.

    Attributes:
        pin: The line; may change at any time.
        data: The byte.
        valid: It has just come; for one cycle.
        bit: A bit of a byte that is coming, the lowest first.
        bit_valid: It has just come; for one cycle.
    """

    def __init__(self, divisor: int) -> None:
        if divisor < LEAST_DIVISOR:
            raise ValueError(f"a bit must have at least {LEAST_DIVISOR} cycles, not {divisor}")
        self.divisor = divisor
        self.pin = Signal(init=1)
        self.data = Signal(8)
        self.valid = Signal()
        self.bit, self.bit_valid = Signal(), Signal()

    def elaborate(self, platform: Any) -> Module:
        """Bits are taken in their middle; a byte without a stop bit is dropped."""
        m = Module()
        line = Signal(3, init=7, name="uart_line")
        m.d.sync += line.eq(Cat(self.pin, line))
        level = line[2]
        count = Signal(range(self.divisor + self.divisor // 2 + 1))
        left = Signal(range(11))
        m.d.comb += [self.data.eq(shift := Signal(8, name="uart_shift")), self.bit.eq(level)]
        m.d.sync += self.valid.eq(0)
        with m.If(left == 0), m.If(~level):
            # The middle of the first bit, one and a half bits from here.
            m.d.sync += [left.eq(9), count.eq(self.divisor + self.divisor // 2 - 2)]
        with m.Elif(count != 0):
            m.d.sync += count.eq(count - 1)
        with m.Else():
            m.d.sync += [left.eq(left - 1), count.eq(self.divisor - 1)]
            with m.If(left == 1):
                m.d.sync += self.valid.eq(level)
            with m.Else():
                m.d.sync += shift.eq(Cat(shift[1:], level))
                m.d.comb += self.bit_valid.eq(1)
        return m


class Transmitter(Elaboratable):
    """Bytes to a pin.

    Attributes:
        pin: The line.
        data: A byte.
        valid: It is to be sent.
        ready: It is taken.
        bit_valid: What the pin shows is a bit of the byte, for the last time; for one cycle.
    """

    def __init__(self, divisor: int) -> None:
        self.divisor = divisor
        self.pin = Signal(init=1)
        self.data = Signal(8)
        self.valid = Signal()
        self.ready = Signal()
        self.bit_valid = Signal()

    def elaborate(self, platform: Any) -> Module:
        """Start bit, eight bits, stop bit."""
        m = Module()
        count = Signal(range(self.divisor))
        left = Signal(range(11))
        shift = Signal(9, init=0x1FF, name="uart_out")
        m.d.comb += [self.ready.eq(left == 0), self.pin.eq(shift[0])]
        with m.If(left == 0), m.If(self.valid):
            m.d.sync += [shift.eq(Cat(0, self.data)), left.eq(10), count.eq(self.divisor - 1)]
        with m.Elif(count != 0):
            m.d.sync += count.eq(count - 1)
        with m.Else():
            m.d.comb += self.bit_valid.eq((left > 1) & (left < 10))
            m.d.sync += [shift.eq(Cat(shift[1:], 1)), left.eq(left - 1), count.eq(self.divisor - 1)]
        return m
