"""The host's end of a board's serial bridge: memory and registers over a line that may lose or damage bytes.

Writes are sent ahead of their answers, reads come as a stream; what was not answered is asked again.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from bitwright.errors import ExportError, NobodyAnswers
from bitwright.fpga.registers import BY_NAME
from bitwright.fpga.wire import ANSWER, MOST_BYTES, MOST_READ, REFUSED, WORDS, Kind, Refusal
from bitwright.mcu.port import Port
from bitwright.mcu.wire import Decoder, Frame

PATIENCE_S, WINDOW = 1.0, 8
PADDING = bytes(MOST_BYTES + 16)
"""Ends a frame of which a part was lost: the board waits for the rest of it."""
Progress = Callable[[int, int], None]


class Link:
    """A board's memory and registers.

    Args:
        port: The line.
        patience_s: How long to wait for an answer before asking again.
        tries: How often to ask again.

    Attributes:
        repeats: Questions that were asked again.
    """

    TRIES = 6

    def __init__(self, port: Port, *, patience_s: float = PATIENCE_S, tries: int = TRIES) -> None:
        self.port, self.patience_s, self.tries = port, patience_s, tries
        self.decoder, self.number, self.repeats = Decoder(), 0, 0
        self._frames: deque[Frame] = deque()

    def get(self, name: str) -> int:
        """A register of the processor.

        Raises:
            ExportError: nobody answers.
        """
        return self.get_at(BY_NAME[name].offset)

    def get_at(self, offset: int) -> int:
        """A register by its offset."""
        (answer,) = self._exchange([(Kind.GET, struct.pack("<I", offset))])
        return int.from_bytes(answer, "little")

    def set(self, name: str, value: int) -> None:
        """Write a register of the processor, once."""
        self.set_at(BY_NAME[name].offset, value)

    def set_at(self, offset: int, value: int) -> None:
        """Write a register by its offset, once."""
        self._exchange([(Kind.SET, struct.pack("<II", offset, value))], same_number=True)

    def write(self, address: int, data: bytes, progress: Progress = lambda done, size: None) -> None:
        """Write memory.

        Raises:
            ExportError: nobody answers, or the board refuses the address.
        """
        self.write_all([(address, data)], progress)

    def write_all(self, parts: Sequence[tuple[int, bytes]], progress: Progress = lambda done, size: None) -> None:
        """Write several stretches of memory; those that follow each other go as one.

        Raises:
            ExportError: nobody answers, or the board refuses an address.
        """
        joined: list[tuple[int, bytearray]] = []
        for address, data in parts:
            if joined and address == joined[-1][0] + len(joined[-1][1]):
                joined[-1][1].extend(data)
            else:
                joined.append((address, bytearray(data)))
        pieces = [piece for address, data in joined for piece in _pieces(address, bytes(data))]
        size, done = sum(len(part) for _, part in pieces), [0]

        def answered(index: int) -> None:
            done[0] += len(pieces[index][1])
            progress(done[0], size)

        self._exchange([(Kind.WRITE, struct.pack("<I", at) + part) for at, part in pieces], answered=answered)

    def read(self, address: int, size_bytes: int, progress: Progress = lambda done, size: None) -> bytes:
        """Read memory.

        Raises:
            ExportError: nobody answers, or the board refuses the address.
        """
        found = bytearray()

        def came(count: int) -> None:
            progress(before + count, size_bytes)

        while len(found) < size_bytes:
            before = len(found)
            found += self._stream(address + before, min(size_bytes - before, MOST_READ), came)
        return bytes(found)

    def close(self) -> None:
        """Give the port back."""
        self.port.close()

    def _stream(self, address: int, size_bytes: int, progress: Callable[[int], None]) -> bytes:
        """One question, many answers; those that are missing are asked for again."""
        cuts = [(address + at, min(MOST_BYTES, size_bytes - at)) for at in range(0, size_bytes, MOST_BYTES)]
        found: dict[int, bytes] = {}
        failures = 0
        while len(found) < len(cuts):
            if failures:
                self._again(failures)
            begin = next(k for k in range(len(cuts)) if k not in found)
            end = next((k for k in range(begin, len(cuts)) if k in found), len(cuts))
            first, before = self._next(end - begin), len(found)
            size = sum(n for _, n in cuts[begin:end])
            self.port.write(Frame(Kind.READ, first, struct.pack("<IH", cuts[begin][0], size)).encoded())
            while (frame := self._receive()) is not None:
                self._refuse(frame)
                at = begin + (frame.number - first) % 256
                if frame.kind != Kind.READ | ANSWER or at >= end or len(frame.payload) != cuts[at][1]:
                    continue  # of a question that was given up
                found[at] = frame.payload
                progress(sum(map(len, found.values())))
                if at == end - 1:
                    break
            failures = 1 if len(found) > before else failures + 1
        return b"".join(found[k] for k in range(len(cuts)))

    def _exchange(
        self, questions: Sequence[tuple[Kind, bytes]], *, same_number: bool = False,
        answered: Callable[[int], None] = lambda index: None,
    ) -> list[bytes]:  # fmt: skip
        """Answers of questions that may come in any order and twice; up to ``WINDOW`` are on their way."""
        answers: dict[int, bytes] = {}
        waiting: dict[int, int] = {}  # number → index
        left = list(range(len(questions)))[::-1]
        failures = 0
        number: int | None = None
        while len(answers) < len(questions):
            if failures:
                self._again(failures)
                left += sorted(waiting.values(), reverse=True)
                waiting.clear()
            progressed = False
            while left or waiting:
                batch = bytearray()
                while left and len(waiting) < WINDOW:
                    index = left.pop()
                    number = self._next() if number is None or not same_number else number
                    waiting[number] = index
                    kind, payload = questions[index]
                    batch += Frame(kind, number, payload).encoded()
                if batch:
                    self.port.write(bytes(batch))
                frame = self._receive()
                if frame is None:
                    break
                if frame.number not in waiting:
                    continue  # the answer to a question that was given up
                self._refuse(frame)
                index = waiting[frame.number]
                if frame.kind == questions[index][0] | ANSWER:
                    del waiting[frame.number]
                    answers[index] = frame.payload
                    progressed = True
                    answered(index)
            failures = 1 if progressed else failures + 1
        return [answers[index] for index in range(len(questions))]

    def _next(self, count: int = 1) -> int:
        """A number that none of the last questions has; answers with the ``count`` from it on will come."""
        first = (self.number + 1) % 256
        self.number = (self.number + count) % 256
        return first

    def _receive(self) -> Frame | None:
        """The next frame, unless nothing comes for a while."""
        deadline = time.monotonic() + self.patience_s
        while not self._frames and (rest := deadline - time.monotonic()) > 0:
            data = self.port.read(rest)
            if not data:
                break
            self._frames.extend(self.decoder.feed(data))
        return self._frames.popleft() if self._frames else None

    def _again(self, failures: int) -> None:
        """Before something is asked again."""
        if failures > self.tries:
            raise NobodyAnswers(
                "The board does not answer. Check that it is powered and connected, that the port is the one of its serial "
                "line (--port), and that no other program has the port open."
            )
        self.repeats += 1
        self.port.write(PADDING)

    @staticmethod
    def _refuse(frame: Frame) -> None:
        if frame.kind != REFUSED:
            return
        reason = Refusal(frame.payload[0]) if frame.payload and frame.payload[0] in set(Refusal) else Refusal.KIND
        raise ExportError(
            f"The board refuses a question: {WORDS[reason]}. Its bitstream is of another version of bitwright; load it again."
        )


def _pieces(address: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Addresses and bytes of stretches that do not cross a multiple of ``MOST_BYTES``."""
    at, end = address, address + len(data)
    while at < end:
        size = min(MOST_BYTES - at % MOST_BYTES, end - at)
        yield at, data[at - address : at - address + size]
        at += size
