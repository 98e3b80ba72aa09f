"""The LOAD queue: bursts asked for ahead of time, words written as they come."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib.fifo import SyncFIFOBuffered

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Dest, Unit
from bitwright.fpga.limits import pieces
from bitwright.fpga.rtl.bursts import Bursts
from bitwright.fpga.rtl.ports import Beats, Head, Loop, fields, instruction_bits

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
        run_ends: The beat that has just come is the last of its run.
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
        self.run_ends = Signal(name="load_run_ends")

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
        small = config.control == "small"
        # Rows are first those above, then real ones, then those below; what is left of a kind is counted down to 1.
        rows = Signal(max(len(i[name]) for name in ("above", "rows", "below")), name="load_rows")
        in_above, in_rows = Signal(name="load_in_above"), Signal(name="load_in_rows")
        columns = Loop(m, "load_columns", i["width"], small)
        margin = Signal(len(i["left"]), name="load_margin")
        base, word = Signal(len(i["base"]), name="load_base"), Signal(len(i["base"]), name="load_word")
        most = max(pieces(config).values())
        last_piece, piece = Signal(range(most), name="load_last_piece"), Signal(range(most), name="load_piece")
        run_words, runs = (Loop(m, f"load_{n}", i[n], small) for n in ("words", "runs"))
        beat = Signal(range(config.beats_per_word + 1), name="load_beat")
        # Real words of a row: from ``left`` until its last run is read.
        in_columns, runs_done = Signal(name="load_in_columns"), Signal(name="load_runs_done")
        real = in_rows & in_columns & ~runs_done
        free = ~self.valid | ~self.hold
        last_beat = beat == config.beats_per_word - 1
        m.d.comb += self.run_ends.eq(run_words.last & last_beat)
        m.d.comb += self.beats.ready.eq(active & ~null & real & free)
        full = Cat(self.data[8 * config.bus.bytes :], self.beats.data) if config.beats_per_word > 1 else self.beats.data
        filled = Cat(*([i["fill"]] * config.icp))
        with m.If(active & ~null):
            m.d.comb += take.eq(free & Mux(real, self.beats.valid & last_beat, 1))
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += [self.data.eq(full), beat.eq(Mux(last_beat, 0, beat + 1))]
        with m.Elif(take):
            m.d.sync += self.data.eq(filled)
        last_column, last_row, last_of_kind = (
            columns.last,
            Signal(name="load_last_row"),
            Signal(name="load_last_of_kind"),
        )
        some_rows, some_below = i["rows"] != 0, i["below"] != 0
        m.d.comb += [
            last_of_kind.eq(rows == 1),
            last_row.eq(last_of_kind & ~((in_above & some_rows) | ((in_above | in_rows) & some_below))),
        ]

        def row_begins(fields: dict[str, Any]) -> list[Any]:
            found = [in_columns.eq(fields["left"] == 0), run_words.begin(fields["words"]), runs.begin(fields["runs"])]
            return [*found, runs_done.eq(0), *([] if small else [margin.eq(fields["left"])])]

        # Where turns are counted up, their number is enough to know where the left ends.
        margin_ends = columns.count == i["left"] if small else margin == 1

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
                columns.next(),
                *([] if small else [margin.eq(margin - 1)]),
                in_columns.eq(in_columns | margin_ends),
                piece.eq(Mux(piece == last_piece, 0, piece + 1)),
            ]
            with m.If(piece == last_piece):
                m.d.sync += word.eq(word + 1)
            with m.If(real):
                m.d.sync += run_words.next()
                with m.If(run_words.last):
                    m.d.sync += runs.next()
                    with m.If(runs.last):
                        m.d.sync += runs_done.eq(1)
            with m.If(last_column):
                m.d.sync += [rows.eq(rows - 1), *row_begins(i)]
                with m.If(last_of_kind):
                    follow = in_above & some_rows
                    m.d.sync += [in_above.eq(0), in_rows.eq(follow), rows.eq(Mux(follow, i["rows"], i["below"]))]
        with m.If(begin):
            some_above, some_rows = coming["above"] != 0, coming["rows"] != 0
            m.d.sync += [
                active.eq(1),
                null.eq(~(some_above | some_rows | (coming["below"] != 0)) | (coming["width"] == 0)),
                in_above.eq(some_above),
                in_rows.eq(~some_above & some_rows),
                rows.eq(Mux(some_above, coming["above"], Mux(some_rows, coming["rows"], coming["below"]))),
                piece.eq(0),
                columns.begin(coming["width"]),
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
