"""What the serial bridge of a board speaks: kinds of questions, and why one is refused.

Frames are those of ``bitwright.mcu.wire``: ``b1 7e``, kind, number, length, payload, CRC-32.
"""

from __future__ import annotations

from enum import IntEnum

MOST_BYTES = 256
"""Bytes of memory in one frame; those that are written lie between two multiples of this."""
ADDRESS_BYTES = 4
ANSWER = 0x80
"""An answer's kind is its question's and this bit."""
REFUSED = 0xFF
"""Kind of the answer to a question that cannot be answered."""
MOST_READ = 0xFF00
"""Bytes that one question may ask for; they come in several answers."""


class Kind(IntEnum):
    """Kinds of questions; the payload begins with an address of 4 bytes, low first."""

    WRITE = 0x10
    """Memory: address, then the bytes."""
    READ = 0x11
    """Memory: address, count (2 bytes); answers of up to 256 bytes with numbers that follow each other."""
    SET = 0x12
    """A register: its offset, its new value (4 bytes).  Done once for a number, however often it is asked in a row."""
    GET = 0x13
    """A register: its offset; the answer has its value."""


class Refusal(IntEnum):
    """Why a question is refused."""

    KIND = 1
    """There is no such kind."""
    LENGTH = 2
    """The payload has the wrong length for its kind."""
    ADDRESS = 3
    """The address is not aligned or not there, or the bytes cross a multiple of 256."""


WORDS = {
    Refusal.KIND: "it knows no such question",
    Refusal.LENGTH: "the question has a wrong length",
    Refusal.ADDRESS: "there is nothing at this address, or it is not aligned",
}

LOADED = 0x80
"""Offset of a register of the board that the host writes: what is loaded, or 0 after configuration."""

QUESTIONS = {
    Kind.WRITE: "address, then up to 256 bytes for memory that lie between two multiples of 256; the answer is empty",
    Kind.READ: "address, count (2 bytes); answers of up to 256 bytes of memory, with numbers that follow each other",
    Kind.SET: "offset of a register, value (4 bytes); done once for a number, however often it is asked in a row",
    Kind.GET: "offset of a register; the answer is its value",
}
"""In words."""
