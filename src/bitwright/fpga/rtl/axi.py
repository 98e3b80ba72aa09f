"""The processor behind standard buses: AXI4 to memory, AXI4-Lite to its registers.

Sources: Arm IHI 0022 (AMBA AXI protocol), signals and rules of AXI4 and AXI4-Lite.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Module, Mux, ResetSignal, Signal
from amaranth.lib.fifo import SyncFIFOBuffered

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.rtl.ports import Requests
from bitwright.fpga.rtl.registers import INDEX_BITS, Registers
from bitwright.fpga.rtl.slices import RequestSlice
from bitwright.fpga.rtl.top import Processor

RESPONSE_ERROR = 1
SLAVE_ERROR = 2
INCREASING = 1
NORMAL_MEMORY = 0b0011
WRITES_AHEAD = 16
MOST_BEATS = 256
MOST_BYTES = 4096
SLAVE_ADDRESS_BITS = INDEX_BITS + 2


def too_long(config: ProcessorConfig) -> str:
    """Why a configuration's bursts are not AXI's, or nothing."""
    beats, size = config.bus.burst_beats, config.bus.burst_beats * config.bus.bytes
    if beats <= MOST_BEATS and size <= MOST_BYTES:
        return ""
    return f"a burst of {beats} beats and {size} bytes is longer than AXI's {MOST_BEATS} and {MOST_BYTES}"


class AxiProcessor(Elaboratable):
    """AXI4 master (one read and one write stream, increasing bursts, in order) and AXI4-Lite slave."""

    def __init__(self, config: ProcessorConfig) -> None:
        self.config = config
        width = 8 * config.bus.bytes
        self.clock, self.reset = Signal(name="aclk"), Signal(name="aresetn")
        self.interrupt = Signal(name="interrupt")
        self.master = {
            name: Signal(bits, name=f"m_axi_{name}")
            for name, bits in (
                ("araddr", 32), ("arlen", 8), ("arsize", 3), ("arburst", 2), ("arcache", 4), ("arprot", 3),
                ("arvalid", 1), ("arready", 1),
                ("rdata", width), ("rresp", 2), ("rlast", 1), ("rvalid", 1), ("rready", 1),
                ("awaddr", 32), ("awlen", 8), ("awsize", 3), ("awburst", 2), ("awcache", 4), ("awprot", 3),
                ("awvalid", 1), ("awready", 1),
                ("wdata", width), ("wstrb", config.bus.bytes), ("wlast", 1), ("wvalid", 1), ("wready", 1),
                ("bresp", 2), ("bvalid", 1), ("bready", 1),
            )
        }  # fmt: skip
        self.slave = {
            name: Signal(bits, name=f"s_axi_{name}")
            for name, bits in (
                ("awaddr", SLAVE_ADDRESS_BITS), ("awprot", 3), ("awvalid", 1), ("awready", 1),
                ("wdata", 32), ("wstrb", 4), ("wvalid", 1), ("wready", 1), ("bresp", 2), ("bvalid", 1), ("bready", 1),
                ("araddr", SLAVE_ADDRESS_BITS), ("arprot", 3), ("arvalid", 1), ("arready", 1),
                ("rdata", 32), ("rresp", 2), ("rvalid", 1), ("rready", 1),
            )
        }  # fmt: skip

    def ports(self) -> list[Signal]:
        """All signals."""
        return [self.clock, self.reset, self.interrupt, *self.master.values(), *self.slave.values()]

    def elaborate(self, platform: Any) -> Module:
        """Thin: bursts are already of AXI's kind."""
        m = Module()
        m.domains.sync = ClockDomain("sync")
        core = Processor(self.config)
        registers = Registers(core)
        m.submodules.core, m.submodules.registers = core, registers
        m.d.comb += [
            ClockSignal("sync").eq(self.clock),
            ResetSignal("sync").eq(~self.reset),
            self.interrupt.eq(registers.interrupt),
        ]
        self._read(m, core, registers)
        self._write(m, core, registers)
        bad_read = self.master["rvalid"] & self.master["rready"] & self.master["rresp"][RESPONSE_ERROR]
        bad_write = self.master["bvalid"] & self.master["bresp"][RESPONSE_ERROR]
        m.d.comb += registers.fault.eq(bad_read | bad_write)
        self._control(m, registers)
        return m

    def _request(self, m: Module, channel: str, core: Requests, base: Any, room: Any) -> None:
        """The address channels are alike; a request is taken where there is room."""
        bus, size = self.master, (self.config.bus.bytes - 1).bit_length()
        request = RequestSlice(channel)
        m.submodules[f"{channel}_slice"] = request
        m.d.comb += [
            request.request.valid.eq(core.valid & room),
            core.ready.eq(request.request.ready & room),
            request.request.address.eq(core.address + base),
            request.request.beats.eq(core.beats),
            bus[f"{channel}addr"].eq(request.out.address),
            bus[f"{channel}len"].eq(request.out.beats - 1),
            bus[f"{channel}size"].eq(size),
            bus[f"{channel}burst"].eq(INCREASING),
            bus[f"{channel}cache"].eq(NORMAL_MEMORY),
            bus[f"{channel}prot"].eq(0),
            bus[f"{channel}valid"].eq(request.out.valid),
            request.out.ready.eq(bus[f"{channel}ready"]),
        ]

    def _read(self, m: Module, core: Processor, registers: Registers) -> None:
        bus = self.master
        self._request(m, "ar", core.read_request, registers.memory_base, 1)
        m.d.comb += [
            core.read_data.data.eq(bus["rdata"]),
            core.read_data.valid.eq(bus["rvalid"]),
            bus["rready"].eq(core.read_data.ready),
        ]

    def _write(self, m: Module, core: Processor, registers: Registers) -> None:
        """Data does not wait for its address to be taken, which AXI forbids; only for it to be on offer."""
        bus = self.master
        lengths = SyncFIFOBuffered(width=9, depth=WRITES_AHEAD)
        m.submodules.lengths = lengths
        # A burst's length is kept for WLAST, so it is taken only where there is room for it.
        self._request(m, "aw", core.write_request, registers.memory_base, lengths.w_rdy)
        m.d.comb += [
            lengths.w_en.eq(core.write_request.valid & core.write_request.ready),
            lengths.w_data.eq(core.write_request.beats),
            bus["wdata"].eq(core.write_data.data),
            bus["wstrb"].eq(~0),
            bus["wvalid"].eq(core.write_data.valid & lengths.r_rdy),
            core.write_data.ready.eq(bus["wready"] & lengths.r_rdy),
            bus["bready"].eq(1),
            core.write_answer.eq(bus["bvalid"]),
        ]
        beat = Signal(9)
        last = beat == lengths.r_data - 1
        moved = bus["wvalid"] & bus["wready"]
        m.d.comb += [bus["wlast"].eq(last), lengths.r_en.eq(moved & last)]
        with m.If(moved):
            m.d.sync += beat.eq(Mux(last, 0, beat + 1))

    def _control(self, m: Module, registers: Registers) -> None:
        """One access at a time, writes first; a write needs address and data together, and whole words."""
        bus = self.slave
        waiting = Signal(range(Registers.READ_CYCLES + 1))
        write, whole, ready = Signal(), Signal(), Signal()
        idle = (waiting == 0) & ~bus["rvalid"] & ~bus["bvalid"]
        m.d.comb += [
            write.eq(idle & bus["awvalid"] & bus["wvalid"]),
            whole.eq(bus["wstrb"] == 0b1111),
            bus["awready"].eq(write),
            bus["wready"].eq(write),
            registers.write_enable.eq(write & whole),
            registers.write_data.eq(bus["wdata"]),
            registers.index.eq(Mux(write, bus["awaddr"][2:], bus["araddr"][2:])),
            ready.eq(waiting == Registers.READ_CYCLES),
            bus["arready"].eq(ready),
        ]
        with m.If(write):
            m.d.sync += [bus["bvalid"].eq(1), bus["bresp"].eq(Mux(whole, 0, SLAVE_ERROR))]
        with m.Elif(bus["bready"]):
            m.d.sync += bus["bvalid"].eq(0)
        with m.If(ready):
            m.d.sync += [waiting.eq(0), bus["rvalid"].eq(1), bus["rdata"].eq(registers.read_data)]
        with m.Elif((waiting != 0) | (idle & bus["arvalid"] & ~write)):
            m.d.sync += waiting.eq(waiting + 1)
        with m.If(bus["rvalid"] & bus["rready"]):
            m.d.sync += bus["rvalid"].eq(0)
