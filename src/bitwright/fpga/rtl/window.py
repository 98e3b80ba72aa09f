"""Small control: instructions on their way wait together in one block of memory, and each unit is given its next one."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib.memory import Memory

from bitwright.fpga.config import INSTRUCTION_BYTES, ProcessorConfig
from bitwright.fpga.isa import HEADER, Unit
from bitwright.fpga.rtl.memories import UNWATCHED
from bitwright.fpga.rtl.ports import Beats, Head, Requests
from bitwright.fpga.stages import copied_bytes

LAST_BIT = HEADER[0].bits


class Window(Elaboratable):
    """The next ``queue`` instructions of the program; a place is free when every unit is past it.

    Each unit walks over those of others, one a cycle, and has its own copied, a word a cycle, when it has none.  What must
    wait for what is older than it is, so that the oldest instruction in the window can always run.

    Attributes:
        start: Begin at ``address``.
        address: First byte of the program.
        request: Burst requests.
        beats: What comes back.
        heads: The instruction of each unit; it stays until the unit says that it is over.
        active: More instructions are to come.
        complete: The beat that has just come is the last of its instruction.
    """

    def __init__(self, config: ProcessorConfig) -> None:
        self.config = config
        self.start = Signal()
        self.address = Signal(32)
        self.request = Requests("fetch")
        self.beats = Beats("fetch_data", 8 * config.bus.bytes)
        self.heads = [Head(unit) for unit in Unit]
        self.active = Signal()
        self.complete = Signal(name="window_complete")

    def elaborate(self, platform: Any) -> Module:
        """Asking, arriving, walking, copying."""
        m = Module()
        size = self.config.queue
        bits = (size - 1).bit_length()
        # One bit more than a place has: how far, not only where.
        asked, arrived, freed = (Signal(bits + 1, name=f"window_{n}") for n in ("asked", "arrived", "freed"))
        at = [Signal(bits + 1, name=f"window_at{int(head.unit)}") for head in self.heads]
        self._ask(m, asked, freed)
        units = self._arrive(m, asked, arrived, bits)
        everyone = Signal()
        m.d.comb += everyone.eq(Cat(*(one != freed for one in at)).all())
        with m.If(everyone):
            m.d.sync += freed.eq(freed + 1)
        self._copy(m, units, arrived, at, bits)
        with m.If(self.start):
            m.d.sync += [s.eq(0) for s in (asked, arrived, freed, *at)]
        return m

    def _ask(self, m: Module, asked: Any, freed: Any) -> None:
        self.ended = Signal(name="window_ended")
        pc = Signal((self.config.bus.memory_bytes - 1).bit_length(), name="pc")
        self.outstanding = Signal(len(asked), name="window_outstanding")
        asking = Signal(name="window_asking")
        m.d.comb += [
            self.request.valid.eq(self.active & ~self.ended & ((asked - freed)[: len(asked)] != self.config.queue)),
            self.request.address.eq(pc),
            self.request.beats.eq(INSTRUCTION_BYTES // self.config.bus.bytes),
            asking.eq(self.request.valid & self.request.ready),
        ]
        m.d.sync += self.outstanding.eq(self.outstanding + asking - self.complete)
        with m.If(asking):
            m.d.sync += [pc.eq(pc + INSTRUCTION_BYTES), asked.eq(asked + 1)]
        # What was asked for beyond the end is thrown away.
        with m.If(self.ended & (self.outstanding == 0)):
            m.d.sync += self.active.eq(0)
        with m.If(self.start):
            m.d.sync += [pc.eq(self.address), self.active.eq(1), self.ended.eq(0)]

    def _arrive(self, m: Module, asked: Any, arrived: Any, bits: int) -> list[Any]:
        """Beats into the block of memory; returns the unit of each place."""
        count = INSTRUCTION_BYTES // self.config.bus.bytes
        wide = copied_bytes(self.config)
        self.memory = Memory(
            shape=8 * wide, depth=self.config.queue * INSTRUCTION_BYTES // wide, init=[], attrs=UNWATCHED
        )
        m.submodules.memory = self.memory
        write = self.memory.write_port()
        held = Signal(8, name="window_held_byte")  # a bus of one byte: the first of two
        paired = wide != self.config.bus.bytes
        with m.If(self.beats.valid):
            m.d.sync += held.eq(self.beats.data)
        got, final = Signal(range(count), name="window_got"), Signal(name="window_final")
        units = [Signal(2, name=f"window_unit{n}") for n in range(self.config.queue)]
        m.d.comb += [
            self.beats.ready.eq(1),
            write.addr.eq(Cat(got[paired:], arrived[:bits])),
            write.data.eq(Cat(held, self.beats.data) if paired else self.beats.data),
            write.en.eq(self.beats.valid & ~self.ended),
            self.complete.eq(self.beats.valid & (got == count - 1)),
        ]
        with m.If(self.beats.valid):
            m.d.sync += got.eq(got + 1)
            with m.If((got == 0) & ~self.ended):
                m.d.sync += [Array(units)[arrived[:bits]].eq(self.beats.data[:2]), final.eq(self.beats.data[LAST_BIT])]
        with m.If(self.complete & ~self.ended):
            m.d.sync += [arrived.eq(arrived + 1), self.ended.eq(final)]
        return units

    def _copy(self, m: Module, units: list[Any], arrived: Any, at: list[Any], bits: int) -> None:
        width, count = 8 * copied_bytes(self.config), INSTRUCTION_BYTES // copied_bytes(self.config)
        copying, who = Signal(name="window_copying"), Signal(2, name="window_who")
        index = Signal(range(count + 1), name="window_index")
        there, beat = Signal(name="window_there"), Signal(range(count), name="window_beat")
        read = self.memory.read_port(domain="sync")
        done = Signal(name="window_copied")
        m.d.comb += [
            read.addr.eq(Cat(index[: len(beat)], Array(at)[who][:bits])),
            read.en.eq(1),
            done.eq(there & (beat == count - 1)),
        ]
        m.d.sync += [there.eq(copying & (index != count)), beat.eq(index)]
        with m.If(copying & (index != count)):
            m.d.sync += index.eq(index + 1)
        with m.If(done):
            m.d.sync += copying.eq(0)
        wants = []
        for head, place in zip(self.heads, at, strict=True):
            mine, here = Signal(), Signal()
            m.d.comb += [here.eq(place != arrived), mine.eq(Array(units)[place[:bits]] == int(head.unit))]
            with m.If(here & ~mine):
                m.d.sync += place.eq(place + 1)
            wants.append(here & mine & ~head.valid & ~copying)
            with m.If(head.over):
                m.d.sync += head.valid.eq(0)
            with m.If(done & (who == int(head.unit))):
                m.d.sync += [head.valid.eq(1), place.eq(place + 1)]
            # Bits that no unit looks at are not kept.
            with m.If(there & (who == int(head.unit))):
                for n in range(-(-len(head.word) // width)):
                    with m.If(beat == n):
                        part = head.word[n * width : (n + 1) * width]
                        m.d.sync += part.eq(read.data)
        chosen = Mux(wants[0], 0, Mux(wants[1], 1, Mux(wants[2], 2, 3)))
        with m.If(Cat(*wants).any()):
            m.d.sync += [copying.eq(1), who.eq(chosen), index.eq(0)]
