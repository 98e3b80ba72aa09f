"""Frames on a serial line: what is sent, and how what arrives is put together again, whatever was lost or damaged.

A frame is ``b1 7e``, kind, sequence number, length (2 bytes, low first), payload, CRC-32 from the kind on (4 bytes, low
first).  The same is spoken by ``firmware/serial.c``.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

MAGIC = b"\xb1\x7e"
MOST_BYTES = 512
HEAD = struct.Struct("<2sBBH")
TAIL = struct.Struct("<I")


@dataclass(frozen=True)
class Frame:
    """A frame.

    Attributes:
        kind: What it asks or answers.
        number: The answer has that of the question.
        payload: Its content.
    """

    kind: int
    number: int
    payload: bytes = b""

    def encoded(self) -> bytes:
        """As it goes over the line.

        Raises:
            ValueError: if the payload is too long.
        """
        if len(self.payload) > MOST_BYTES:
            raise ValueError(f"a frame holds {MOST_BYTES} bytes, not {len(self.payload)}")
        head = HEAD.pack(MAGIC, self.kind, self.number, len(self.payload))
        return head + self.payload + TAIL.pack(zlib.crc32(head[2:] + self.payload))


@dataclass
class Decoder:
    """Puts frames together from bytes as they arrive.

    Attributes:
        damaged: Frames that began and were dropped.
    """

    damaged: int = 0
    _held: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now; what is no frame is skipped byte by byte."""
        self._held += data
        found: list[Frame] = []
        while True:
            start = self._held.find(MAGIC)
            if start < 0:
                del self._held[: max(len(self._held) - 1, 0)]  # the last byte may be the first of a frame
                return found
            del self._held[:start]
            if len(self._held) < HEAD.size:
                return found
            _, kind, number, count = HEAD.unpack_from(self._held)
            whole = HEAD.size + count + TAIL.size
            if count <= MOST_BYTES and len(self._held) < whole:
                return found
            if count <= MOST_BYTES:
                (expected,) = TAIL.unpack_from(self._held, whole - TAIL.size)
                if zlib.crc32(self._held[2 : whole - TAIL.size]) == expected:
                    found.append(Frame(kind, number, bytes(self._held[HEAD.size : whole - TAIL.size])))
                    del self._held[:whole]
                    continue
            self.damaged += 1
            del self._held[:1]

    def forget(self) -> None:
        """Drop what is held."""
        self._held.clear()
