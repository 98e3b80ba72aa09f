"""Inner loops for Arm cores with the DSP extension (Armv7E-M, Armv8-M with DSP), as text for an assembler.

They are written here and not left to compilers because they use all fourteen registers: gcc and clang then give the same
instructions.  Every function has a portable twin in ``portable_*.c`` that says what it computes.

Numbers lie so that one word feeds two multiplications of SMLAD: values in the order (0, 2), (1, 3) of every four, which
is what SXTB16 makes of four bytes.  ``r4``, ``r5`` hold the weights of two channels, ``r2``, ``r3`` values of pixels.

Sources: Armv7-M Architecture Reference Manual (SMLAD, SMMLAR, SXTB16, PKHBT, SSAT, their operands).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["shift", "single", "double", "away"]
Clamp = Literal["s8", "u7", "u8", "any"]
UNITS = 4  # groups of four values per turn of a tile's loop

FIRST = {1: ("r6",), 2: ("r6", "r7"), 3: ("r6", "r7", "r8"), 4: ("r6", "r7", "r8", "r9")}
SECOND = {1: ("r10",), 2: ("r10", "r11"), 3: ("r10", "r11", "r12"), 4: ("r10", "r11", "r12", "lr")}
UNIT_BYTES = {1: 40, 2: 64, 3: 80, 4: 104}  # of the code for one group of four values


@dataclass(frozen=True)
class Finish:
    """From accumulators to stored integers.

    Attributes:
        kind: ``shift``; ``single`` and ``double`` roundings of a multiplier, where ``double`` is right only if nothing
            below zero can come out and ``away`` always is.
        clamp: ``s8`` -128..127, ``u7`` 0..127, ``u8`` 0..255, or ``any``.
    """

    kind: Kind
    clamp: Clamp

    @property
    def multiplies(self) -> bool:
        """Whether there are multipliers."""
        return self.kind != "shift"

    @property
    def name(self) -> str:
        """A suffix for symbols."""
        return f"{self.kind}_{self.clamp}"


def multiply(finish: Finish, registers: Sequence[str], multiplier: str) -> list[str]:
    """The high product, rounded as the kind says."""
    out = []
    if finish.kind == "single":
        out += [f"smmul {r}, {r}, {multiplier}" for r in registers]
    elif finish.multiplies:
        # The stored multiplier is 2m - 2^32, so r·2^32 + r·it is 2·r·m, which needs no doubled accumulator.
        out += [f"smmlar {r}, {r}, {multiplier}, {r}" for r in registers]
        if finish.kind == "away":
            out += [f"add.w {r}, {r}, {r}, asr #31" for r in registers]
    return out


SATURATE = {"s8": "ssat {0}, #8, {0}", "u7": "usat {0}, #7, {0}", "u8": "usat {0}, #8, {0}"}


def saturate(finish: Finish, registers: Sequence[str], offset: str, bounds: tuple[str, str]) -> list[str]:
    """Adds the zero point, doubled and with the rounding's half in it, halves, and clamps."""
    out = []
    if finish.multiplies:
        out += [f"add.w {r}, {r}, {offset}" for r in registers]
    if finish.clamp != "any":
        tail = ", asr #1" if finish.multiplies else ""
        return out + [SATURATE[finish.clamp].format(r) + tail for r in registers]
    if finish.multiplies:
        out += [f"asr.w {r}, {r}, #1" for r in registers]
    for r in registers:
        out += [f"cmp {r}, {bounds[0]}", "it lt", f"movlt {r}, {bounds[0]}"]
        out += [f"cmp {r}, {bounds[1]}", "it gt", f"movgt {r}, {bounds[1]}"]
    return out


def function(name: str, lines: Sequence[str]) -> list[str]:
    """A function in a section of its own, so that the linker leaves out what nobody calls."""
    head = [f'.section .text.{name}, "ax", %progbits', ".balign 4", f".global {name}", f".type {name}, %function"]
    return [*head, ".thumb_func", f"{name}:", *(line if line.endswith(":") else f"    {line}" for line in lines)]


def products(pixels: int, first: str, second: str, x: Sequence[str], at: int) -> list[str]:
    """Two channels times some pixels."""
    out = []
    for i, value in enumerate(x):
        a, b = FIRST[pixels][at + i], SECOND[pixels][at + i]
        out += [f"smlad {a}, {first}, {value}, {a}", f"smlad {b}, {second}, {value}, {b}"]
    return out


WEIGHTS = ["ldr r4, [r1], #4", "sxtb16 r5, r4, ror #8", "sxtb16 r4, r4"]


def pair(pixels: int) -> list[str]:
    """Two of the four values of a unit."""
    if pixels == 3:
        return [*WEIGHTS, "ldm.w r0!, {r2, r3, r9}", *products(3, "r4", "r5", ("r2", "r3", "r9"), 0)]
    out = list(WEIGHTS)
    for at in range(0, pixels, 2):
        out += ["ldrd r2, r3, [r0], #8", *products(pixels, "r4", "r5", ("r2", "r3"), at)]
    return out


def unit(pixels: int) -> list[str]:
    """Four values."""
    if pixels > 1:
        return pair(pixels) * 2
    return [
        "ldrd r4, r8, [r1], #8",
        "ldrd r2, r3, [r0], #8",
        "sxtb16 r5, r4, ror #8",
        "sxtb16 r4, r4",
        "smlad r6, r4, r2, r6",
        "smlad r10, r5, r2, r10",
        "sxtb16 r5, r8, ror #8",
        "sxtb16 r8, r8",
        "smlad r6, r8, r3, r6",
        "smlad r10, r5, r3, r10",
    ]


def first_unit(pixels: int) -> list[str]:
    """Four values; the accumulators start at the bias."""
    assert pixels == 4
    out = ["ldrd r2, r3, [r0, #8]", *WEIGHTS]
    for target, weight, value, bias in (("r8", "r4", "r2", "r6"), ("r9", "r4", "r3", "r6"),
                                        ("r12", "r5", "r2", "r10"), ("lr", "r5", "r3", "r10")):  # fmt: skip
        out.append(f"smlad {target}, {weight}, {value}, {bias}")
    out.append("ldrd r2, r3, [r0], #16")
    for target, weight, value, bias in (("r7", "r4", "r3", "r6"), ("r6", "r4", "r2", "r6"),
                                        ("r11", "r5", "r3", "r10"), ("r10", "r5", "r2", "r10")):  # fmt: skip
        out.append(f"smlad {target}, {weight}, {value}, {bias}")
    return out + pair(4)


def tile(name: str, pixels: int, finish: Finish) -> list[str]:
    """``bw_tile``: all channels of some pixels.

    ``r0`` patch, ``r1`` stream, ``r2`` output, ``r3`` ``bw_tile_t``.
    """
    a, b = FIRST[pixels], SECOND[pixels]
    top, end, again = f".L{name}_top", f".L{name}_end", f".L{name}_pair"
    peeled = pixels == 4
    lines = [
        "push {r4-r11, lr}",
        "sub sp, #40",
        "ldm.w r3, {r4, r5, r6, r7, r8, r9}",  # units, end, pitch, offset, lo, hi
        "str r0, [sp, #0]",
        "strd r2, r6, [sp, #16]",
        "strd r5, r7, [sp, #24]",
        "strd r8, r9, [sp, #32]",
        f"mov r6, #{8 * pixels}",
        "mla r7, r4, r6, r0",
        "str r7, [sp, #8]",  # end of the patch
        *(["subs r4, #1"] if peeled else []),
        "rsb r6, r4, #0",
        f"and r6, r6, #{UNITS - 1}",  # units to leave out of the first turn
        f"adr.w r7, {top}",
        f"mov r8, #{UNIT_BYTES[pixels]}",
        "mla r7, r6, r8, r7",
    ]
    if peeled:
        lines += [f"cbnz r4, {again}_enter", f"adr.w r7, {end}", f"{again}_enter:"]
    lines += ["orr r7, r7, #1", "str r7, [sp, #4]", f"{again}:", "ldr r0, [sp, #0]"]
    lines += ["ldrd r6, r10, [r1], #8"]
    if peeled:
        lines += first_unit(pixels)
    else:
        lines += [f"mov {r}, r6" for r in a[1:]] + [f"mov {r}, r10" for r in b[1:]]
    lines += ["ldr pc, [sp, #4]", ".balign 4", f"{top}:"]
    lines += unit(pixels) * UNITS
    lines += ["ldr r2, [sp, #8]", "cmp r0, r2", f"bne.w {top}", ".balign 4", f"{end}:"]
    lines += store_pair(pixels, finish)
    lines += ["ldr r3, [sp, #24]", "cmp r1, r3", f"bne.w {again}", "add sp, #40", "pop {r4-r11, pc}"]
    return function(name, lines)


def store_pair(pixels: int, finish: Finish) -> list[str]:
    """Requantizes the accumulators of two channels and stores them side by side."""
    a, b = FIRST[pixels], SECOND[pixels]
    lines = []
    if finish.multiplies:
        lines += ["ldm r1!, {r2, r3, r4}"]
        lines += multiply(finish, a, "r2") + multiply(finish, b, "r3")
    else:
        lines += ["ldr r4, [r1], #4"]
    lines += ["lsr r3, r4, #8", *(f"asr.w {r}, {r}, r4" for r in a), *(f"asr.w {r}, {r}, r3" for r in b)]
    if finish.multiplies:
        lines.append("ldr r5, [sp, #28]")
    if finish.clamp == "any":
        lines.append("ldrd r2, r3, [sp, #32]")
    lines += saturate(finish, (*a, *b), "r5", ("r2", "r3"))
    lines += ["ldrd r2, r3, [sp, #16]", *(f"bfi {x}, {y}, #8, #8" for x, y in zip(a, b, strict=True))]
    places = ["[r2]", "[r2, r3]", "[r2, r3, lsl #1]", "[r2, r4]"][:pixels]
    if pixels == 4:
        lines.append("add.w r4, r3, r3, lsl #1")
    lines += [f"strh.w {r}, {place}" for r, place in zip(a, places, strict=True)]
    return [*lines, "adds r2, #2", "str r2, [sp, #16]"]


def expand(name: str, pixels: int, signed: bool) -> list[str]:
    """``bw_expand``: bytes to pairs of 16 bits.  ``r0`` patch, ``r1`` bytes, ``r2`` how many fours."""
    extend = "sxtb16" if signed else "uxtb16"
    step = 4 * pixels

    def four() -> list[str]:
        return [
            "ldr r3, [r1], #4",
            f"{extend} r12, r3",
            f"{extend} r3, r3, ror #8",
            f"str r12, [r0], #{step}",
            f"str r3, [r0], #{step}",
        ]

    even, out = f".L{name}_even", f".L{name}_out"
    lines = ["lsrs r2, r2, #1", f"bcc {even}", *four(), f"cbz r2, {out}", f"{even}:", *four(), *four()]
    return function(name, [*lines, "subs r2, #1", f"bne {even}", f"{out}:", "bx lr"])


def columns(name: str, signed: bool) -> list[str]:
    """``bw_columns``: two rows of four channels to pairs.

    ``r0`` where to, ``r1``, ``r2`` rows, ``r3`` how many columns; on the stack the pitch of each row.
    """
    extend = "sxtb16" if signed else "uxtb16"
    loop = f".L{name}_loop"
    lines = [
        "push {r4-r9}",
        "ldrd r8, r9, [sp, #24]",
        f"{loop}:",
        "ldr r4, [r1]",
        "ldr r5, [r2]",
        "add r1, r8",
        "add r2, r9",
        f"{extend} r6, r4",
        f"{extend} r7, r5",
        f"{extend} r4, r4, ror #8",
        f"{extend} r5, r5, ror #8",
        "pkhbt r12, r6, r7, lsl #16",
        "pkhtb r6, r7, r6, asr #16",
        "str.w r12, [r0], #32",
        "str r6, [r0, #-16]",
        "pkhbt r12, r4, r5, lsl #16",
        "pkhtb r4, r5, r4, asr #16",
        "str r12, [r0, #-24]",
        "str r4, [r0, #-8]",
        "subs r3, #1",
        f"bne {loop}",
        "pop {r4-r9}",
        "bx lr",
    ]
    return function(name, lines)


def strip(name: str, stride: int, odd: bool, finish: Finish) -> list[str]:
    """``bw_strip``: 3x3 windows of four channels, two rows of output (one at stride 2).

    ``r0`` ring, ``r1`` stream, ``r2`` output, ``r3`` ``bw_strip_t``.  ``odd``: the lower rows are in the first slot.
    """
    upper, lower = ("r3", "r2") if odd else ("r2", "r3")
    again, loop = f".L{name}_channel", f".L{name}_loop"
    lines = [
        "push {r4-r11, lr}",
        "sub sp, #56",
        "ldm.w r3, {r4, r5, r6, r7, r8, r9}",  # ring bytes, row pitch, pitch, offset, lo, hi
        "add.w r4, r0, r4",
        "strd r0, r4, [sp, #0]",
        "strd r7, r5, [sp, #16]",  # offset, row pitch
        "strd r6, r2, [sp, #24]",  # pitch, output
        "strd r8, r9, [sp, #32]",
        "movs r4, #4",
        "str r4, [sp, #40]",
        f"{again}:",
        "ldm.w r1!, {r4, r5, r6, r7, r8, r9, r12}",
        "ldrd r2, r3, [r1], #8" if finish.multiplies else "ldr r3, [r1], #4",
        "strd r2, r3, [sp, #8]",
        "str r1, [sp, #44]",
        "ldrd r0, lr, [sp, #0]",
        "ldr r1, [sp, #28]",
        ".balign 4",
        f"{loop}:",
    ]
    step = 64 if stride == 2 else 32
    # The last column is read first: the pointer then goes on with the first.
    taps = (("[r0, #64]", "r8", "r9"), ("[r0, #32]", "r6", "r7"), (f"[r0], #{step}", "r4", "r5"))
    for where, even, lift in taps:
        start0, start1 = ("r12", "r12") if even == "r8" else ("r10", "r11")
        lines.append(f"ldrd r2, r3, {where}")
        lines += [f"smlad r10, {upper}, {even}, {start0}", f"smlabt r10, {lower}, {lift}, r10"]
        if stride == 1:
            lines += [f"smlatb r11, {upper}, {even}, {start1}", f"smlad r11, {lower}, {lift}, r11"]
    rows = ("r10", "r11") if stride == 1 else ("r10",)
    lines.append("ldrd r2, r3, [sp, #8]" if finish.multiplies else "ldr r3, [sp, #12]")
    lines += multiply(finish, rows, "r2")
    lines += [f"asr.w {r}, {r}, r3" for r in rows]
    if finish.clamp == "any":
        if finish.multiplies:
            lines.append("ldr r2, [sp, #16]")
            lines += [f"add.w {r}, {r}, r2" for r in rows] + [f"asr.w {r}, {r}, #1" for r in rows]
        lines.append("ldrd r2, r3, [sp, #32]")
        for r in rows:
            lines += [f"cmp {r}, r2", "it lt", f"movlt {r}, r2", f"cmp {r}, r3", "it gt", f"movgt {r}, r3"]
        lines.append("ldr r3, [sp, #20]")
    else:
        lines.append("ldrd r2, r3, [sp, #16]")
        lines += saturate(finish, rows, "r2", ("", ""))
    lines.append("ldr r2, [sp, #24]")
    if stride == 1:
        lines.append("strb.w r11, [r1, r3]")  # first, so that a row that is not there may go where the other goes
    lines += ["strb.w r10, [r1]", "add r1, r2", "cmp r0, lr", f"bne.w {loop}"]
    lines += [
        "ldr r0, [sp, #0]",
        "ldr r2, [sp, #28]",
        "adds r0, #8",
        "adds r2, #1",
        "add.w lr, lr, #8",
        "strd r0, lr, [sp, #0]",
        "str r2, [sp, #28]",
        "ldr r1, [sp, #44]",
        "ldr r3, [sp, #40]",
        "subs r3, #1",
        "str r3, [sp, #40]",
        f"bne.w {again}",
        "add sp, #56",
        "pop {r4-r11, pc}",
    ]
    return function(name, lines)


def taps(name: str, signed: bool, finish: Finish) -> list[str]:
    """``bw_taps``: one filter of any number of taps per channel, one pixel, four channels at a time.

    ``r0`` addresses of the taps, ``r1`` stream, ``r2`` output, ``r3`` ``bw_taps_t``.  The last four channels may be some of
    those before them once more, so that nothing is read beyond the end.
    """
    extend = "sxtb16" if signed else "uxtb16"
    again, loop, out = f".L{name}_four", f".L{name}_loop", f".L{name}_out"
    sums, numbers = ("r6", "r7", "r8", "r9"), ("r3", "r4", "r5", "r10")
    lines = [
        "push {r4-r11, lr}",
        "sub sp, #24",
        "ldm.w r3, {r4, r5, r6, r7, r8}",  # taps, channels, offset, lo, hi
        "strd r0, r4, [sp, #0]",
        "subs r5, #4",
        "strd r6, r5, [sp, #8]",
        "strd r7, r8, [sp, #16]",
        "mov.w r12, #0",
        f"{again}:",
        "ldrd r0, lr, [sp, #0]",
        "ldm.w r1!, {r6, r7, r8, r9}",
        f"{loop}:",
        "ldr r3, [r0], #4",
        "ldrd r10, r11, [r1], #8",
        "ldr.w r3, [r3, r12]",
        f"{extend} r4, r3",
        f"{extend} r5, r3, ror #8",
        "smlabb r6, r4, r10, r6",
        "smlatt r8, r4, r10, r8",
        "smlabb r7, r5, r11, r7",
        "smlatt r9, r5, r11, r9",
        "subs.w lr, lr, #1",
        f"bne {loop}",
    ]
    if finish.multiplies:
        lines.append("ldm.w r1!, {r3, r4, r5, r10}")
        for value, multiplier in zip(sums, numbers, strict=True):
            lines += multiply(finish, (value,), multiplier)
    lines.append("ldm.w r1!, {r3, r4, r5, r10}")
    lines += [f"asr.w {value}, {value}, {shift}" for value, shift in zip(sums, numbers, strict=True)]
    lines += ["ldr r3, [sp, #8]", *(["ldrd r4, r5, [sp, #16]"] if finish.clamp == "any" else [])]
    lines += saturate(finish, sums, "r3", ("r4", "r5"))
    lines += [f"bfi r6, {value}, #{8 * i}, #8" for i, value in enumerate(sums) if i]
    lines += [
        "str.w r6, [r2, r12]",
        "ldr r3, [sp, #12]",
        "cmp r12, r3",
        f"beq {out}",
        "add.w r12, r12, #4",
        "cmp r12, r3",
        "it gt",
        "movgt r12, r3",
        f"b {again}",
        f"{out}:",
        "add sp, #24",
        "pop {r4-r11, pc}",
    ]
    return function(name, lines)


def quoted(functions: Sequence[Sequence[str]]) -> str:
    """Functions as file-scope assembly in C."""
    lines = [".pushsection .text", ".syntax unified", ".thumb"]
    for function_lines in functions:
        lines += function_lines
    lines.append(".popsection")
    text = "\n".join('    "' + line.replace('"', '\\"') + '\\n"' for line in lines)
    return f"__asm__(\n{text});"
