"""Splits rows and runs of neighboring bytes into bursts that never cross a burst's own alignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.limits import beat_bits
from bitwright.fpga.rtl.ports import Loop, Requests


class Bursts(Elaboratable):
    """``rows`` times ``runs`` runs of ``words`` words.

    Attributes:
        numbers: Fields of the instruction that comes: address, strides and counts.
        start: Take the numbers and begin.
        active: Bursts are still to be asked for.
        request: The bursts.
    """

    def __init__(self, config: ProcessorConfig, name: str, numbers: Mapping[str, Any]) -> None:
        self.config, self.numbers = config, numbers
        self.start = Signal()
        self.active = Signal()
        self.request = Requests(name, beat_bits(config))

    def elaborate(self, platform: Any) -> Module:
        """One burst a cycle at most."""
        m = Module()
        bus = self.config.bus
        numbers = self.numbers
        row, run, at = (Signal(len(numbers["address"]), name=n) for n in ("row", "run", "at"))
        # Small control holds the instruction until it is done.
        small = self.config.control == "small"
        copies = not small
        kept = dict(numbers)
        if copies:
            for name in ("row_stride", "run_stride", "runs"):
                kept[name] = Signal(len(numbers[name]), name=name)
                with m.If(self.start):
                    m.d.sync += kept[name].eq(numbers[name])
        rows, runs = Loop(m, "rows", kept["rows"], small), Loop(m, "runs", kept["runs"], small)
        first = numbers["words"] * self.config.beats_per_word
        left = Signal(len(first), name="left")
        beats = first
        if copies:
            beats = Signal(len(first), name="run_beats")
            with m.If(self.start):
                m.d.sync += beats.eq(first)
        shift = bus.bytes.bit_length() - 1
        # The burst that is asked for, and whether it ends its run, stand in registers: what follows has a cycle.
        size, final = Signal(len(self.request.beats), name="burst_size"), Signal(name="burst_ends_run")
        m.d.comb += [
            self.request.valid.eq(self.active),
            self.request.address.eq(at),
            self.request.beats.eq(size),
        ]
        granted = self.request.valid & self.request.ready
        low = shift + bus.burst_beats.bit_length() - 1  # bits within a burst's own alignment
        aligned = Cat(Const(0, low), (at >> low) + 1)[: len(at)]
        then, rest = Signal(len(at), name="burst_then"), Signal(len(left), name="burst_rest")
        m.d.comb += [then.eq(row + kept["row_stride"]), rest.eq(beats)]
        with m.If(self.start):
            m.d.comb += [then.eq(numbers["address"]), rest.eq(first)]
            m.d.sync += [row.eq(then), run.eq(then), rows.begin(numbers["rows"]), runs.begin(numbers["runs"])]
            m.d.sync += self.active.eq((numbers["rows"] != 0) & (numbers["runs"] != 0) & (numbers["words"] != 0))
        with m.Elif(~final):
            # A burst that does not end its run ends where the next one is aligned.
            m.d.comb += [then.eq(aligned), rest.eq(left - size)]
        with m.Elif(~runs.last):
            m.d.comb += then.eq(run + kept["run_stride"])
            with m.If(granted):
                m.d.sync += [runs.next(), run.eq(then)]
        with m.Elif(granted):
            m.d.sync += [rows.next(again=False), runs.next(), row.eq(then), run.eq(then)]
            with m.If(rows.last):
                m.d.sync += self.active.eq(0)
        with m.If(self.start | granted):
            m.d.sync += at.eq(then)
        if bus.splits:
            room, ends = Signal(9, name="burst_room"), Signal(name="burst_ends")
            m.d.comb += [room.eq(bus.burst_beats - then[shift:low]), ends.eq(rest <= room)]
            with m.If(self.start | granted):
                m.d.sync += [left.eq(rest), size.eq(Mux(ends, rest, room)), final.eq(ends)]
        else:
            m.d.comb += [size.eq(beats), final.eq(1)]
        return m
