"""A serial line as a way to memory and registers: questions in frames with a checksum, each answered by one.

The frames are those of ``bitwright.mcu.wire``; the host's end is ``bitwright.fpga.link``.  What is damaged is dropped
without an answer, so that the host asks again; whatever came before a frame is skipped.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib.memory import Memory

from bitwright.fpga.rtl.sharing import MemoryPort
from bitwright.fpga.rtl.uart import Receiver, Transmitter
from bitwright.fpga.wire import ADDRESS_BYTES, ANSWER, MOST_BYTES, REFUSED, Kind, Refusal
from bitwright.mcu.wire import MAGIC

HEAD_BYTES, TAIL_BYTES = 6, 4
POLYNOMIAL = 0xEDB88320
RESIDUE = 0xDEBB20E3
"""What the checksum's register holds after a message and its checksum."""
FIRST_DATA = ADDRESS_BYTES + 1
"""Bytes of a payload are counted from 1; what follows the address begins here."""
WRITE, READ, SET, GET = (kind & 3 for kind in (Kind.WRITE, Kind.READ, Kind.SET, Kind.GET))
"""Kinds in two bits."""
KINDS = Kind.WRITE >> 2
"""The other bits of all of them."""
assert MOST_BYTES == 256, "positions in a frame are counted modulo 256"


class Crc(Elaboratable):
    """CRC-32 (ISO 3309, as zlib has it), a bit at a time.

    Attributes:
        clear: Begin anew.
        bit: A bit of the message, of each byte the lowest first.
        valid: Take it.
        shift: The message is over: show the bits of the checksum one after the other, inverted, instead of taking some.
        value: The register.
    """

    def __init__(self, name: str) -> None:
        self.clear = Signal(name=f"{name}_clear")
        self.bit = Signal(name=f"{name}_bit")
        self.valid = Signal(name=f"{name}_valid")
        self.shift = Signal(name=f"{name}_shift")
        self.value = Signal(32, init=0xFFFFFFFF, name=f"{name}_value")

    def elaborate(self, platform: Any) -> Module:
        """A shift register."""
        m = Module()
        out = Signal()
        m.d.comb += out.eq((self.value[0] ^ self.bit) & ~self.shift)
        with m.If(self.valid):
            m.d.sync += self.value.eq((self.value >> 1) ^ Mux(out, POLYNOMIAL, 0))
        with m.If(self.clear):
            m.d.sync += self.value.eq(0xFFFFFFFF)
        return m


class Hear(IntEnum):
    """What the next byte is."""

    FIRST = 0
    SECOND = 1
    HEAD = 2
    BODY = 3
    TAIL = 4
    WHOLE = 5
    ASKS = 6


class Work:
    """The question that is being worked on, and its answer.

    Attributes:
        kind: Of the question.
        number: Of the next answer.
        at: Address of the next byte.
        pages: How often 256 bytes are left to read.
        rest: And how many bytes beside.
        position: Of the next byte in its frame, from 1 on, modulo 256.
        refused: There is no answer.
        reason: Why not.
        word: Bytes to or from memory.
        full: This answer has 256 bytes.
        limit: Position of the last byte.
        last: The next byte is that one.
        with_body: The answer says more than that it is one.
        to_host: What it says is in registers.
        word_ends: The next byte is the last of a word of memory.
    """

    def __init__(self, address_bits: int, bus_bytes: int) -> None:
        self.kind, self.number = Signal(2, name="work_kind"), Signal(8, name="work_number")
        self.at = Signal(address_bits, name="work_at")
        self.pages, self.rest, self.position = (Signal(8, name=n) for n in ("pages", "rest", "position"))
        self.refused, self.reason = Signal(name="refused"), Signal(2, name="reason")
        self.word = Signal(8 * bus_bytes, name="gathered")
        self.limit, self.last = Signal(8, name="limit"), Signal(name="last_of_body")
        self.full, self.with_body, self.to_host = (Signal(name=n) for n in ("full", "with_body", "to_host"))
        shift = bus_bytes.bit_length() - 1
        self.word_ends = (self.at + 1)[:shift] == 0 if shift else Const(1, 1)

    def on(self) -> list[Any]:
        """Statements that go on to the next byte."""
        return [self.position.eq(self.position + 1), self.at.eq(self.at + 1)]


class Bridge(Elaboratable):
    """Asks memory and registers on behalf of the host.

    Attributes:
        rx: The line from the host.
        tx: The line to the host.
        memory: Channels to memory.
        index: Which register.
        write_enable: Write it now.
        write_data: Its new value.
        read_data: Its value; it has the time of a few bytes on the line to come.
        hold: The value is being sent, byte by byte, and should stay.
        enable: Listen.
    """

    def __init__(self, divisor: int, bus_bytes: int, memory_bytes: int) -> None:
        self.divisor, self.bytes = divisor, bus_bytes
        self.address_bits = (memory_bytes - 1).bit_length()
        self.memory = MemoryPort("bridge", 8 * bus_bytes)
        self.rx, self.tx = Signal(init=1, name="rx"), Signal(init=1, name="tx")
        self.index = Signal(6, name="bridge_index")
        self.write_enable = Signal(name="bridge_write")
        self.write_data = Signal(32, name="bridge_write_data")
        self.read_data = Signal(32, name="bridge_read_data")
        self.hold = Signal(name="bridge_hold")
        self.enable = Signal(init=1)

    def elaborate(self, platform: Any) -> Module:
        """A listener, and a worker that also speaks."""
        m = Module()
        # Two payloads: one that is being worked on, and the next one as it comes.
        store = Memory(shape=8, depth=2 * MOST_BYTES, init=[])
        m.submodules.store = store
        self._write_port, self._read_port = store.write_port(), store.read_port(domain="sync")
        m.d.comb += self._read_port.en.eq(1)
        self._listen(m)
        self._judge(m)
        self._work(m)
        return m

    def _listen(self, m: Module) -> None:
        """Bytes to a whole frame with a right checksum."""
        receiver, crc = Receiver(self.divisor), Crc("heard")
        m.submodules.receiver, m.submodules.heard = receiver, crc
        state, count = Signal(3, name="hear"), Signal(9, name="heard")
        self.kind, self.known = Signal(2, name="kind"), Signal(name="kind_known")
        self.number, self.length = Signal(8, name="number"), Signal(9, name="length")
        self.address, self.beyond = Signal(self.address_bits, name="asked_address"), Signal(name="asked_beyond")
        self.value = Signal(32, name="asked_value")
        self.asked, self.taken = Signal(name="asked"), Signal(name="taken")
        self.half = Signal(name="listening_half")
        byte = receiver.data
        first, second = MAGIC
        storing = Signal(name="storing")
        m.d.comb += [
            receiver.pin.eq(self.rx),
            crc.bit.eq(receiver.bit),
            crc.valid.eq(receiver.bit_valid),
            crc.clear.eq((state == Hear.FIRST) | (state == Hear.SECOND)),
            self.asked.eq(state == Hear.ASKS),
            storing.eq(receiver.valid & (state == Hear.BODY)),
            self._write_port.addr.eq(Cat(count[:8], self.half)),
            self._write_port.data.eq(byte),
            self._write_port.en.eq(storing),
        ]
        with m.If(receiver.valid), m.Switch(state):
            with m.Case(Hear.FIRST, Hear.SECOND):
                m.d.sync += [count.eq(0), state.eq(Hear.FIRST)]
                with m.If(byte == first):
                    m.d.sync += state.eq(Hear.SECOND)
                with m.Elif((state == Hear.SECOND) & (byte == second) & self.enable):
                    m.d.sync += state.eq(Hear.HEAD)
            with m.Case(Hear.HEAD):
                m.d.sync += count.eq(count + 1)
                with m.Switch(count[:2]):
                    with m.Case(0):
                        m.d.sync += [self.kind.eq(byte[:2]), self.known.eq(byte[2:] == KINDS)]
                    with m.Case(1):
                        m.d.sync += self.number.eq(byte)
                    with m.Case(2):
                        m.d.sync += self.length[:8].eq(byte)
                    with m.Case(3):
                        m.d.sync += [self.length[8].eq(byte[0]), count.eq(1), state.eq(Hear.BODY)]
                        low = self.length[:8]
                        with m.If((byte[1:] != 0) | Mux(byte[0], low > ADDRESS_BYTES, low == 0)):
                            m.d.sync += state.eq(Hear.FIRST)
            with m.Case(Hear.BODY):
                m.d.sync += count.eq(count + 1)
                with m.If(count >= FIRST_DATA):
                    m.d.sync += self.value.eq(Cat(self.value[8:], byte))
                with m.Switch(count):
                    for at in range(ADDRESS_BYTES):
                        part = self.address[8 * at : 8 * at + 8]
                        left = byte[len(part) :] != 0
                        with m.Case(at + 1):
                            m.d.sync += part.eq(byte)
                            m.d.sync += self.beyond.eq(left | (self.beyond if at else 0))
                with m.If(count == self.length):
                    m.d.sync += [count.eq(0), state.eq(Hear.TAIL)]
            with m.Case(Hear.TAIL):
                m.d.sync += count.eq(count + 1)
                with m.If(count[:2] == TAIL_BYTES - 1):
                    m.d.sync += state.eq(Hear.WHOLE)
        with m.If(state == Hear.WHOLE):
            m.d.sync += state.eq(Mux(crc.value == RESIDUE, Hear.ASKS, Hear.FIRST))
        # A question waits until the one before is answered; what comes meanwhile is lost, and asked again.
        with m.If(self.taken):
            m.d.sync += [state.eq(Hear.FIRST), self.half.eq(~self.half)]

    def _judge(self, m: Module) -> None:
        """Why the question that was heard cannot be answered; in registers before its checksum has come."""
        count = (self.length - ADDRESS_BYTES)[:9]
        wrong = {
            WRITE: self.length < ADDRESS_BYTES,
            READ: self.length != ADDRESS_BYTES + 2,
            SET: self.length != ADDRESS_BYTES + 4,
            GET: self.length != ADDRESS_BYTES,
        }
        low = self.bytes.bit_length() - 1
        size = Signal(16, name="asked_bytes")
        m.d.comb += size.eq(Mux(self.kind[0], self.value[16:], count))
        crosses = (self.address[:8] + count > MOST_BYTES) & ~self.kind[0]
        crooked = (self.address[:low] != 0) | (size[:low] != 0) if low else Const(0, 1)
        nowhere = (self.address[8:] != 0) | (self.address[:2] != 0)
        is_memory = ~self.kind[1]  # WRITE and READ
        self.reasons: list[tuple[Any, Refusal]] = []
        for condition, reason in (
            (~self.known, Refusal.KIND),
            (Array([wrong[kind] for kind in sorted(wrong)])[self.kind], Refusal.LENGTH),
            (self.beyond | Mux(is_memory, (size == 0) | crooked | crosses, nowhere), Refusal.ADDRESS),
        ):
            refused = Signal(name=f"refused_{reason.name.lower()}")
            m.d.sync += refused.eq(condition)
            self.reasons.append((refused, reason))

    def _work(self, m: Module) -> None:
        """One question after the other, each with its answer."""
        memory, work = self.memory, Work(self.address_bits, self.bytes)
        m.d.comb += [
            work.full.eq(work.pages != 0),
            work.limit.eq(Mux(work.full, 0, work.rest)),
            work.last.eq(work.position == work.limit),
            work.with_body.eq(work.refused | work.kind[0]),
            work.to_host.eq(work.kind[1] | work.refused),
            self.index.eq(work.at[2:8]),
            self.write_data.eq(self.value),
            memory.write_request.address.eq(work.at),
            memory.write_request.beats.eq((self.length - ADDRESS_BYTES)[:9] >> (self.bytes.bit_length() - 1)),
            memory.write_data.data.eq(work.word),
            memory.read_request.address.eq(work.at),
            memory.read_request.beats.eq(1),
            self._read_port.addr.eq(Cat(work.position, ~self.half)),
        ]
        with m.FSM(name="work"):
            self._begin(m, work)
            self._write(m, work)
            self._read(m, work)
            self._say(m, work)

    def _begin(self, m: Module, work: Work) -> None:
        """A question is taken, and a register written."""
        before, before_set = Signal(8, name="number_before"), Signal(name="set_before")
        with m.State("IDLE"):
            m.d.sync += [
                work.kind.eq(self.kind), work.number.eq(self.number), work.at.eq(self.address), work.refused.eq(0),
                work.pages.eq(Mux(self.kind == READ, self.value[24:], 0)),
                work.rest.eq(Mux(self.kind == READ, self.value[16:24], self.length)),
                work.position.eq(Mux(self.kind == WRITE, FIRST_DATA, 1)),
            ]  # fmt: skip
            with m.If(self.asked):
                with m.Switch(self.kind):
                    with m.Case(WRITE):
                        m.next = "TELL"
                    with m.Case(SET):
                        # A register is written once, however often the host asks with the same number.
                        m.next = "SET"
                        with m.If(before_set & (before == self.number)):
                            m.d.comb += self.taken.eq(1)
                            m.next = "SAY"
                    with m.Default():
                        m.d.comb += self.taken.eq(1)
                        m.next = "SAY"
                for condition, why in reversed(self.reasons):
                    with m.If(condition):
                        m.d.comb += self.taken.eq(1)
                        m.d.sync += [work.refused.eq(1), work.reason.eq(int(why))]
                        m.d.sync += [work.pages.eq(0), work.rest.eq(1), work.position.eq(1)]
                        m.next = "SAY"
                m.d.sync += [before.eq(self.number), before_set.eq(self.kind == SET)]
        with m.State("SET"):
            m.d.comb += [self.write_enable.eq(1), self.taken.eq(1)]
            m.next = "SAY"

    def _write(self, m: Module, work: Work) -> None:
        """Bytes to memory, all in one burst."""
        memory, final = self.memory, Signal(name="final_word")
        with m.State("TELL"):
            m.d.comb += memory.write_request.valid.eq(1)
            with m.If(memory.write_request.ready):
                m.d.comb += self.taken.eq(1)
                m.next = "GATHER"
        # A byte takes two cycles: its address, then itself.
        with m.State("GATHER"):
            m.next = "GATHERED"
        with m.State("GATHERED"):
            m.d.sync += [work.word.eq(Cat(work.word, self._read_port.data)[8:]), *work.on()]
            m.next = "GATHER"
            with m.If(work.word_ends):
                m.d.sync += final.eq(work.last)
                m.next = "PUT"
        with m.State("PUT"):
            m.d.comb += memory.write_data.valid.eq(1)
            with m.If(memory.write_data.ready):
                m.next = "GATHER"
                with m.If(final):
                    m.next = "WROTE"
        with m.State("WROTE"), m.If(memory.write_answer):
            m.next = "SAY"

    def _read(self, m: Module, work: Work) -> None:
        """A word of memory, asked for when its first byte is to be said: the line is slower than any memory."""
        memory = self.memory
        with m.State("ASK"):
            m.d.comb += memory.read_request.valid.eq(1)
            with m.If(memory.read_request.ready):
                m.next = "TAKE"
        with m.State("TAKE"):
            m.d.comb += memory.read_data.ready.eq(1)
            m.d.sync += work.word.eq(memory.read_data.data)
            with m.If(memory.read_data.valid):
                m.next = "BODY"

    def _say(self, m: Module, work: Work) -> None:
        """An answer goes out: its head, its body, its checksum."""
        transmitter, crc = Transmitter(self.divisor), Crc("said")
        m.submodules.transmitter, m.submodules.said = transmitter, crc
        count = Signal(3, name="said")
        # What the byte that is on the line is to the checksum.
        counts, is_tail = Signal(name="counts"), Signal(name="is_tail")
        gone = transmitter.valid & transmitter.ready
        first, second = MAGIC
        kind = Mux(work.refused, REFUSED, Cat(work.kind, Const(KINDS | ANSWER >> 2, 6)))
        head = Array([
            Const(first, 8), Const(second, 8), kind, work.number, Mux(work.with_body, work.limit, 0), work.full,
            Const(0, 8), Const(0, 8),
        ])  # fmt: skip
        value = Array([self.read_data.word_select((k - 1) % 4, 8) for k in range(4)])[work.position[:2]]
        body = Signal(8, name="body")
        m.d.comb += [
            body.eq(Mux(work.refused, work.reason, Mux(work.kind[1], value, work.word[:8]))),
            self.tx.eq(transmitter.pin),
            crc.bit.eq(transmitter.pin),
            crc.valid.eq(transmitter.bit_valid),
            crc.shift.eq(is_tail),
            crc.clear.eq(~counts & ~is_tail),
        ]
        with m.State("SAY"):
            m.d.comb += [transmitter.valid.eq(1), transmitter.data.eq(head[count])]
            with m.If(gone):
                m.d.sync += [count.eq(count + 1), counts.eq(count >= len(MAGIC)), is_tail.eq(0)]
                with m.If(count == HEAD_BYTES - 1):
                    m.d.sync += count.eq(0)
                    m.next = "TAIL"
                    with m.If(work.with_body):
                        m.next = "BODY"
                        with m.If(~work.to_host):
                            m.next = "ASK"
        with m.State("BODY"):
            m.d.comb += [transmitter.valid.eq(1), transmitter.data.eq(body), self.hold.eq(1)]
            with m.If(gone):
                m.d.sync += [*work.on(), work.word.eq(work.word >> 8), counts.eq(1)]
                with m.If(~work.to_host & work.word_ends):
                    m.next = "ASK"
                with m.If(work.last):
                    m.next = "TAIL"
        with m.State("TAIL"):
            m.d.comb += [transmitter.valid.eq(1), transmitter.data.eq(~crc.value[:8])]
            with m.If(gone):
                m.d.sync += [count.eq(count + 1), counts.eq(0), is_tail.eq(1)]
                with m.If(count == TAIL_BYTES - 1):
                    m.d.sync += count.eq(0)
                    m.next = "IDLE"
                    # What was read comes in several answers, with numbers that follow each other.
                    with m.If(work.full & ((work.pages != 1) | (work.rest != 0))):
                        m.d.sync += [
                            work.pages.eq(work.pages - 1),
                            work.number.eq(work.number + 1),
                            work.position.eq(1),
                        ]
                        m.next = "SAY"
