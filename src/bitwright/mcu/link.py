"""A network on a board at the other end of a serial line: questions that are asked again until they are answered."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass

from bitwright.errors import ExportError
from bitwright.mcu.port import Port
from bitwright.mcu.wire import MOST_BYTES, Decoder, Frame

HELLO, PUT, RUN, GET, STEP, ANSWER, REFUSED = 1, 2, 3, 4, 5, 128, 255
OUTPUTS, SUMS, TICKS = 0, 1, 2
VERSION = 1
GREETING = struct.Struct("<BB7I")
TRIES, PATIENCE_S, RUN_S = 8, 1.0, 60.0


@dataclass(frozen=True)
class Greeting:
    """What the board says of itself.

    Attributes:
        version: Of what is spoken.
        counts_cycles: Whether it has a cycle counter.
        most_bytes: Of a payload.
        steps: Of the network.
        input_bytes: Of all inputs.
        output_bytes: Of all outputs.
        arena_bytes: Its working memory.
        identity: Which program it runs.
        clock_hz: Its clock, or 0.
    """

    version: int
    counts_cycles: int
    most_bytes: int
    steps: int
    input_bytes: int
    output_bytes: int
    arena_bytes: int
    identity: int
    clock_hz: int


class Link:
    """The host's end of the line.

    Args:
        port: The line.
        patience_s: How long to wait for an answer before asking again.

    Raises:
        ExportError: nobody answers.
    """

    def __init__(self, port: Port, *, patience_s: float = PATIENCE_S) -> None:
        self.port, self.patience_s = port, patience_s
        self.decoder, self.number, self.repeats = Decoder(), 0, 0
        data = self.ask(HELLO)
        if len(data) != GREETING.size or data[0] != VERSION:
            raise ExportError(
                "The board speaks another version of the protocol: export the network again with this version of "
                "bitwright, and flash it."
            )
        self.greeting = Greeting(*GREETING.unpack(data))
        self.most = min(self.greeting.most_bytes, MOST_BYTES)

    def ask(self, kind: int, payload: bytes = b"", *, patience_s: float | None = None) -> bytes:
        """Ask until there is an answer.

        Raises:
            ExportError: the board refuses the question, or does not answer.
        """
        for attempt in range(TRIES):
            self.number = (self.number + 1) % 256
            if attempt:
                self.repeats += 1
                # A board that waits for the rest of a damaged frame is given one.
                self.port.write(bytes(MOST_BYTES + 16))
            self.port.write(Frame(kind, self.number, payload).encoded())
            found = self._answer(kind, self.patience_s if patience_s is None else patience_s)
            if found is not None:
                return found
        raise ExportError(
            "The board does not answer. Check that it runs the generated serial program (NAME_serial.c), that the speed "
            "is the same on both ends (serial:PORT@BAUD), and that no other program has the port open."
        )

    def _answer(self, kind: int, patience_s: float) -> bytes | None:
        deadline = time.monotonic() + patience_s
        while (left := deadline - time.monotonic()) > 0:
            for frame in self.decoder.feed(self.port.read(left)):
                if frame.number != self.number:
                    continue  # the answer to a question that was given up
                if frame.kind == REFUSED:
                    raise ExportError(
                        f"The board refuses a question of kind {kind}: it runs another network or an older program. "
                        "Export the network again, and flash it."
                    )
                if frame.kind == kind | ANSWER:
                    return frame.payload
        return None

    def put(self, data: bytes) -> None:
        """Write the inputs."""
        room = self.most - 4
        for at in range(0, len(data), room):
            self.ask(PUT, struct.pack("<I", at) + data[at : at + room])

    def run(self, *, detailed: bool = False) -> int:
        """Run the network; gives the ticks of the last plain run.

        Args:
            detailed: Run for the checksum and the ticks of every step.

        Raises:
            ExportError: the network refuses its arguments.
        """
        failed, ticks = struct.unpack("<BI", self.ask(RUN, bytes([int(detailed)]), patience_s=RUN_S))
        if failed:
            raise ExportError("The network on the board refuses its arguments: its arena is not aligned to 8 bytes.")
        return int(ticks)

    def get(self, what: int, count: int) -> bytes:
        """So many bytes of the outputs, or of the table of checksums or ticks."""
        room = self.most // 4 * 4
        parts = []
        for at in range(0, count, room):
            wanted = min(room, count - at)
            part = self.ask(GET, struct.pack("<BIH", what, at, wanted))
            if len(part) != wanted:
                raise ExportError(f"The board sends {len(part)} bytes where {wanted} were asked for.")
            parts.append(part)
        return b"".join(parts)

    def table(self, what: int) -> tuple[int, ...]:
        """Checksums (one per step) or ticks (the whole inference, then one per step)."""
        count = self.greeting.steps + (1 if what == TICKS else 0)
        return struct.unpack(f"<{count}I", self.get(what, 4 * count))

    def step(self, index: int, count: int) -> bytes:
        """What step ``index`` computes, ``count`` bytes; the network runs once for every part of it."""
        parts: list[bytes] = []
        got = 0
        while got < count:
            part = self.ask(STEP, struct.pack("<HIH", index, got, min(self.most, count - got)), patience_s=RUN_S)
            if not part:
                break
            parts.append(part)
            got += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Give the port back."""
        self.port.close()
