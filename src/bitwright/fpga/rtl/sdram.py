"""A controller for one SDRAM chip with 16 bits: a column each cycle, rows left open, refreshed in time.

The mode is "burst length 1": each read and write names its column, so bursts end and turn without further commands.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, ResetInserter, Signal
from amaranth.lib.fifo import SyncFIFOBuffered

from bitwright.fpga.rtl.sharing import MemoryPort
from bitwright.fpga.sdram import BANK_BITS, CAS_LATENCY, COLUMN_BITS, ROW_BITS, WAKE_REFRESHES, WIDTH_BYTES, Times

# RAS, CAS and WE, active low.
NOTHING, ACTIVATE, READ, WRITE, PRECHARGE, REFRESH, MODE = 0b111, 0b011, 0b101, 0b100, 0b010, 0b001, 0b000
ALL_BANKS = 1 << 10
MODE_VALUE = CAS_LATENCY << 4
"""Burst length 1, sequential, this CAS latency, no test mode."""
ARRIVED = CAS_LATENCY + 2
"""Cycles from the choice of a read to its word in the controller's register."""
TURN = CAS_LATENCY + 1
"""Idle cycles between a read and a write, so that nobody drives against the other."""
WAITING_WORDS = 16
WIDTHS = (2, 4, 8)
"""Bytes of a bus that this memory can be on."""


class Pins:
    """What goes to the chip's pins, a cycle before it is there, and what came from them.

    Attributes:
        command: RAS, CAS, WE, highest first, active low; the chip is always selected.
        bank: Bank.
        address: Row or column.
        mask: Bytes that are not written.
        data_out: Word to the chip.
        drive: It is driven.
        data_in: Word from the chip, a cycle after it was at the pins.
    """

    def __init__(self) -> None:
        self.command = Signal(3, init=NOTHING, name="sdram_command")
        self.bank = Signal(BANK_BITS, name="sdram_bank")
        self.address = Signal(ROW_BITS, name="sdram_address")
        self.mask = Signal(2, name="sdram_mask")
        self.data_out = Signal(16, name="sdram_data_out")
        self.drive = Signal(name="sdram_drive")
        self.data_in = Signal(16, name="sdram_data_in")


class Sdram(Elaboratable):
    """Bursts that stay within a row.

    Attributes:
        port: Its channels.
        pins: To the chip.
        awake: The clock has settled; until then the chip is told nothing and no time is counted.
        ready: The chip has been woken.
    """

    def __init__(self, bus_bytes: int, times: Times) -> None:
        if bus_bytes not in WIDTHS:
            raise ValueError(f"a bus of {bus_bytes} bytes is none of {WIDTHS}")
        self.bytes, self.times = bus_bytes, times
        self.port = MemoryPort("sdram", 8 * bus_bytes)
        self.pins = Pins()
        self.awake = Signal(init=1)
        self.ready = Signal()

    def elaborate(self, platform: Any) -> Any:
        """One command a cycle."""
        m = Module()
        times, port, pins = self.times, self.port, self.pins
        per_beat = self.bytes // WIDTH_BYTES
        shift = per_beat.bit_length() - 1
        # The burst at hand and the one after it.
        now, write, hit, left = (Signal(name="burst"), Signal(name="burst_writes"), Signal(name="burst_hits"),
                                 Signal(9 + shift, name="burst_left"))  # fmt: skip
        bank, row, column = (Signal(n, name=f"burst_{k}") for n, k in
                             ((BANK_BITS, "bank"), (ROW_BITS, "row"), (COLUMN_BITS, "column")))  # fmt: skip
        after, after_writes = Signal(name="next"), Signal(name="next_writes")
        after_at, after_left = Signal(24, name="next_at"), Signal(9 + shift, name="next_left")
        opened = Signal(1 << BANK_BITS, name="rows_open")
        rows = Array(Signal(ROW_BITS, name=f"open_row{b}") for b in range(1 << BANK_BITS))
        wait, active, recovering, turning = (
            Signal(range(max(times.start, 2) + 1), name="wait"),
            Signal(range(times.to_precharge + 1), name="row_active"),
            Signal(range(times.write + 1), name="write_recovers"),
            Signal(range(TURN + 1), name="bus_turns"),
        )
        due = Signal(4, name="refreshes_due")
        interval = Signal(range(times.interval), name="refresh_interval")
        last, move, take = Signal(), Signal(), Signal()
        m.d.comb += [move.eq(after & (~now | last)), take.eq(~after)]
        # Of two requests that wait, the other kind than the last.
        write_first = port.write_request.valid & (~after_writes | ~port.read_request.valid)
        m.d.comb += [port.write_request.ready.eq(take & write_first), port.read_request.ready.eq(take & ~write_first)]
        with m.If(take):
            at = Mux(write_first, port.write_request.address, port.read_request.address)
            m.d.sync += [
                after.eq(port.write_request.valid | port.read_request.valid),
                after_at.eq(at[1:25]),
                after_left.eq(Mux(write_first, port.write_request.beats, port.read_request.beats) << shift),
            ]
            with m.If(port.write_request.valid | port.read_request.valid):
                m.d.sync += after_writes.eq(write_first)
        # An address is row, bank, column: neighboring rows of a bank are a row of each bank apart.
        next_column, next_bank = after_at[:COLUMN_BITS], after_at[COLUMN_BITS : COLUMN_BITS + BANK_BITS]
        next_row = after_at[COLUMN_BITS + BANK_BITS :]
        with m.If(last):
            m.d.sync += now.eq(0)
        with m.If(move):
            m.d.sync += [
                after.eq(0), now.eq(1), write.eq(after_writes), left.eq(after_left), bank.eq(next_bank), row.eq(next_row),
                column.eq(next_column), hit.eq(opened.bit_select(next_bank, 1) & (rows[next_bank] == next_row)),
            ]  # fmt: skip
        for counter in (wait, active, recovering, turning):
            with m.If(counter != 0):
                m.d.sync += counter.eq(counter - 1)
        # What is read: how many words may still come, and when they do.
        words = SyncFIFOBuffered(width=16, depth=WAITING_WORDS)
        m.submodules.words = words
        promised = Signal(range(WAITING_WORDS + 1))
        coming = Signal(ARRIVED)
        reads = Signal()
        m.d.sync += coming.eq(Cat(reads, coming))
        m.d.comb += [words.w_data.eq(pins.data_in), words.w_en.eq(coming[-1])]
        m.d.sync += promised.eq(promised + reads - (words.r_rdy & words.r_en))
        self._beats(m, words, per_beat)
        # What is written.
        part = Signal(range(max(per_beat, 2)))
        m.d.comb += pins.data_out.eq(
            port.write_data.data.word_select(part, 16) if per_beat > 1 else port.write_data.data
        )
        # Commands.  What nobody chose is "nothing"; the address follows the burst unless said otherwise.
        m.d.comb += [
            pins.command.eq(NOTHING), pins.bank.eq(bank), pins.address.eq(column), pins.mask.eq(0),
        ]  # fmt: skip
        calm = (active == 0) & (recovering == 0)
        step = Signal()
        with m.If(~self.ready):
            self._wake(m, wait)
        with m.Elif(wait != 0):
            pass
        with m.Elif(due != 0):
            with m.If(opened == 0):
                m.d.comb += pins.command.eq(REFRESH)
                m.d.sync += wait.eq(times.refresh - 1)
            with m.Elif(calm):
                m.d.comb += [pins.command.eq(PRECHARGE), pins.address.eq(ALL_BANKS)]
                m.d.sync += [opened.eq(0), hit.eq(0), wait.eq(times.precharge - 1)]
        with m.Elif(now & hit):
            with m.If(~write & (promised != WAITING_WORDS)):
                m.d.comb += [pins.command.eq(READ), reads.eq(1), step.eq(1)]
                m.d.sync += turning.eq(TURN)
            with m.If(write & port.write_data.valid & (turning == 0)):
                m.d.comb += [pins.command.eq(WRITE), pins.drive.eq(1), step.eq(1)]
                m.d.comb += port.write_data.ready.eq(part == per_beat - 1)
                m.d.sync += [part.eq(Mux(part == per_beat - 1, 0, part + 1)), recovering.eq(times.write - 1)]
        with m.Elif(now):
            with m.If(~opened.bit_select(bank, 1)):
                m.d.comb += [pins.command.eq(ACTIVATE), pins.address.eq(row)]
                m.d.sync += [
                    opened.eq(opened | (1 << bank)), rows[bank].eq(row), hit.eq(1),
                    wait.eq(times.to_column - 1), active.eq(times.to_precharge - 1),
                ]  # fmt: skip
            with m.Elif(calm):
                m.d.comb += pins.command.eq(PRECHARGE)
                m.d.sync += [opened.eq(opened & ~(1 << bank)), wait.eq(times.precharge - 1)]
        with m.If(step & ~last):  # after the last one the next burst is at hand
            m.d.sync += [column.eq(column + 1), left.eq(left - 1)]
        m.d.comb += last.eq(step & (left == 1))
        m.d.sync += port.write_answer.eq(last & write)
        refreshed = pins.command == REFRESH
        with m.If(~self.ready):
            m.d.sync += due.eq(0)
        with m.Elif(interval == 0):
            m.d.sync += [interval.eq(times.interval - 1), due.eq(due + ~refreshed)]
        with m.Else():
            m.d.sync += [interval.eq(interval - 1), due.eq(due - refreshed)]
        return ResetInserter(~self.awake)(m)

    def _beats(self, m: Module, words: Any, per_beat: int) -> None:
        """Words to beats."""
        data = self.port.read_data
        if per_beat == 1:
            m.d.comb += [data.valid.eq(words.r_rdy), data.data.eq(words.r_data), words.r_en.eq(data.ready)]
            return
        held = Signal(16 * (per_beat - 1), name="words_held")
        have = Signal(range(per_beat), name="words_had")
        whole = have == per_beat - 1
        m.d.comb += [
            data.valid.eq(words.r_rdy & whole),
            data.data.eq(Cat(held, words.r_data)),
            words.r_en.eq(~whole | data.ready),
        ]
        with m.If(words.r_rdy & words.r_en):
            m.d.sync += [have.eq(Mux(whole, 0, have + 1)), held.eq(Cat(held, words.r_data)[16:])]

    def _wake(self, m: Module, wait: Any) -> None:
        """The chip's start: a pause, all rows closed, some refreshes, the mode."""
        times, pins = self.times, self.pins
        stage = Signal(range(WAKE_REFRESHES + 4), name="wake_stage")
        m.d.comb += pins.mask.eq(0b11)
        with m.If(wait == 0):
            m.d.sync += stage.eq(stage + 1)
            with m.If(stage == 0):
                m.d.sync += wait.eq(times.start)
            with m.Elif(stage == 1):
                m.d.comb += [pins.command.eq(PRECHARGE), pins.address.eq(ALL_BANKS)]
                m.d.sync += wait.eq(times.precharge - 1)
            with m.Elif(stage <= WAKE_REFRESHES + 1):
                m.d.comb += pins.command.eq(REFRESH)
                m.d.sync += wait.eq(times.refresh - 1)
            with m.Elif(stage == WAKE_REFRESHES + 2):
                m.d.comb += [pins.command.eq(MODE), pins.address.eq(Const(MODE_VALUE, ROW_BITS)), pins.bank.eq(0)]
                m.d.sync += wait.eq(times.mode - 1)
            with m.Else():
                m.d.sync += self.ready.eq(1)
