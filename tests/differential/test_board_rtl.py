"""Serial bridge and memory controllers in simulation, between the pins of the line and those of the memory chip."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

import fpga_bench
from bitwright.errors import ExportError, Mismatch
from bitwright.fpga import sdram
from bitwright.fpga.board import load_board
from bitwright.fpga.link import Link
from bitwright.fpga.sim.board import SimulatedBoard, VirtualLine
from bitwright.fpga.wire import Kind
from bitwright.mcu.wire import Frame

BOARDS = ("ulx3s-25f", "icebreaker")
PATIENCE = 60_000
"""Cycles; eight frames take 90,000, their first answer comes after 12,000."""


@pytest.fixture(scope="module", params=BOARDS)
def board(request: pytest.FixtureRequest) -> SimulatedBoard:
    return fpga_bench.bench(request.param)


def link_to(board: SimulatedBoard) -> Link:
    return Link(VirtualLine(board, PATIENCE), patience_s=60)


def test_memory_holds_what_is_written(board: SimulatedBoard) -> None:
    link, pick = link_to(board), random.Random(1)
    link.get_at(0)
    unit = board.config.bus.bytes
    contents: dict[int, int] = {}
    ends = (0, board.board.memory_bytes - 640, 1000 * unit)
    for start in ends:
        size = pick.randrange(300, 640) // unit * unit
        data = pick.randbytes(size)
        link.write(start, data)
        contents |= {start + at: value for at, value in enumerate(data)}
        assert link.read(start, size) == data
    # Written over in pieces, read back as a whole.
    for _ in range(12):
        at = pick.randrange(100) * unit
        data = pick.randbytes(unit * pick.randrange(1, 9))
        link.write(at, data)
        contents |= {at + k: value for k, value in enumerate(data)}
    known = [at for at in range(300) if at in contents]
    assert link.read(0, len(known)) == bytes(contents[at] for at in known)
    assert link.repeats == 0


def test_bursts_of_a_master_are_fast_and_right(board: SimulatedBoard) -> None:
    link = link_to(board)
    unit, bursts = board.config.bus.bytes, 40
    rates = {}
    for name, stride in (("one after the other", fpga_bench.BEATS * unit), ("rows apart", 1 << 12)):
        count = bursts if stride * bursts <= board.board.memory_bytes else board.board.memory_bytes // stride
        link.set_at(4 * fpga_bench.BURSTS, count)
        link.set_at(4 * fpga_bench.STRIDE, stride)
        link.set_at(4 * fpga_bench.START, 1)
        # Asked for while the master is at it: both get what they want.
        link.write(board.board.memory_bytes - 256, bytes(range(256)))
        while link.get_at(4 * fpga_bench.START):
            pass
        assert link.get_at(4 * fpga_bench.WRONG) == 0
        moved = count * fpga_bench.BEATS * unit
        rates[name] = [moved / link.get_at(4 * n) for n in (fpga_bench.WRITE_CYCLES, fpga_bench.READ_CYCLES)]
    assert link.read(board.board.memory_bytes - 256, 256) == bytes(range(256))
    assert min(rates["one after the other"]) > 0.85 * unit, rates
    assert min(rates["rows apart"]) > 0.75 * unit, rates


def test_damaged_frames_are_asked_again(board: SimulatedBoard) -> None:
    class Bad(VirtualLine):
        """Loses a byte, changes one and adds some, every so often."""

        sent = 0

        def write(self, data: bytes) -> None:
            out = bytearray()
            for byte in data:
                self.sent += 1
                if self.sent % 1409 == 0:
                    continue
                out.append(byte ^ (8 if self.sent % 1999 == 0 else 0))
                if self.sent % 2503 == 0:
                    out += b"\xb1\x7e\xb1\x00"
            super().write(bytes(out))

    link = Link(Bad(board, PATIENCE), patience_s=60)
    data = random.Random(2).randbytes(4000)
    link.write(0, data)
    before = link.get_at(4 * 63)
    link.set_at(4 * fpga_bench.BURSTS, 7)
    assert link.get_at(4 * fpga_bench.BURSTS) == 7
    assert link.get_at(4 * 63) == before + 1  # however often it was asked
    assert link.read(0, len(data)) == data
    assert link.repeats > 0


def test_a_register_is_written_once_for_a_number(board: SimulatedBoard) -> None:
    link = link_to(board)
    before = link.get_at(4 * 63)
    frame = Frame(Kind.SET, 200, (4 * fpga_bench.BURSTS).to_bytes(4, "little") + (9).to_bytes(4, "little")).encoded()
    for _ in range(3):
        board.put(frame)
        board.run(8000)
    board.get()
    assert link.get_at(4 * 63) == before + 1


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        (0x55, bytes(4), "knows no such question"),
        (Kind.GET, bytes(5), "wrong length"),
        (Kind.WRITE, (200).to_bytes(4, "little") + bytes(100), "nothing at this address"),
        (Kind.WRITE, (1 << 30).to_bytes(4, "little") + bytes(8), "nothing at this address"),
        (Kind.READ, bytes(4) + (0).to_bytes(2, "little"), "nothing at this address"),
        (Kind.GET, (256).to_bytes(4, "little"), "nothing at this address"),
    ],
)
def test_impossible_questions_are_refused(board: SimulatedBoard, kind: int, payload: bytes, words: str) -> None:
    link = link_to(board)
    with pytest.raises(ExportError, match=words):
        link._exchange([(kind, payload)])  # type: ignore[list-item]
    assert link.repeats == 0


NOTHING, ACTIVATE, READ, WRITE, PRECHARGE, REFRESH, MODE = 7, 3, 5, 4, 2, 1, 0
# Commands at an awake chip with a clock of 80 MHz: (command, cycles until the next one).
WRONG = {
    "tRCD": [(ACTIVATE, 1), (READ, 1)],
    "tRP": [(ACTIVATE, 4), (PRECHARGE, 1), (ACTIVATE, 1)],
    "tRAS": [(ACTIVATE, 3), (PRECHARGE, 1)],
    "tWR": [(ACTIVATE, 4), (WRITE, 1), (PRECHARGE, 1)],
    "after a refresh": [(REFRESH, 5), (ACTIVATE, 1)],
    "tREF": [(NOTHING, 7000)],
    "with open rows": [(ACTIVATE, 9), (REFRESH, 1)],
    "has one open": [(ACTIVATE, 9), (ACTIVATE, 1)],
    "without an open row": [(READ, 1)],
    "both drive": [(ACTIVATE, 4), (READ, 3), (WRITE, 1)],
    "another mode": [(MODE, 1)],
}
RIGHT = [(ACTIVATE, 2), (READ, 4), (WRITE, 2), (PRECHARGE, 2), (REFRESH, 6), (ACTIVATE, 2), (READ, 2), (PRECHARGE, 2)]


@pytest.mark.parametrize("words", ["", *WRONG])
def test_the_chip_notices_what_it_does_not_allow(words: str) -> None:
    board = fpga_bench.bench("ulx3s-25f")
    for command, cycles in WRONG.get(words, RIGHT):
        board.chip_edge(command, drives=command == WRITE)
        for _ in range(cycles - 1):
            board.chip_edge(NOTHING)
    if words:
        assert words in board.faults
    else:
        assert not board.faults


def test_a_controller_that_does_not_wait_is_noticed() -> None:
    file = load_board("ulx3s-25f")
    right = sdram.times(file.clocks(fpga_bench.config_of(file)).clock_hz)
    board = fpga_bench.bench("ulx3s-25f", held=replace(right, to_column=right.to_column - 1))
    link = link_to(board)
    link.get_at(0)
    with pytest.raises(Mismatch, match="tRCD"):
        link.read(1 << 14, 64)
