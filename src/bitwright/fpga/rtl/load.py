"""The LOAD queue: bursts asked for ahead of time, words written as they come."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib.fifo import SyncFIFOBuffered

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Dest, Unit
from bitwright.fpga.rtl.bursts import Bursts
from bitwright.fpga.rtl.ports import Beats, Head, fields, instruction_bits

AHEAD = 4
"""Instructions whose bursts may be asked for before the first one's data has come."""


class Load(Elaboratable):
    """Reads rows from external memory and writes words.

    Attributes:
        head: The oldest instruction.
        bursts: Its requests.
        beats: Data, in the order of requests.
        valid: A word is to be written now.
        hold: The word cannot be written now.
        dest: Buffer.
        bank: Bank.
        piece: Piece of a wide word.
        address: Word.
        data: The word.
    """

    def __init__(self, config: ProcessorConfig, head: Head) -> None:
        self.config, self.head = config, head
        self.bursts = Bursts(config, "load")
        self.beats = Beats("load_data", 8 * config.bus.bytes)
        self.valid = Signal()
        self.hold = Signal()
        self.dest = Signal(4)
        self.bank = Signal(4)
        self.piece = Signal(8)
        self.address = Signal(16)
        self.data = Signal(8 * config.icp)

    def pieces(self) -> dict[Dest, int]:
        """Pieces of a word of each buffer."""
        config = self.config
        return {
            Dest.ACT: 1,
            Dest.MID: 1,
            Dest.WEIGHT: config.ocp,
            Dest.BIAS: 4 * config.ocp // config.icp,
            Dest.VECTOR_WEIGHT: 1,
            Dest.VECTOR_BIAS: 4,
            Dest.CONV_ROWS: config.row_entry_words,
            Dest.VECTOR_ROWS: config.row_entry_words,
            Dest.TABLE: 1,
        }

    def elaborate(self, platform: Any) -> Module:
        """Front: tokens and bursts.  Back: words."""
        m = Module()
        config, head = self.config, self.head
        m.submodules.bursts = self.bursts
        ahead = SyncFIFOBuffered(width=instruction_bits(Unit.LOAD), depth=AHEAD)
        m.submodules.ahead = ahead
        front = fields(Unit.LOAD, head.word)
        m.d.comb += [
            head.ready.eq(~self.bursts.active & ahead.w_rdy),
            ahead.w_data.eq(head.word),
            ahead.w_en.eq(head.start),
            self.bursts.start.eq(head.start),
            self.bursts.address.eq(front["address"]),
            self.bursts.row_stride.eq(front["row_stride"]),
            self.bursts.rows.eq(front["rows"]),
            self.bursts.runs.eq(front["runs"]),
            self.bursts.run_stride.eq(front["run_stride"]),
            self.bursts.words.eq(front["words"]),
        ]
        self._back(m, ahead, config)
        return m

    def _back(self, m: Module, ahead: Any, config: ProcessorConfig) -> None:
        now = Signal(instruction_bits(Unit.LOAD))
        i = fields(Unit.LOAD, now)
        coming = fields(Unit.LOAD, ahead.r_data)
        active, null = Signal(), Signal()
        row, column = Signal(13), Signal(20)
        base, word = Signal(16), Signal(16)
        bank, phase, piece = Signal(4), Signal(4), Signal(8)
        pieces = Signal(8)
        run_word, run = Signal(20), Signal(12)
        rows = Signal(13)
        kept = Signal(8 * config.icp)
        beat = Signal(range(config.beats_per_word + 1))

        real_row = (row >= i["above"]) & (row < i["above"] + i["rows"])
        real = Signal()
        # Real words of a row: from ``left`` until its last run is read.
        runs_done = Signal()
        m.d.comb += real.eq(real_row & (column >= i["left"]) & ~runs_done)
        free = ~self.valid | ~self.hold
        last_beat = beat == config.beats_per_word - 1
        m.d.comb += self.beats.ready.eq(active & ~null & real & (~last_beat | free))
        full = Cat(kept[8 * config.bus.bytes :], self.beats.data) if config.beats_per_word > 1 else self.beats.data
        filled = Cat(*([i["fill"]] * config.icp))
        take = Signal()
        with m.If(active & ~null):
            m.d.comb += take.eq(free & Mux(real, self.beats.valid & last_beat, 1))
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += [kept.eq(full), beat.eq(Mux(last_beat, 0, beat + 1))]
        last_column = column == i["width"] - 1
        last_row = row == rows - 1
        post = Signal(len(self.head.post))
        last = Signal()
        with m.If(free):
            m.d.sync += [self.valid.eq(0), post.eq(0), last.eq(0)]
        m.d.comb += [
            self.head.post.eq(Mux(free, post, 0)),
            self.head.done.eq(free & last),
            self.head.busy.eq(active),
        ]
        with m.If(active & null & free):
            m.d.sync += [active.eq(0), post.eq(i["post"]), last.eq(i["last"])]
        with m.If(take):
            m.d.sync += [
                self.valid.eq(1),
                self.dest.eq(i["dest"]),
                self.bank.eq(bank),
                self.piece.eq(piece),
                self.address.eq(word),
                self.data.eq(Mux(real, full, filled)),
                column.eq(column + 1),
                piece.eq(Mux(piece == pieces - 1, 0, piece + 1)),
            ]
            with m.If(piece == pieces - 1):
                m.d.sync += word.eq(word + 1)
            with m.If(real):
                m.d.sync += run_word.eq(run_word + 1)
                with m.If(run_word == i["words"] - 1):
                    m.d.sync += [run_word.eq(0), run.eq(run + 1)]
                    with m.If(run == i["runs"] - 1):
                        m.d.sync += runs_done.eq(1)
            with m.If(last_column):
                m.d.sync += [column.eq(0), row.eq(row + 1), run.eq(0), run_word.eq(0), runs_done.eq(0)]
                with m.If(phase + 1 < i["spread"]):
                    m.d.sync += [phase.eq(phase + 1), base.eq(base + i["pitch"]), word.eq(base + i["pitch"])]
                with m.Elif(bank != config.pp - 1):
                    m.d.sync += [phase.eq(0), bank.eq(bank + 1), base.eq(base - i["back"]), word.eq(base - i["back"])]
                with m.Else():
                    m.d.sync += [phase.eq(0), bank.eq(0), base.eq(base + i["pitch"]), word.eq(base + i["pitch"])]
                with m.If(last_row):
                    m.d.sync += [active.eq(0), post.eq(i["post"]), last.eq(i["last"])]
        m.d.comb += ahead.r_en.eq(~active)
        with m.If(~active & ahead.r_rdy):
            total = coming["above"] + coming["rows"] + coming["below"]
            m.d.sync += [
                now.eq(ahead.r_data),
                active.eq(1),
                null.eq((total == 0) | (coming["width"] == 0)),
                rows.eq(total),
                row.eq(0),
                column.eq(0),
                base.eq(coming["base"]),
                word.eq(coming["base"]),
                bank.eq(coming["bank"]),
                phase.eq(coming["phase"]),
                piece.eq(0),
                run.eq(0),
                run_word.eq(0),
                runs_done.eq(0),
            ]
            with m.Switch(coming["dest"]):
                for dest, count in self.pieces().items():
                    with m.Case(int(dest)):
                        m.d.sync += pieces.eq(count)
