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

HEAD_BYTES, TAIL_BYTES = 4, 4
POLYNOMIAL = 0xEDB88320
RESIDUE = 0xDEBB20E3
"""What the checksum's register holds after a message and its checksum."""


class Crc(Elaboratable):
    """CRC-32 (ISO 3309, as zlib has it), a bit a cycle.

    Attributes:
        clear: Begin anew.
        data: A byte.
        valid: Take it; the next one may come eight cycles later.
        value: The register.
    """

    def __init__(self, name: str) -> None:
        self.clear = Signal(name=f"{name}_clear")
        self.data = Signal(8, name=f"{name}_data")
        self.valid = Signal(name=f"{name}_valid")
        self.value = Signal(32, init=0xFFFFFFFF, name=f"{name}_value")

    def elaborate(self, platform: Any) -> Module:
        """A shift register."""
        m = Module()
        bits, left = Signal(8), Signal(4)
        with m.If(left != 0):
            out = self.value[0] ^ bits[0]
            m.d.sync += [left.eq(left - 1), bits.eq(bits >> 1)]
            m.d.sync += self.value.eq((self.value >> 1) ^ Mux(out, POLYNOMIAL, 0))
        with m.If(self.valid):
            m.d.sync += [bits.eq(self.data), left.eq(8)]
        with m.If(self.clear):
            m.d.sync += [self.value.eq(0xFFFFFFFF), left.eq(0)]
        return m


class Hear(IntEnum):
    """What the next byte is."""

    FIRST = 0
    SECOND = 1
    HEAD = 2
    BODY = 3
    TAIL = 4
    DONE = 5


class Bridge(Elaboratable):
    """Asks memory and registers on behalf of the host.

    Attributes:
        rx: The line from the host.
        tx: The line to the host.
        memory: Channels to memory.
        index: Which register.
        write_enable: Write it now.
        write_data: Its new value.
        read_data: Its value, ``read_cycles`` cycles after the index.
        enable: Listen.
    """

    def __init__(self, divisor: int, bus_bytes: int, memory_bytes: int, read_cycles: int) -> None:
        self.divisor, self.bytes, self.read_cycles = divisor, bus_bytes, read_cycles
        self.address_bits = (memory_bytes - 1).bit_length()
        self.memory = MemoryPort("bridge", 8 * bus_bytes)
        self.rx, self.tx = Signal(init=1, name="rx"), Signal(init=1, name="tx")
        self.index = Signal(6, name="bridge_index")
        self.write_enable = Signal(name="bridge_write")
        self.write_data = Signal(32, name="bridge_write_data")
        self.read_data = Signal(32, name="bridge_read_data")
        self.enable = Signal(init=1)

    def elaborate(self, platform: Any) -> Module:
        """A listener, a worker, a speaker."""
        m = Module()
        # Halves of one memory: what came, and what is to be sent.
        store = Memory(shape=8, depth=2 * MOST_BYTES, init=[])
        m.submodules.store = store
        self._write_port, self._read_port = store.write_port(), store.read_port(domain="sync")
        m.d.comb += self._read_port.en.eq(1)
        self._listen(m)
        self._work(m)
        self._speak(m)
        return m

    def _listen(self, m: Module) -> None:
        """Bytes to a whole frame with a right checksum."""
        receiver, crc = Receiver(self.divisor), Crc("heard")
        m.submodules.receiver, m.submodules.heard = receiver, crc
        state = Signal(3, name="hear")
        count = Signal(9, name="heard")
        length, self.kind, self.number = Signal(16, name="length"), Signal(8, name="kind"), Signal(8, name="number")
        self.address, self.value = Signal(32, name="asked_address"), Signal(32, name="asked_value")
        self.length, self.asked, self.taken = length, Signal(name="asked"), Signal(name="taken")
        settled = Signal(4, name="checksum_settles")
        self._storing = Signal(name="storing")
        byte = receiver.data
        first, second = MAGIC
        head = Cat(self.kind, self.number, length)
        m.d.comb += [
            receiver.pin.eq(self.rx),
            crc.data.eq(byte),
            crc.clear.eq((state == Hear.FIRST) | (state == Hear.SECOND)),
            crc.valid.eq(receiver.valid & (state >= Hear.HEAD) & (state <= Hear.TAIL)),
            self.asked.eq((state == Hear.DONE) & (settled == 0) & (crc.value == RESIDUE)),
            self._write_port.addr.eq(Cat((count - ADDRESS_BYTES)[:8], Const(0, 1))),
            self._write_port.data.eq(byte),
        ]
        body_end = count == length - 1
        with m.If(receiver.valid), m.Switch(state):
            with m.Case(Hear.FIRST, Hear.SECOND):
                m.d.sync += [count.eq(0), state.eq(Hear.FIRST)]
                with m.If(byte == first):
                    m.d.sync += state.eq(Hear.SECOND)
                with m.Elif((state == Hear.SECOND) & (byte == second) & self.enable):
                    m.d.sync += state.eq(Hear.HEAD)
            with m.Case(Hear.HEAD):
                m.d.sync += [head.eq(Cat(head[8:], byte)), count.eq(count + 1)]
                with m.If(count == HEAD_BYTES - 1):
                    size = Cat(head[24:], byte)
                    m.d.sync += [count.eq(0), state.eq(Hear.BODY)]
                    with m.If((size > ADDRESS_BYTES + MOST_BYTES) | (size == 0)):
                        m.d.sync += state.eq(Hear.FIRST)
            with m.Case(Hear.BODY):
                m.d.sync += count.eq(count + 1)
                with m.If(count < ADDRESS_BYTES):
                    m.d.sync += self.address.eq(Cat(self.address[8:], byte))
                with m.Else():
                    m.d.comb += [self._storing.eq(1), self._write_port.en.eq(1)]
                    m.d.sync += self.value.eq(Cat(self.value[8:], byte))
                with m.If(body_end):
                    m.d.sync += [count.eq(0), state.eq(Hear.TAIL)]
            with m.Case(Hear.TAIL):
                m.d.sync += count.eq(count + 1)
                with m.If(count == TAIL_BYTES - 1):
                    m.d.sync += [state.eq(Hear.DONE), settled.eq(10)]
        with m.If(settled != 0):
            m.d.sync += settled.eq(settled - 1)
        # A question waits until the one before is answered; what comes meanwhile is lost, and asked again.
        with m.If((state == Hear.DONE) & (settled == 0) & (self.taken | (crc.value != RESIDUE))):
            m.d.sync += state.eq(Hear.FIRST)

    def _work(self, m: Module) -> None:
        """One question after the other."""
        memory = self.memory
        kind, number, at, left = (Signal(8, name="work_kind"), Signal(8, name="work_number"),
                                  Signal(self.address_bits, name="work_at"), Signal(16, name="work_left"))  # fmt: skip
        chunk, done, part = Signal(9, name="chunk"), Signal(9, name="chunk_done"), Signal(3, name="part")
        self.answer, self.send, self.sent = Signal(8, name="answer"), Signal(name="send"), Signal(name="sent")
        self.answer_length = Signal(9, name="answer_length")
        # What an answer of a few bytes says; then its checksum.
        self.said = Signal(32, name="said_value")
        self.work_number = number
        before, before_set = Signal(8, name="number_before"), Signal(name="set_before")
        word = Signal(8 * self.bytes, name="gathered")
        settle = Signal(range(self.read_cycles + 2), name="register_settles")
        room = Signal(9, name="room")
        m.d.comb += [
            room.eq(MOST_BYTES - at[:8]),
            chunk.eq(Mux(left < room, left, room)),
            self.index.eq(at[2:8]),
            self.write_data.eq(self.value),
            memory.write_request.address.eq(at),
            memory.read_request.address.eq(at),
            memory.write_request.beats.eq(chunk >> (self.bytes.bit_length() - 1)),
            memory.read_request.beats.eq(chunk >> (self.bytes.bit_length() - 1)),
            memory.write_data.data.eq(word),
        ]
        data_bytes = self.length - ADDRESS_BYTES
        asks = Mux(self.kind == Kind.READ, self.value[16:], data_bytes)
        memory_kind = (self.kind == Kind.READ) | (self.kind == Kind.WRITE)
        register_kind = (self.kind == Kind.GET) | (self.kind == Kind.SET)
        expected = Mux(self.kind == Kind.READ, 2, Mux(self.kind == Kind.SET, 4, 0))
        bad_length = (self.length < ADDRESS_BYTES) | ((self.kind != Kind.WRITE) & (data_bytes != expected))
        crooked = (asks == 0) | ((self.address[: self.bytes.bit_length() - 1] if self.bytes > 1 else Const(0, 1)) != 0)
        crooked = crooked | ((asks[: self.bytes.bit_length() - 1] if self.bytes > 1 else Const(0, 1)) != 0)
        outside = (self.address[self.address_bits :] != 0) | (self.address[:8] + data_bytes[:9] > MOST_BYTES) & (
            self.kind == Kind.WRITE
        )
        bad_register = (self.address[8:] != 0) | (self.address[:2] != 0)
        # A question has stood for the time of its checksum when it is looked at: why it is refused is in registers by then.
        reasons: list[tuple[Any, Refusal]] = []
        for condition, reason in (
            (~(memory_kind | register_kind), Refusal.KIND),
            (bad_length, Refusal.LENGTH),
            (Mux(memory_kind, crooked | outside, bad_register), Refusal.ADDRESS),
        ):
            refused = Signal(name=f"refused_{reason.name.lower()}")
            m.d.sync += refused.eq(condition)
            reasons.append((refused, reason))
        with m.FSM(name="work"):
            with m.State("IDLE"):
                m.d.comb += self.taken.eq(self.asked)
                m.d.sync += [
                    kind.eq(self.kind), number.eq(self.number), at.eq(self.address), left.eq(asks), done.eq(0),
                    part.eq(0), settle.eq(self.read_cycles + 1), self.answer.eq(self.kind | ANSWER),
                    self.answer_length.eq(0),
                ]  # fmt: skip
                with m.If(self.asked):
                    m.d.sync += [before.eq(self.number), before_set.eq(self.kind == Kind.SET)]
                    m.next = "GET"
                    with m.If(self.kind == Kind.READ):
                        m.next = "ASK"
                    with m.Elif(self.kind == Kind.WRITE):
                        m.next = "TELL"
                    with m.Elif(self.kind == Kind.SET):
                        m.next = "SET"
                    for condition, reason in reversed(reasons):
                        with m.If(condition):
                            m.d.sync += [self.answer.eq(REFUSED), self.answer_length.eq(1)]
                            m.d.sync += self.said.eq(int(reason))
                            m.next = "SAY"
                    # A register is written once, however often the host asks with the same number.
                    with m.If((self.kind == Kind.SET) & before_set & (before == self.number)):
                        m.next = "SAY"
            with m.State("SET"):
                m.d.comb += self.write_enable.eq(1)
                m.next = "SAY"
            with m.State("GET"):
                m.d.sync += settle.eq(settle - 1)
                with m.If(settle == 0):
                    m.d.sync += [self.said.eq(self.read_data), self.answer_length.eq(4)]
                    m.next = "SAY"
            with m.State("TELL"):
                m.d.comb += memory.write_request.valid.eq(1)
                with m.If(memory.write_request.ready):
                    m.next = "GATHER"
            # A byte takes two cycles: its address, then itself.
            with m.State("GATHER"):
                m.next = "GATHERED"
            with m.State("GATHERED"):
                m.d.sync += [word.eq(Cat(word, self._read_port.data)[8:]), part.eq(part + 1), done.eq(done + 1)]
                m.next = "GATHER"
                with m.If(part == self.bytes - 1):
                    m.d.sync += part.eq(0)
                    m.next = "PUT"
            with m.State("PUT"):
                m.d.comb += memory.write_data.valid.eq(1)
                with m.If(memory.write_data.ready):
                    m.next = "GATHER"
                    with m.If(done == left):
                        m.next = "WROTE"
            with m.State("WROTE"), m.If(memory.write_answer):
                m.next = "SAY"
            with m.State("ASK"):
                m.d.sync += done.eq(0)
                m.d.comb += memory.read_request.valid.eq(1)
                with m.If(memory.read_request.ready):
                    m.d.sync += [self.answer_length.eq(chunk), part.eq(0)]
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += memory.read_data.ready.eq(1)
                m.d.sync += word.eq(memory.read_data.data)
                with m.If(memory.read_data.valid):
                    m.next = "KEEP"
            with m.State("KEEP"), m.If(~self._storing):
                m.d.comb += [
                    self._write_port.en.eq(1),
                    self._write_port.addr.eq(Cat(done[:8], Const(1, 1))),
                    self._write_port.data.eq(word[:8]),
                ]
                m.d.sync += [word.eq(word >> 8), done.eq(done + 1), part.eq(part + 1)]
                with m.If(part == self.bytes - 1):
                    m.d.sync += part.eq(0)
                    m.next = "TAKE"
                    with m.If(done == self.answer_length - 1):
                        m.next = "SAY"
            with m.State("SAY"):
                m.d.comb += self.send.eq(1)
                with m.If(self.sent):
                    m.next = "IDLE"
                    # What was read comes in several answers, with numbers that follow each other.
                    with m.If((kind == Kind.READ) & (self.answer != REFUSED) & (left != self.answer_length)):
                        m.d.sync += [left.eq(left - self.answer_length), at.eq(at + self.answer_length)]
                        m.d.sync += number.eq(number + 1)
                        m.next = "ASK"
        self._work_done = done
        self._reads_back = kind == Kind.READ

    def _speak(self, m: Module) -> None:
        """An answer to bytes."""
        transmitter, crc = Transmitter(self.divisor), Crc("said")
        m.submodules.transmitter, m.submodules.said = transmitter, crc
        count = Signal(10, name="said")
        value = self.said
        settled = Signal(4, name="said_settles")
        first, second = MAGIC
        body = Signal(10)
        tail, end = Signal(10), Signal(10)
        m.d.comb += [
            body.eq(count - 6),
            tail.eq(self.answer_length + 6),
            end.eq(self.answer_length + 6 + TAIL_BYTES),
            self.tx.eq(transmitter.pin),
        ]
        # The byte for the host has its address as long as the one before is sent, so it is there in time.
        m.d.comb += self._read_port.addr.eq(
            Mux(self.send, Cat(body[:8], Const(1, 1)), Cat(self._work_done[:8], Const(0, 1)))
        )
        in_head, in_body = count < 6, count < tail
        stored = self._reads_back & (self.answer != REFUSED)
        head = Array([Const(first, 8), Const(second, 8), self.answer, self.work_number,
                      Cat(self.answer_length[:8]), Cat(self.answer_length[8], Const(0, 7)), Const(0, 8), Const(0, 8)])  # fmt: skip
        checksum = ~crc.value
        m.d.comb += transmitter.data.eq(
            Mux(in_head, head[count[:3]], Mux(in_body, Mux(stored, self._read_port.data, value[:8]), value[:8]))
        )
        going = self.send & (count != end)
        taken = transmitter.valid & transmitter.ready
        m.d.comb += [
            # Not before the checksum has digested the byte before and the memory has given the next.
            transmitter.valid.eq(going & (settled == 0)),
            crc.clear.eq(~self.send),
            crc.data.eq(transmitter.data),
            crc.valid.eq(taken & (count >= 2) & in_body),
            self.sent.eq(self.send & (count == end) & transmitter.ready),
        ]
        with m.If(settled != 0):
            m.d.sync += settled.eq(settled - 1)
        with m.If(taken):
            m.d.sync += [count.eq(count + 1), settled.eq(10)]
            with m.If(~in_head):
                m.d.sync += value.eq(value >> 8)
        with m.If((count == tail) & (settled == 1)):
            m.d.sync += value.eq(checksum)
        with m.If(~self.send | self.sent):
            m.d.sync += [count.eq(0), settled.eq(3)]
