"""Splits rows and runs of neighboring bytes into bursts that never cross a burst's own alignment."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, Mux, Signal

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.rtl.ports import Requests


class Bursts(Elaboratable):
    """``rows`` times ``runs`` runs of ``words`` words.

    Attributes:
        start: Take the numbers below and begin.
        active: Bursts are still to be asked for.
        request: The bursts.
    """

    def __init__(self, config: ProcessorConfig, name: str) -> None:
        self.config = config
        self.start = Signal()
        self.active = Signal()
        self.address = Signal(32)
        self.row_stride = Signal(32)
        self.rows = Signal(12)
        self.runs = Signal(12)
        self.run_stride = Signal(24)
        self.words = Signal(20)
        self.request = Requests(name)

    def elaborate(self, platform: Any) -> Module:
        """One burst a cycle at most."""
        m = Module()
        bus = self.config.bus
        row, run, at = Signal(32), Signal(32), Signal(32)
        rows, runs = Signal(12), Signal(12)
        row_stride, all_runs, run_stride = Signal(32), Signal(12), Signal(24)
        beats = Signal(27)
        left = Signal(27)
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
                m.d.sync += [runs.eq(runs - 1), run.eq(run + run_stride), at.eq(run + run_stride), left.eq(beats)]
            with m.Elif(rows != 1):
                m.d.sync += [rows.eq(rows - 1), runs.eq(all_runs), left.eq(beats)]
                m.d.sync += [row.eq(row + row_stride), run.eq(row + row_stride), at.eq(row + row_stride)]
            with m.Else():
                m.d.sync += self.active.eq(0)
        first = self.words * self.config.beats_per_word
        with m.If(self.start):
            m.d.sync += [
                row.eq(self.address),
                run.eq(self.address),
                at.eq(self.address),
                rows.eq(self.rows),
                runs.eq(self.runs),
                all_runs.eq(self.runs),
                row_stride.eq(self.row_stride),
                run_stride.eq(self.run_stride),
                beats.eq(first),
                left.eq(first),
                self.active.eq((self.rows != 0) & (self.runs != 0) & (self.words != 0)),
            ]
        return m
