"""The registers in hardware, whatever bus they are on."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal

from bitwright.fpga.registers import BASE_ALIGNMENT, BY_NAME, CONSTANTS, bit, shape
from bitwright.fpga.rtl.top import Processor

INDEX_BITS = 6


class Registers(Elaboratable):
    """One access at a time; the bus's adapter waits ``READ_CYCLES`` before it takes ``read_data``.

    Args:
        core: The processor.
        relocates: Its memory may be anywhere on a bus; without that ``MEMORY_BASE`` is 0 for ever.

    Attributes:
        index: Which register (its offset / 4).
        write_enable: Write ``write_data`` now.
        write_data: The new value.
        read_data: Value of the register, ``READ_CYCLES`` cycles after ``index`` and the last write.
        hold: ``read_data`` stays what it is.
        fault: In: the memory's bus refused something.
        memory_base: Out: where the processor's address 0 is on the memory's bus.
        interrupt: Out: a program has ended, until ``DONE`` is cleared.
    """

    READ_CYCLES = 3

    def __init__(self, core: Processor, *, relocates: bool = True) -> None:
        self.core, self.relocates = core, relocates
        self.index = Signal(INDEX_BITS, name="register_index")
        self.write_enable = Signal(name="register_write")
        self.write_data = Signal(32, name="register_write_data")
        self.read_data = Signal(32, name="register_read_data")
        self.hold = Signal(name="register_hold")
        self.fault = Signal(name="memory_fault")
        self.memory_base = Signal(32)
        self.interrupt = Signal()

    def elaborate(self, platform: Any) -> Module:
        """Values to and from the processor."""
        m = Module()
        core = self.core
        faulty, done, interrupts, was_busy = (Signal(name=n) for n in ("faulty", "done", "interrupts", "was_busy"))
        writes = {n: Signal(name=f"write_{n.lower()}") for n in ("CONTROL", "STATUS")}
        for name, signal in writes.items():
            m.d.comb += signal.eq(self.write_enable & (self.index == BY_NAME[name].index))
        start = Signal()
        m.d.comb += [
            start.eq(writes["CONTROL"] & self.write_data[bit("CONTROL", "START")] & ~core.busy),
            core.start.eq(start),
            self.interrupt.eq(interrupts & done),
        ]
        m.d.sync += was_busy.eq(core.busy)
        with m.If(start):
            m.d.sync += [faulty.eq(0), done.eq(0)]
        with m.Else():
            m.d.sync += faulty.eq(faulty | self.fault)
            with m.If(was_busy & ~core.busy):
                m.d.sync += done.eq(1)
            with m.Elif(writes["STATUS"] & self.write_data[bit("STATUS", "DONE")]):
                m.d.sync += done.eq(0)
        with m.If(writes["CONTROL"]):
            m.d.sync += interrupts.eq(self.write_data[bit("CONTROL", "INTERRUPT")])
        aligned = self.write_data & (0x1_0000_0000 - BASE_ALIGNMENT)
        targets = [("PROGRAM", core.address, self.write_data), ("PROFILE_INDEX", core.profile_address, self.write_data)]
        if self.relocates:
            targets.append(("MEMORY_BASE", self.memory_base, aligned))
        for name, target, value in targets:
            with m.If(self.write_enable & (self.index == BY_NAME[name].index)):
                m.d.sync += target.eq(value)
        status = {"RUNNING": core.busy, "FAULT": faulty, "DONE": done}
        values = {
            **CONSTANTS,
            "FINGERPRINT": core.fingerprint,
            "SHAPE": shape(core.config),
            "CONTROL": interrupts << bit("CONTROL", "INTERRUPT"),
            "STATUS": _packed("STATUS", status),
            "PROGRAM": core.address,
            "MEMORY_BASE": self.memory_base,
            "CYCLES": core.cycles[:32],
            "CYCLES_HIGH": core.cycles[32:],
            "PROFILE_INDEX": core.profile_address,
            "PROFILE": core.profile_data,
        }
        with m.If(~self.hold), m.Switch(self.index):
            for register in BY_NAME.values():
                with m.Case(register.index):
                    m.d.sync += self.read_data.eq(values[register.name])
            with m.Default():
                m.d.sync += self.read_data.eq(0)
        return m


def _packed(register: str, flags: dict[str, Any]) -> Any:
    total: Any = 0
    for name, flag in flags.items():
        total = total | Mux(flag, 1 << bit(register, name), 0)
    return total
