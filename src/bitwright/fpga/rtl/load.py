"""The LOAD queue: bursts asked for ahead of time, words written as they come."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib.fifo import SyncFIFOBuffered

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Dest, Unit
from bitwright.fpga.limits import pieces
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
        to_mid: It is ``mid``.
        bank: Bank.
        piece: Piece of a wide word.
        address: Word.
        data: The word.
    """

    def __init__(self, config: ProcessorConfig, head: Head) -> None:
        self.config, self.head = config, head
        front = fields(Unit.LOAD, head.word, config)
        self.bursts = Bursts(config, "load", front)
        self.beats = Beats("load_data", 8 * config.bus.bytes)
        self.valid = Signal()
        self.hold = Signal()
        self.dest = Signal(4)
        self.to_mid = Signal(name="load_to_mid")
        self.bank = Signal(4)
        self.piece = Signal(8)
        self.address = Signal(16)
        self.data = Signal(8 * config.icp)

    def elaborate(self, platform: Any) -> Module:
        """Front: tokens and bursts.  Back: words."""
        m = Module()
        config, head = self.config, self.head
        m.submodules.bursts = self.bursts
        m.d.comb += self.bursts.start.eq(head.start)
        if config.control == "small":
            # The instruction stays where it is until its last word is written.
            active = Signal(name="load_active")
            m.d.comb += head.ready.eq(~self.bursts.active & ~active)
            i = fields(Unit.LOAD, head.word, config)
            self._back(m, i, i, head.start, active)
            return m
        ahead = SyncFIFOBuffered(width=instruction_bits(Unit.LOAD), depth=AHEAD)
        m.submodules.ahead = ahead
        active, begin = Signal(name="load_active"), Signal()
        m.d.comb += [
            head.ready.eq(~self.bursts.active & ahead.w_rdy),
            ahead.w_data.eq(head.word),
            ahead.w_en.eq(head.start),
            ahead.r_en.eq(~active),
            begin.eq(~active & ahead.r_rdy),
        ]
        now = Signal(instruction_bits(Unit.LOAD), name="load_now")
        with m.If(begin):
            m.d.sync += now.eq(ahead.r_data)
        coming = fields(Unit.LOAD, ahead.r_data, config)
        self._back(m, fields(Unit.LOAD, now, config), coming, begin, active)
        return m

    def _back(self, m: Module, i: dict[str, Any], coming: dict[str, Any], begin: Any, active: Any) -> None:
        """Words of instruction ``i``; when it begins, its numbers are those of ``coming``."""
        config = self.config
        null, take, over = Signal(name="load_null"), Signal(name="load_take"), Signal(name="load_over")
        rows = Signal(len(i["rows"]) + 2, name="load_rows")
        # What is left, down to 1: of rows in all, above and real ones, of words in all and on the left, of runs.
        above, real_rows = Signal(len(i["above"]), name="load_above"), Signal(len(i["rows"]), name="load_real_rows")
        columns, margin = Signal(len(i["width"]), name="load_columns"), Signal(len(i["left"]), name="load_margin")
        base, word = Signal(len(i["base"]), name="load_base"), Signal(len(i["base"]), name="load_word")
        most = max(pieces(config).values())
        last_piece, piece = Signal(range(most), name="load_last_piece"), Signal(range(most), name="load_piece")
        run_words, runs = Signal(len(i["words"]), name="load_run_words"), Signal(len(i["runs"]), name="load_runs")
        beat = Signal(range(config.beats_per_word + 1), name="load_beat")
        # Real words of a row: from ``left`` until its last run is read.
        in_rows, in_columns, runs_done = (Signal(name=f"load_{n}") for n in ("in_rows", "in_columns", "runs_done"))
        real = in_rows & in_columns & ~runs_done
        free = ~self.valid | ~self.hold
        last_beat = beat == config.beats_per_word - 1
        m.d.comb += self.beats.ready.eq(active & ~null & real & free)
        full = Cat(self.data[8 * config.bus.bytes :], self.beats.data) if config.beats_per_word > 1 else self.beats.data
        filled = Cat(*([i["fill"]] * config.icp))
        with m.If(active & ~null):
            m.d.comb += take.eq(free & Mux(real, self.beats.valid & last_beat, 1))
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += [self.data.eq(full), beat.eq(Mux(last_beat, 0, beat + 1))]
        with m.Elif(take):
            m.d.sync += self.data.eq(filled)
        last_column, last_row = columns == 1, rows == 1

        def row_begins(fields: dict[str, Any]) -> list[Any]:
            return [
                columns.eq(fields["width"]), margin.eq(fields["left"]), in_columns.eq(fields["left"] == 0),
                run_words.eq(fields["words"]), runs.eq(fields["runs"]), runs_done.eq(0),
            ]  # fmt: skip

        post = Signal(len(self.head.post), name="load_posting")
        last = Signal(name="load_last")
        with m.If(free):
            m.d.sync += [self.valid.eq(0), post.eq(0), last.eq(0)]
        m.d.comb += [
            self.head.post.eq(Mux(free, post, 0)),
            self.head.done.eq(free & last),
            self.head.busy.eq(active),
            over.eq((active & null & free) | (take & last_column & last_row)),
            self.head.over.eq(over),
        ]
        with m.If(take):
            m.d.sync += [
                self.valid.eq(1),
                self.dest.eq(i["dest"]),
                self.to_mid.eq(i["dest"] == int(Dest.MID)),
                self.piece.eq(piece),
                self.address.eq(word),
                columns.eq(columns - 1),
                margin.eq(margin - 1),
                in_columns.eq(in_columns | (margin == 1)),
                piece.eq(Mux(piece == last_piece, 0, piece + 1)),
            ]
            with m.If(piece == last_piece):
                m.d.sync += word.eq(word + 1)
            with m.If(real):
                m.d.sync += run_words.eq(run_words - 1)
                with m.If(run_words == 1):
                    m.d.sync += [run_words.eq(i["words"]), runs.eq(runs - 1)]
                    with m.If(runs == 1):
                        m.d.sync += runs_done.eq(1)
            with m.If(last_column):
                m.d.sync += [rows.eq(rows - 1), *row_begins(i)]
                with m.If(above != 0):
                    m.d.sync += [above.eq(above - 1), in_rows.eq((above == 1) & (real_rows != 0))]
                with m.Elif(real_rows != 0):
                    m.d.sync += [real_rows.eq(real_rows - 1), in_rows.eq(real_rows != 1)]
        with m.If(begin):
            total = coming["above"] + coming["rows"] + coming["below"]
            m.d.sync += [
                active.eq(1),
                null.eq((total == 0) | (coming["width"] == 0)),
                rows.eq(total),
                in_rows.eq((coming["above"] == 0) & (coming["rows"] != 0)),
                above.eq(coming["above"]),
                real_rows.eq(coming["rows"]),
                piece.eq(0),
                *row_begins(coming),
            ]
            with m.Switch(coming["dest"]):
                for dest, count in pieces(config).items():
                    with m.Case(int(dest)):
                        m.d.sync += last_piece.eq(count - 1)
        self._banks(m, i, coming, begin, take, last_column, base, word)
        with m.If(over):
            m.d.sync += [active.eq(0), post.eq(i["post"]), last.eq(i["last"])]

    def _banks(
        self, m: Module, i: dict[str, Any], coming: dict[str, Any], begin: Any, take: Any, last_column: Any, base: Any,
        word: Any,
    ) -> None:  # fmt: skip
        """Where the next row goes."""
        config = self.config
        with m.If(begin):
            m.d.sync += [base.eq(coming["base"]), word.eq(coming["base"])]
        below = base + i["pitch"]
        if config.pp == 1:
            with m.If(take & last_column):
                m.d.sync += [base.eq(below), word.eq(below)]
            return
        bank, phase = Signal(4, name="load_bank"), Signal(4, name="load_phase")
        with m.If(begin):
            m.d.sync += [bank.eq(coming["bank"]), phase.eq(coming["phase"])]
        with m.If(take):
            m.d.sync += self.bank.eq(bank)
        with m.If(take & last_column):
            with m.If(phase + 1 < i["spread"]):
                m.d.sync += [phase.eq(phase + 1), base.eq(below), word.eq(below)]
            with m.Elif(bank != config.pp - 1):
                m.d.sync += [phase.eq(0), bank.eq(bank + 1), base.eq(base - i["back"]), word.eq(base - i["back"])]
            with m.Else():
                m.d.sync += [phase.eq(0), bank.eq(0), base.eq(below), word.eq(below)]
