"""The host's end of the serial bridge, against a board made of a few lines of Python."""

from __future__ import annotations

import struct
from collections import deque

import pytest

from bitwright.errors import ExportError, NobodyAnswers
from bitwright.fpga.link import Link
from bitwright.fpga.registers import BY_NAME, IDENTITY
from bitwright.fpga.wire import ANSWER, MOST_BYTES, REFUSED, Kind
from bitwright.mcu.wire import Decoder, Frame


class Board:
    """Answers as the bridge does; loses every so many frames, in either direction."""

    def __init__(self, lose: int = 0, *, mute: bool = False, refuses: bool = False) -> None:
        self.memory, self.registers = bytearray(1 << 16), {BY_NAME["IDENTITY"].offset: IDENTITY}
        self.lose, self.mute, self.refuses = lose, mute, refuses
        self.seen = self.sets = 0
        self.before: tuple[int, int] | None = None
        self.decoder, self.out = Decoder(), deque[bytes]()
        self.closed = False

    def _lost(self) -> bool:
        self.seen += 1
        return bool(self.lose) and self.seen % self.lose == 0

    def write(self, data: bytes) -> None:
        for frame in self.decoder.feed(data):
            if not self.mute and not self._lost():
                self._answer(frame)

    def _say(self, frame: Frame) -> None:
        if not self._lost():
            self.out.append(frame.encoded())

    def _answer(self, frame: Frame) -> None:
        address = int.from_bytes(frame.payload[:4], "little")
        rest = frame.payload[4:]
        again = self.before == (frame.kind, frame.number)
        self.before = (frame.kind, frame.number)
        if self.refuses:
            return self._say(Frame(REFUSED, frame.number, b"\x03"))
        answer = b""
        match Kind(frame.kind):
            case Kind.WRITE:
                assert address % MOST_BYTES + len(rest) <= MOST_BYTES
                self.memory[address : address + len(rest)] = rest
            case Kind.SET:
                if not again:
                    self.sets += 1
                    self.registers[address] = int.from_bytes(rest, "little")
            case Kind.GET:
                answer = struct.pack("<I", self.registers.get(address, 0))
            case Kind.READ:
                left, number = int.from_bytes(rest, "little"), frame.number
                while left:
                    size = min(left, MOST_BYTES)
                    self._say(Frame(frame.kind | ANSWER, number % 256, bytes(self.memory[address : address + size])))
                    address, left, number = address + size, left - size, number + 1
                return None
        return self._say(Frame(frame.kind | ANSWER, frame.number, answer))

    def read(self, seconds: float) -> bytes:
        return self.out.popleft() if self.out else b""

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("lose", [0, 3, 5, 11])
def test_what_is_lost_is_asked_again(lose: int) -> None:
    board = Board(lose)
    link = Link(board)
    assert link.get("IDENTITY") == IDENTITY
    data = bytes(k * 7 % 251 for k in range(5000))
    news: list[tuple[int, int]] = []
    link.write(100, data, lambda done, size: news.append((done, size)))
    assert news[-1] == (5000, 5000)
    assert bytes(board.memory[100:5100]) == data
    assert link.read(100, 5000) == data
    for value in range(20):
        link.set("PROGRAM", value)
        assert link.get("PROGRAM") == value
    assert board.sets == 20  # each once, whatever was lost
    assert bool(link.repeats) == bool(lose)
    link.close()
    assert board.closed


def test_neighbors_are_written_together() -> None:
    board = Board()
    Link(board).write_all([(0, b"ab"), (2, b"cd"), (300, b"x")])
    assert board.seen == 2 * 2
    assert bytes(board.memory[:4]) == b"abcd"
    assert board.memory[300] == ord("x")


def test_nobody_answers() -> None:
    link = Link(Board(mute=True), tries=2)
    with pytest.raises(NobodyAnswers, match=r"does not answer.*--port"):
        link.get("IDENTITY")
    assert link.repeats == 2
    with pytest.raises(NobodyAnswers):
        link.read(0, 10)


def test_a_refusal_is_said_at_once() -> None:
    link = Link(Board(refuses=True))
    with pytest.raises(ExportError, match="nothing at this address"):
        link.write(0, b"1234")
    assert link.repeats == 0
