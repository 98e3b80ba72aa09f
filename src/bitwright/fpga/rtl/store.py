"""The STORE queue: rows of ``out`` into external memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Elaboratable, Module, Mux, Signal
from amaranth.lib.fifo import SyncFIFOBuffered

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.isa import Unit
from bitwright.fpga.rtl.bursts import Bursts
from bitwright.fpga.rtl.ports import Beats, Head, Loop, delayed, fields, held

WAITING_WORDS = 8


class Store(Elaboratable):
    """Reads words and writes bursts.

    Attributes:
        head: The oldest instruction.
        bursts: Its requests.
        beats: Data, in the order of requests.
        answered: A burst is in external memory.
        finishing: The instruction is done.
        read_address: Word of ``out``, of every bank.
        read_data: Words of the banks, one cycle later.
    """

    def __init__(self, config: ProcessorConfig, head: Head) -> None:
        self.config, self.head = config, head
        coming = fields(Unit.STORE, head.word, config)
        self.bursts = Bursts(
            config, "store", {**coming, "run_stride": coming["pixel_stride"], "words": coming["run_words"]}
        )
        self.beats = Beats("store_data", 8 * config.bus.bytes)
        self.answered = Signal()
        self.finishing = Signal()
        self.read_address = Signal(16)
        self.read_data = [Signal(8 * config.icp, name=f"store_read_data{b}") for b in range(config.pp)]

    def elaborate(self, platform: Any) -> Module:
        """Words are read as long as there is room for them; bursts are asked for beside."""
        m = Module()
        config, head = self.config, self.head
        m.submodules.bursts = self.bursts
        i, coming = held(m, head, config)
        reading, ending = Signal(name="store_reading"), Signal(name="store_ending")
        group, pixel, at = (Signal(len(i["base"]), name=f"store_{n}") for n in ("group", "pixel", "at"))
        small = config.control == "small"
        rows, xs, words = (Loop(m, f"store_{n}", i[n], small) for n in ("rows", "xs", "words"))
        bank = Signal(4, name="store_bank")
        bursts_out = Signal(3 if small else 16, name="store_bursts_out")
        step = Signal(name="store_step")
        m.d.comb += self.read_address.eq(at)
        empty = (self._one_word if config.control == "small" else self._queue)(m, step, reading, bank)
        with m.If(step):
            m.d.sync += words.next()
            with m.If(~words.last):
                m.d.sync += at.eq(at + 1)
            with m.Elif(~xs.last):
                m.d.sync += [xs.next(), *(s.eq(pixel + i["x_step"]) for s in (pixel, at))]
            with m.Elif(~rows.last):
                m.d.sync += [xs.next(), rows.next(again=False)]
                with m.If(bank != config.pp - 1):
                    m.d.sync += [bank.eq(bank + 1), pixel.eq(group), at.eq(group)]
                with m.Else():
                    following = group + i["pitch"]
                    m.d.sync += [bank.eq(0), group.eq(following), pixel.eq(following), at.eq(following)]
            with m.Else():
                m.d.sync += [reading.eq(0), ending.eq(1)]
        asked = self.bursts.request.valid & self.bursts.request.ready
        m.d.sync += bursts_out.eq(bursts_out + asked - self.answered)
        # Done when the last word has left ``out``; with a fence, when every burst has been answered.
        quiet = ~self.bursts.active & (bursts_out == 0) & empty
        finish = self.finishing
        m.d.comb += finish.eq(ending & ~self.bursts.active & (~i["fence"] | quiet))
        m.d.comb += [
            head.post.eq(Mux(finish, i["post"], 0)),
            head.done.eq(finish & i["last"]),
            head.busy.eq(reading | ending),
            head.ready.eq(~reading & ~ending),
            head.over.eq(finish),
            self.bursts.start.eq(head.start),
        ]
        with m.If(finish):
            m.d.sync += ending.eq(0)
        with m.If(head.start):
            m.d.sync += [
                reading.eq(1),
                group.eq(coming["base"]),
                pixel.eq(coming["base"]),
                at.eq(coming["base"]),
                *(loop.begin(coming[n]) for n, loop in (("rows", rows), ("xs", xs), ("words", words))),
                bank.eq(0),
            ]
        return m

    def _queue(self, m: Module, step: Any, reading: Any, bank: Any) -> Any:
        """Words are read ahead into a queue; returns whether nothing is on its way."""
        config = self.config
        waiting = SyncFIFOBuffered(width=8 * config.icp, depth=WAITING_WORDS)
        m.submodules.waiting = waiting
        m.d.comb += step.eq(reading & (waiting.level < WAITING_WORDS - 3))
        # Address now, data one cycle later, the bank's word into the queue one more.
        arrived = delayed(m, step, 1, "arrived")
        chosen = delayed(m, bank, 1, "chosen")
        word_now = Signal(8 * config.icp)
        word_valid = Signal()
        m.d.sync += [word_now.eq(Array(self.read_data)[chosen]), word_valid.eq(arrived)]
        m.d.comb += [waiting.w_data.eq(word_now), waiting.w_en.eq(word_valid)]
        # A word leaves in beats.
        beat = Signal(range(config.beats_per_word + 1))
        last_beat = beat == config.beats_per_word - 1
        m.d.comb += [
            self.beats.valid.eq(waiting.r_rdy),
            self.beats.data.eq(waiting.r_data.word_select(beat, 8 * config.bus.bytes)),
            waiting.r_en.eq(self.beats.ready & last_beat),
        ]
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += beat.eq(Mux(last_beat, 0, beat + 1))
        return (waiting.level == 0) & ~arrived & ~word_valid

    def _one_word(self, m: Module, step: Any, reading: Any, bank: Any) -> Any:
        """One word leaves while the buffer already shows the next; returns whether none does."""
        config = self.config
        width = 8 * config.bus.bytes
        there = Signal(name="store_there")  # the buffer has answered to this address
        word = Signal(8 * config.icp, name="store_word")
        left = Signal(range(config.beats_per_word + 1), name="store_beats_left")
        gone = self.beats.valid & self.beats.ready
        m.d.comb += [
            self.beats.valid.eq(left != 0),
            self.beats.data.eq(word[:width]),
            step.eq(reading & there & ((left == 0) | (gone & (left == 1)))),
        ]
        m.d.sync += there.eq(reading & ~step)
        with m.If(step):
            m.d.sync += [word.eq(Array(self.read_data)[bank]), left.eq(config.beats_per_word)]
        with m.Elif(gone):
            m.d.sync += [word.eq(word >> width), left.eq(left - 1)]
        return left == 0
