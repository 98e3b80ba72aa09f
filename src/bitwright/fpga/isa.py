"""The instruction set: four kinds of instructions, one for each queue, and their 64 bytes.

The tables of fields below are the only definition: encoder, decoder, hardware and documentation are made from them.

=====  ==========================================================================================================
LOAD   external memory → a buffer, row after row, with a border
CONV   activations × weights → sums → shift → clamp → ``mid`` or ``out``
VEC    window of ``mid`` → maximum, sum of products or product → ``out``
STORE  ``out`` → external memory, row after row
=====  ==========================================================================================================

Each queue runs its instructions in order.  Between queues there are 16 counting tokens: an instruction starts when
every token of its ``wait`` mask is above 0, and takes one of each; when it is done it adds one to each of its ``post``
mask.  Program order is an order in which all could run one after the other, so tokens cannot deadlock.

Memory is made of *words* of ``icp`` bytes: the channels ``icp*k ..`` of one pixel.  ``act``, ``mid`` and ``out`` have
one bank for each of the ``pp`` rows that are computed at once.

Source: the split into queues with tokens follows VTA (Moreau et al., "A Hardware-Software Blueprint for Flexible Deep
Learning Specialization", IEEE Micro 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from operator import attrgetter
from typing import ClassVar

from bitwright.fpga.config import INSTRUCTION_BYTES

TOKENS = 16


class Unit(IntEnum):
    """A queue and what runs it."""

    LOAD = 0
    CONV = 1
    VEC = 2
    STORE = 3


class Dest(IntEnum):
    """A buffer that LOAD can write.

    ``pieces`` words make one word of the buffer, the first one in its lowest bytes.
    """

    ACT = 0
    MID = 1
    WEIGHT = 2
    BIAS = 3
    VECTOR_WEIGHT = 4
    VECTOR_BIAS = 5
    CONV_ROWS = 6
    VECTOR_ROWS = 7
    TABLE = 8


class Mode(IntEnum):
    """How VEC combines the taps of its window."""

    MAX = 0  # largest
    CHANNEL = 1  # sum of x * weight, a weight for each tap and channel
    ROW = 2  # sum of x * coefficient of the tap's entry in the row table
    PRODUCT = 3  # product of the taps (two of them)


@dataclass(frozen=True)
class Field:
    """Bits of an instruction.

    Attributes:
        name: Attribute of the instruction's class.
        bits: Width.
        signed: Two's complement.
        meaning: For people.
    """

    name: str
    bits: int
    signed: bool
    meaning: str


def _u(name: str, bits: int, meaning: str) -> Field:
    return Field(name, bits, False, meaning)


def _s(name: str, bits: int, meaning: str) -> Field:
    return Field(name, bits, True, meaning)


HEADER = (
    _u("unit", 4, "which queue"),
    _u("last", 1, "the program ends when this one is done"),
    _u("stamp", 11, "number of the layer, for the profiler"),
    _u("wait", TOKENS, "tokens taken before it starts"),
    _u("post", TOKENS, "tokens given when it is done"),
)


@dataclass(frozen=True, kw_only=True)
class Queued:
    """What every instruction has: tokens taken and given, the end of the program, the layer's number."""

    wait: int = 0
    post: int = 0
    last: int = 0
    stamp: int = 0


@dataclass(frozen=True, kw_only=True)
class Load(Queued):
    """Copy rows from external memory into a buffer, with rows and words of ``fill`` around.

    A row is ``runs`` runs of ``words`` neighboring words.  Row ``j`` goes to bank ``(bank + j // spread) % pp`` (buffers without banks: spread 1, pp 1), and from one row to
    the next of the same bank the address grows by ``pitch``.
    """

    unit: ClassVar[Unit] = Unit.LOAD
    dest: int
    address: int
    row_stride: int = 0
    base: int
    rows: int = 1
    above: int = 0
    below: int = 0
    words: int
    runs: int = 1
    run_stride: int = 0
    left: int = 0
    width: int
    fill: int = 0
    bank: int = 0
    phase: int = 0
    spread: int = 1
    pitch: int = 0
    back: int = 0


@dataclass(frozen=True, kw_only=True)
class Conv(Queued):
    """``for oc: for g: for x: for r: for k: for c:`` one step of the array, a result of ``pp * ocp`` bytes per ``x``.

    Lane ``p`` reads bank ``select[p]`` of row-table entry ``rows + r``, where bank ``b`` is addressed by
    ``base + oc*oc_step + g*g_step + x*x_step + offset[b] + k*k_step + c``; the weight's address is
    ``weight + (oc*kh*kw*ics) + step``.  Granule ``granule + oc*(ocp/granule bytes)`` of pixel ``x`` goes to
    ``out_base + g*out_g_step + x*out_x_step`` of bank ``p``.
    """

    unit: ClassVar[Unit] = Unit.CONV
    ocs: int
    groups: int
    xs: int
    kh: int
    kw: int
    ics: int
    base: int
    oc_step: int = 0
    g_step: int = 0
    x_step: int = 0
    k_step: int = 0
    rows: int
    weight: int
    bias: int
    shift: int
    lo: int
    hi: int
    to_out: int
    out_base: int
    out_g_step: int = 0
    out_x_step: int = 0
    granule: int = 0


@dataclass(frozen=True, kw_only=True)
class Vec(Queued):
    """``for g: for x: for c: for r: for k:`` one tap of ``pp * icp`` elements, a word per lane row and ``c``.

    Bank ``b`` is read at ``base + g*g_step + x*x_step + c + offset[b] + k*k_step``.  The sum ``acc`` ends as
    ``clamp(round((acc * scale + bias) >> shift))``, where the bias is that of the channel, or ``add``.
    """

    unit: ClassVar[Unit] = Unit.VEC
    mode: int
    groups: int
    xs: int
    cs: int
    kh: int
    kw: int
    base: int
    g_step: int = 0
    x_step: int = 0
    k_step: int = 0
    rows: int
    weight: int = 0
    bias: int = 0
    per_channel: int = 0
    add: int = 0
    scale: int = 1
    shift: int = 0
    lo: int = -128
    hi: int = 127
    table: int = 0
    lanes: int = 0xFFFF
    out_base: int
    out_g_step: int = 0
    out_x_step: int = 0


@dataclass(frozen=True, kw_only=True)
class Store(Queued):
    """Copy rows of ``out`` to external memory; row ``j`` is in bank ``j % pp`` at ``base + (j // pp)*pitch``."""

    unit: ClassVar[Unit] = Unit.STORE
    address: int
    row_stride: int = 0
    pixel_stride: int
    base: int
    rows: int
    pitch: int = 0
    xs: int
    x_step: int
    words: int
    run_words: int
    runs: int
    fence: int = 0


Instruction = Load | Conv | Vec | Store

FIELDS: dict[Unit, tuple[Field, ...]] = {
    Unit.LOAD: (
        _u("dest", 4, "buffer written"),
        _u("address", 32, "first byte in external memory"),
        _u("row_stride", 32, "bytes from one row to the next in external memory"),
        _u("base", 16, "first word of the buffer written"),
        _u("rows", 12, "rows read"),
        _u("above", 8, "rows of fill before them"),
        _u("below", 8, "rows of fill after them"),
        _u("words", 20, "neighboring words read at once"),
        _u("runs", 12, "such runs in a row"),
        _u("run_stride", 24, "bytes from one run to the next in external memory"),
        _u("left", 14, "words of fill before a row"),
        _u("width", 20, "words of a row with the fill around, in pieces where a buffer has them"),
        _s("fill", 8, "value of each byte around"),
        _u("bank", 4, "bank of the first row"),
        _u("phase", 4, "rows that the first bank already has of its run"),
        _u("spread", 4, "neighboring rows in one bank"),
        _u("pitch", 16, "words from one row to the next of the same bank"),
        _u("back", 16, "(spread - 1) * pitch"),
    ),
    Unit.CONV: (
        _u("ocs", 12, "groups of ocp output channels"),
        _u("groups", 12, "groups of pp rows"),
        _u("xs", 12, "pixels of a row"),
        _u("kh", 8, "rows of the window"),
        _u("kw", 8, "columns of the window"),
        _u("ics", 12, "words of input channels"),
        _u("base", 16, "first word read"),
        _u("oc_step", 16, "from one oc to the next"),
        _u("g_step", 16, "from one group of rows to the next"),
        _u("x_step", 16, "from one pixel to the next"),
        _u("k_step", 16, "from one column of the window to the next"),
        _u("rows", 8, "first entry of the row table"),
        _u("weight", 16, "first word of weights"),
        _u("bias", 16, "first group of biases"),
        _u("shift", 5, "right shift"),
        _s("lo", 8, "lowest result"),
        _s("hi", 8, "highest result"),
        _u("to_out", 1, "results go to out, else to mid"),
        _u("out_base", 16, "first word written"),
        _u("out_g_step", 16, "from one group of rows to the next"),
        _u("out_x_step", 12, "from one pixel to the next"),
        _u("granule", 12, "first granule of a pixel"),
    ),
    Unit.VEC: (
        _u("mode", 2, "how taps combine"),
        _u("groups", 12, "groups of pp rows"),
        _u("xs", 12, "pixels of a row"),
        _u("cs", 12, "words of channels"),
        _u("kh", 8, "rows of the window"),
        _u("kw", 8, "columns of the window"),
        _u("base", 16, "first word read"),
        _u("g_step", 16, "from one group of rows to the next"),
        _u("x_step", 16, "from one pixel to the next"),
        _u("k_step", 16, "from one column of the window to the next"),
        _u("rows", 8, "first entry of the row table"),
        _u("weight", 16, "first word of weights, in order of channels, then taps"),
        _u("bias", 16, "first group of biases"),
        _u("per_channel", 1, "the bias is the channel's, else add"),
        _s("add", 40, "bias of all channels"),
        _u("scale", 18, "multiplier of the sum"),
        _u("shift", 6, "right shift"),
        _s("lo", 8, "lowest result"),
        _s("hi", 8, "highest result"),
        _u("table", 1, "look the result up"),
        _u("lanes", 16, "rows whose results are written"),
        _u("out_base", 16, "first word written"),
        _u("out_g_step", 16, "from one group of rows to the next"),
        _u("out_x_step", 12, "from one pixel to the next"),
    ),
    Unit.STORE: (
        _u("address", 32, "first byte in external memory"),
        _u("row_stride", 32, "bytes from one row to the next in external memory"),
        _u("pixel_stride", 24, "bytes from one pixel to the next in external memory"),
        _u("base", 16, "first word read"),
        _u("rows", 12, "rows"),
        _u("pitch", 16, "words from one group of pp rows to the next"),
        _u("xs", 12, "pixels of a row"),
        _u("x_step", 12, "words from one pixel to the next"),
        _u("words", 12, "words of a pixel"),
        _u("run_words", 20, "neighboring words in external memory: of a pixel, or of a row"),
        _u("runs", 12, "such runs in a row"),
        _u("fence", 1, "done only when all that was written is in external memory"),
    ),
}

KINDS: dict[Unit, type[Load] | type[Conv] | type[Vec] | type[Store]] = {
    Unit.LOAD: Load,
    Unit.CONV: Conv,
    Unit.VEC: Vec,
    Unit.STORE: Store,
}

for _unit, _fields in FIELDS.items():
    if sum(f.bits for f in (*HEADER, *_fields)) > 8 * INSTRUCTION_BYTES:
        raise AssertionError(f"the fields of {_unit.name} do not fit an instruction")


@cache
def _places(unit: Unit) -> tuple[attrgetter[tuple[int, ...]], tuple[tuple[int, int, int, int], ...]]:
    """What reads all fields of an instruction at once, and of each field its lowest bit, mask, least and greatest value."""
    fields = (*HEADER, *FIELDS[unit])
    found, position = [], 0
    for field in fields:
        most = (1 << field.bits) - 1
        found.append((position, most, -(most + 1 >> 1) if field.signed else 0, most >> 1 if field.signed else most))
        position += field.bits
    return attrgetter(*(f.name for f in fields)), tuple(found)


def encode(instruction: Instruction) -> bytes:
    """The 64 bytes of an instruction.

    Raises:
        OverflowError: if a value does not fit its field; the message names both.
    """
    values, places = _places(instruction.unit)
    word = 0
    for at, (value, (position, mask, lo, hi)) in enumerate(zip(values(instruction), places, strict=True)):
        if not lo <= value <= hi:
            field = (*HEADER, *FIELDS[instruction.unit])[at]
            raise OverflowError(f"{instruction.unit.name}.{field.name} = {value} does not fit {field.bits} bits")
        word |= (int(value) & mask) << position
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def decode(data: bytes) -> Instruction:
    """The inverse of :func:`encode`.

    Raises:
        ValueError: if the bytes are not an instruction.
    """
    if len(data) != INSTRUCTION_BYTES:
        raise ValueError(f"an instruction has {INSTRUCTION_BYTES} bytes, not {len(data)}")
    word = int.from_bytes(data, "little")
    number = word & 0xF
    if number not in list(Unit):
        raise ValueError(f"{number} is not a queue")
    unit = Unit(number)
    values: dict[str, int] = {}
    position = 0
    for field in (*HEADER, *FIELDS[unit]):
        value = word >> position & ((1 << field.bits) - 1)
        if field.signed and value >> field.bits - 1:
            value -= 1 << field.bits
        values[field.name] = value
        position += field.bits
    if word >> position:
        raise ValueError("bits are set that no field has")
    del values["unit"]
    return KINDS[unit](**values)


def assemble(instructions: Sequence[Instruction]) -> bytes:
    """A program: the instructions one after the other."""
    return b"".join(encode(i) for i in instructions)


def disassemble(data: bytes) -> list[Instruction]:
    """The inverse of :func:`assemble`.

    Raises:
        ValueError: if the bytes are not a program.
    """
    if len(data) % INSTRUCTION_BYTES:
        raise ValueError(f"{len(data)} bytes are not a whole number of instructions of {INSTRUCTION_BYTES}")
    return [decode(data[i : i + INSTRUCTION_BYTES]) for i in range(0, len(data), INSTRUCTION_BYTES)]
