"""The processor behind Wishbone: a pipelined master to memory, a pipelined slave to its registers.

Source: Wishbone B4 (OpenCores, 2010), chapters 2 and 3: signals, pipelined cycles.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Module, Mux, ResetSignal, Signal
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.rtl.registers import INDEX_BITS, Registers
from bitwright.fpga.rtl.top import Processor

READS_AHEAD = 64
"""Beats that may be asked for and not yet used; answers cannot be held back, so each needs a place."""
SLAVE_ADDRESS_BITS = INDEX_BITS + 2


class WishboneProcessor(Elaboratable):
    """One master for reads and writes, burst by burst; addresses are of bytes."""

    def __init__(self, config: ProcessorConfig) -> None:
        self.config = config
        width = 8 * config.bus.bytes
        self.clock, self.reset = Signal(name="clk_i"), Signal(name="rst_i")
        self.interrupt = Signal(name="interrupt")
        self.master = {
            name: Signal(bits, name=f"wbm_{name}")
            for name, bits in (
                ("adr_o", 32), ("dat_o", width), ("dat_i", width), ("sel_o", config.bus.bytes), ("we_o", 1),
                ("cyc_o", 1), ("stb_o", 1), ("stall_i", 1), ("ack_i", 1), ("err_i", 1),
            )
        }  # fmt: skip
        self.slave = {
            name: Signal(bits, name=f"wbs_{name}")
            for name, bits in (
                ("adr_i", SLAVE_ADDRESS_BITS), ("dat_i", 32), ("dat_o", 32), ("sel_i", 4), ("we_i", 1),
                ("cyc_i", 1), ("stb_i", 1), ("stall_o", 1), ("ack_o", 1), ("err_o", 1),
            )
        }  # fmt: skip

    def ports(self) -> list[Signal]:
        """All signals."""
        return [self.clock, self.reset, self.interrupt, *self.master.values(), *self.slave.values()]

    def elaborate(self, platform: Any) -> Module:
        """Bursts one after the other, answers in order."""
        m = Module()
        m.domains.sync = ClockDomain("sync")
        core = Processor(self.config)
        registers = Registers(core)
        m.submodules.core, m.submodules.registers = core, registers
        m.d.comb += [
            ClockSignal("sync").eq(self.clock),
            ResetSignal("sync").eq(self.reset),
            self.interrupt.eq(registers.interrupt),
        ]
        self._memory(m, core, registers)
        self._control(m, registers)
        return m

    def _memory(self, m: Module, core: Processor, registers: Registers) -> None:
        bus, size = self.master, self.config.bus.bytes
        # Of each beat: is it a write, is it a burst's last.  An answer may come in the very next cycle.
        asked = SyncFIFO(width=2, depth=READS_AHEAD)
        found = SyncFIFOBuffered(width=8 * size, depth=READS_AHEAD)
        m.submodules.asked, m.submodules.found = asked, found
        active, writing = Signal(), Signal()
        address, left = Signal(32), Signal(len(core.read_request.beats))
        places = Signal(range(READS_AHEAD + 1), init=READS_AHEAD)
        pending = Signal(range(2 * READS_AHEAD))
        read, write = core.read_request, core.write_request
        last, moved, free, take_write, take_read, answered = (
            Signal(name=f"bus_{n}") for n in ("last", "moved", "free", "take_write", "take_read", "answered")
        )
        m.d.comb += [
            bus["adr_o"].eq(address),
            bus["dat_o"].eq(core.write_data.data),
            bus["sel_o"].eq(~0),
            bus["we_o"].eq(writing),
            bus["stb_o"].eq(active & asked.w_rdy & Mux(writing, core.write_data.valid, places != 0)),
            bus["cyc_o"].eq(active | (pending != 0)),
            moved.eq(bus["stb_o"] & ~bus["stall_i"]),
            core.write_data.ready.eq(moved & writing),
            last.eq(left == 1),
            asked.w_en.eq(moved),
            asked.w_data.eq(writing | (last << 1)),
            # Data that waits to be written goes first: somebody waits for the room it leaves.
            free.eq(~active | (moved & last)),
            take_write.eq(free & write.valid & core.write_data.valid),
            take_read.eq(free & read.valid & ~take_write),
            write.ready.eq(take_write),
            read.ready.eq(take_read),
        ]
        with m.If(moved):
            m.d.sync += [address.eq(address + size), left.eq(left - 1)]
        with m.If(free):
            m.d.sync += [active.eq(take_write | take_read), writing.eq(take_write)]
        for taken, request in ((take_write, write), (take_read, read)):
            with m.If(taken):
                m.d.sync += [address.eq(request.address + registers.memory_base), left.eq(request.beats)]
        # Answers.
        read_back = Signal()
        used = Signal()
        m.d.comb += [
            answered.eq((bus["ack_i"] | bus["err_i"]) & (pending != 0)),
            asked.r_en.eq(answered),
            read_back.eq(answered & ~asked.r_data[0]),
            found.w_en.eq(read_back),
            found.w_data.eq(bus["dat_i"]),
            core.write_answer.eq(answered & (asked.r_data == 0b11)),
            core.read_data.valid.eq(found.r_rdy),
            core.read_data.data.eq(found.r_data),
            found.r_en.eq(core.read_data.ready),
            used.eq(found.r_rdy & core.read_data.ready),
            registers.fault.eq(answered & bus["err_i"]),
        ]
        m.d.sync += [
            pending.eq(pending + moved - answered),
            places.eq(places + used - (moved & ~writing)),
        ]

    def _control(self, m: Module, registers: Registers) -> None:
        """One access at a time; a write is of whole words."""
        bus = self.slave
        waiting = Signal(range(Registers.READ_CYCLES + 1))
        held = Signal(INDEX_BITS)
        idle, asked, whole = Signal(), Signal(), Signal()
        m.d.comb += [
            idle.eq(waiting == 0),
            asked.eq(bus["cyc_i"] & bus["stb_i"] & idle),
            whole.eq(bus["sel_i"] == 0b1111),
            bus["stall_o"].eq(~idle),
            registers.index.eq(Mux(idle, bus["adr_i"][2:], held)),
            registers.write_data.eq(bus["dat_i"]),
            registers.write_enable.eq(asked & bus["we_i"] & whole),
        ]
        m.d.sync += [bus["ack_o"].eq(asked & bus["we_i"] & whole), bus["err_o"].eq(asked & bus["we_i"] & ~whole)]
        with m.If(asked & ~bus["we_i"]):
            m.d.sync += [held.eq(bus["adr_i"][2:]), waiting.eq(1)]
        with m.If(~idle):
            m.d.sync += waiting.eq(waiting + 1)
        with m.If(waiting == Registers.READ_CYCLES):
            m.d.sync += [waiting.eq(0), bus["ack_o"].eq(1), bus["dat_o"].eq(registers.read_data)]
