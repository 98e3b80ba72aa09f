"""Splits rows and runs of neighboring bytes into bursts that never cross a burst's own alignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.rtl.ports import Requests


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
        self.request = Requests(name)

    def elaborate(self, platform: Any) -> Module:
        """One burst a cycle at most."""
        m = Module()
        bus = self.config.bus
        numbers = self.numbers
        row, run, at = (Signal(len(numbers["address"]), name=n) for n in ("row", "run", "at"))
        # Small control holds the instruction until it is done.
        copies = self.config.control != "small"
        kept = dict(numbers)
        if copies:
            for name in ("row_stride", "run_stride", "runs"):
                kept[name] = Signal(len(numbers[name]), name=name)
                with m.If(self.start):
                    m.d.sync += kept[name].eq(numbers[name])
        rows, runs = Signal(len(numbers["rows"]), name="rows_left"), Signal(len(numbers["runs"]), name="runs_left")
        first = numbers["words"] * self.config.beats_per_word
        left = Signal(len(first), name="left")
        beats = first
        if copies:
            beats = Signal(len(first), name="run_beats")
            with m.If(self.start):
                m.d.sync += beats.eq(first)
        shift = bus.bytes.bit_length() - 1
        room = Signal(9)
        size = Signal(9)
        m.d.comb += [
            room.eq(bus.burst_beats - at[shift : shift + bus.burst_beats.bit_length() - 1]),
            size.eq(Mux(left < room, left, room)),
            self.request.valid.eq(self.active),
            self.request.address.eq(at),
            self.request.beats.eq(size),
        ]
        with m.If(self.request.valid & self.request.ready):
            with m.If(left != size):
                m.d.sync += [left.eq(left - size), at.eq(at + (size << shift))]
            with m.Elif(runs != 1):
                m.d.sync += [
                    runs.eq(runs - 1),
                    run.eq(run + kept["run_stride"]),
                    at.eq(run + kept["run_stride"]),
                    left.eq(beats),
                ]
            with m.Elif(rows != 1):
                m.d.sync += [rows.eq(rows - 1), runs.eq(kept["runs"]), left.eq(beats)]
                m.d.sync += [
                    row.eq(row + kept["row_stride"]),
                    run.eq(row + kept["row_stride"]),
                    at.eq(row + kept["row_stride"]),
                ]
            with m.Else():
                m.d.sync += self.active.eq(0)
        with m.If(self.start):
            m.d.sync += [
                *[s.eq(numbers["address"]) for s in (row, run, at)],
                rows.eq(numbers["rows"]),
                runs.eq(numbers["runs"]),
                left.eq(first),
                self.active.eq((numbers["rows"] != 0) & (numbers["runs"] != 0) & (numbers["words"] != 0)),
            ]
        return m
