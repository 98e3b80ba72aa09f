"""A board without a processor: the serial bridge, a memory, and a master that reads and writes as hard as it can."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal

from bitwright.fpga.board import BoardFile, load_board
from bitwright.fpga.config import ProcessorConfig, load_config
from bitwright.fpga.rtl.bridge import Bridge
from bitwright.fpga.rtl.sdram import Sdram
from bitwright.fpga.rtl.sharing import MemoryPort, share
from bitwright.fpga.rtl.spram import Spram
from bitwright.fpga.sdram import Times, times
from bitwright.fpga.sim.board import DIVISOR, SimulatedBoard

BEATS = 64
WRITE_CYCLES, READ_CYCLES, WRONG, BURSTS, STRIDE, START = range(6)


class Traffic(MemoryPort, Elaboratable):
    """Writes bursts of 64 beats, each word telling its address, then reads them back."""

    def __init__(self, bus_bytes: int) -> None:
        super().__init__("traffic", 8 * bus_bytes)
        self.bytes = bus_bytes
        self.bursts, self.stride, self.start = Signal(16), Signal(32), Signal()
        self.cycles = [Signal(32, name=f"cycles{n}") for n in range(2)]
        self.wrong = Signal(32)
        self.stage = Signal(2)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        asked, answered, at, word = Signal(17), Signal(17), Signal(32), Signal(32)
        shift = self.bytes.bit_length() - 1
        burst, beat = Signal(32), Signal(range(BEATS))
        value = (word >> shift) ^ (word >> 11)
        writing, reading = self.stage == 1, self.stage == 2
        m.d.comb += [
            self.write_request.valid.eq(writing & (asked != self.bursts)),
            self.read_request.valid.eq(reading & (asked != self.bursts)),
            self.write_data.valid.eq(writing),
            self.write_data.data.eq(value),
            self.read_data.ready.eq(1),
        ]
        for request in (self.write_request, self.read_request):
            m.d.comb += [request.address.eq(at), request.beats.eq(BEATS)]
        took = (self.write_request.valid & self.write_request.ready) | (
            self.read_request.valid & self.read_request.ready
        )
        moved = (self.write_data.valid & self.write_data.ready) | (self.read_data.valid & self.read_data.ready)
        with m.If(took):
            m.d.sync += [asked.eq(asked + 1), at.eq(at + self.stride)]
        with m.If(moved):
            m.d.sync += [beat.eq(beat + 1), word.eq(word + self.bytes)]
            with m.If(beat == BEATS - 1):
                m.d.sync += [burst.eq(burst + self.stride), word.eq(burst + self.stride), answered.eq(answered + 1)]
            with m.If(reading & (self.read_data.data != value[: 8 * self.bytes])):
                m.d.sync += self.wrong.eq(self.wrong + 1)
        with m.If(self.stage != 0):
            cycles = Mux(writing, self.cycles[0], self.cycles[1]) + 1
            with m.If(writing):
                m.d.sync += self.cycles[0].eq(cycles)
            with m.Else():
                m.d.sync += self.cycles[1].eq(cycles)
            with m.If(answered == self.bursts):
                m.d.sync += [asked.eq(0), answered.eq(0), at.eq(0), word.eq(0), burst.eq(0)]
                m.d.sync += self.stage.eq(Mux(writing, 2, 0))
        with m.Elif(self.start):
            m.d.sync += [self.stage.eq(1), self.wrong.eq(0), *(c.eq(0) for c in self.cycles)]
        return m


class Bench(Elaboratable):
    """What :class:`bitwright.fpga.rtl.board.System` is with a processor."""

    def __init__(self, config: ProcessorConfig, memory: Any, memory_bytes: int) -> None:
        self.config, self.memory, self.memory_bytes = config, memory, memory_bytes
        self.rx, self.tx, self.busy = Signal(init=1, name="rx"), Signal(init=1, name="tx"), Signal(name="is_busy")

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bridge = Bridge(DIVISOR, self.config.bus.bytes, self.memory_bytes)
        traffic = Traffic(self.config.bus.bytes)
        m.submodules += [bridge, traffic, self.memory]
        share(m, self.memory, traffic, bridge.memory, 1 << 12)
        sets = Signal(32)
        for number, target in ((BURSTS, traffic.bursts), (STRIDE, traffic.stride)):
            with m.If(bridge.write_enable & (bridge.index == number)):
                m.d.sync += target.eq(bridge.write_data)
        with m.If(bridge.write_enable):
            m.d.sync += sets.eq(sets + 1)
        with m.Switch(bridge.index):
            for number, value in enumerate((*traffic.cycles, traffic.wrong, traffic.bursts, traffic.stride)):
                with m.Case(number):
                    m.d.comb += bridge.read_data.eq(value)
            with m.Case(START):
                m.d.comb += bridge.read_data.eq(traffic.stage)
            with m.Case(63):
                m.d.comb += bridge.read_data.eq(sets)
        m.d.comb += [
            traffic.start.eq(bridge.write_enable & (bridge.index == START)),
            bridge.enable.eq(self.memory.ready),
            bridge.rx.eq(self.rx),
            self.tx.eq(bridge.tx),
            self.busy.eq(traffic.stage != 0),
        ]
        return m


def config_of(file: BoardFile) -> ProcessorConfig:
    """The board's configuration, an SDRAM board's at 80 MHz: the chip's times are several cycles there."""
    config = load_config(file.config)
    return replace(config, clock_hz=80_000_000) if file.memory == "sdram" else config


def bench(board: str, *, held: Times | None = None, bus_bytes: int | None = None) -> SimulatedBoard:
    """A simulated board; with ``held`` its controller keeps to these times."""
    file = load_board(board)
    config = config_of(file)
    if bus_bytes is not None:
        config = replace(config, bus=replace(config.bus, bytes=bus_bytes))
    found = held or times(file.clocks(config).clock_hz)
    memory = Sdram(config.bus.bytes, found) if file.memory == "sdram" else Spram(config.bus.bytes)
    return SimulatedBoard(file, config, system=Bench(config, memory, file.memory_bytes))
