"""Sums of two tensors on Arm cores: what each operand adds is looked up, and the sum is requantized.

The tables hold the values of the very expressions that define the operator, one per code, so nothing has to be proven of
them; only the requantizer after the sum has to be one of the kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.mcu.arm import assembly, dsp, mve, vectors
from bitwright.mcu.arm.assembly import Clamp, Finish, Kind, function

INT32 = 1 << 31
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class FastSum:
    """A sum on such a kernel.

    Attributes:
        tables: For each operand what each byte adds.
        finish: From sums to integers.
        vector: Whether the core has vectors.
        numbers: Fields ``multiplier``, ``shift``, ``offset``, ``lo``, ``hi``.
    """

    tables: tuple[NDArray[np.int32], NDArray[np.int32]]
    finish: Finish
    vector: bool
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its C function."""
        return f"bw_{'vsum' if self.vector else 'sum'}_{self.finish.name}"


def choose(
    core: str | None, tables: tuple[Ints, Ints], kind: str, multiplier: Ints, shift: Ints, zero: int, lo: int, hi: int,
    result: str,
) -> FastSum | None:  # fmt: skip
    """A kernel for the sum, or None.

    Args:
        core: Name of the core, as gcc spells it.
        tables: For each operand what each byte (0 to 255) adds.
        kind: The proven requantizer of the sum.
        multiplier: ``[1]``, or empty.
        shift: ``[1]``.
        zero: Zero point of the output.
        lo: Lowest output.
        hi: Highest output.
        result: C suffix of the output type.
    """
    if core not in dsp.CORES or max(multiplier.size, 1) != 1 or shift.size != 1 or result not in ("s8", "u8"):
        return None
    m, s = int(multiplier[0]) if multiplier.size else 0, int(shift[0])
    first = tables[0].astype(np.int64)
    vector = core in mve.CORES
    clamps: dict[tuple[str, int, int], Clamp] = {("s8", -128, 127): "s8", ("s8", 0, 127): "u7", ("u8", 0, 255): "u8"}
    clamp: Clamp = "any" if vector else clamps.get((result, lo, hi), "any")
    offset = zero if vector else 2 * zero + 1
    chosen: Kind
    if kind == "shift" and vector and 0 <= s <= 30:  # without vectors a shift is cheaper than looking up
        chosen = "shift"
    elif kind == "double" and s >= 1 and m >= INT32 >> 1:
        chosen = "double" if lo >= zero else "away"
        m, s = (m, s) if vector else (2 * m - (1 << 32), s - 1)
    elif kind == "single" and s >= 33:
        chosen, s = "single", s - (32 if vector else 33)
    else:
        return None
    reach = int(np.abs(first).max()) + int(np.abs(tables[1]).max())
    if reach >= INT32:
        return None
    return FastSum(
        tables=(first.astype(np.int32), tables[1].astype(np.int32)),
        finish=Finish(chosen, clamp),
        vector=vector,
        numbers=(m, -s if vector else s, offset, lo, hi),
    )


def scalar(name: str, finish: Finish) -> list[str]:
    """``bw_sum``, one element a turn.  ``r0`` ``bw_sum_t``, ``r1``, ``r2`` operands, ``r3`` output."""
    loop = f".L{name}_loop"
    lines = ["push {r4-r12, lr}", "ldm.w r0, {r4, r5, r6, r7, r8, r9, r10, r11}", "add r6, r3", f"{loop}:"]
    lines += ["ldrb r0, [r1], #1", "ldrb r12, [r2], #1", "ldr.w r0, [r4, r0, lsl #2]", "ldr.w r12, [r5, r12, lsl #2]"]
    lines += ["add r0, r12", *assembly.multiply(finish, ("r0",), "r7"), "asr.w r0, r0, r8"]
    lines += assembly.saturate(finish, ("r0",), "r9", ("r10", "r11"))
    return function(name, [*lines, "strb r0, [r3], #1", "cmp r3, r6", f"bne {loop}", "pop {r4-r12, pc}"])


def vector(name: str, finish: Finish) -> list[str]:
    """``bw_vsum``, four elements a turn; registers as above."""
    loop = f".L{name}_loop"
    lines = ["push {r4-r12, lr}", "vpush {d8-d11}", "ldm.w r0, {r4, r5, r6, r7, r8, r9, r10, r11}"]
    lines += ["vdup.32 q4, r10", "vdup.32 q5, r11", "mov r11, r9", "dlstp.32 lr, r6", f"{loop}:"]
    lines += ["vldrb.u32 q1, [r1], #4", "vldrb.u32 q2, [r2], #4"]
    lines += ["vldrw.u32 q0, [r4, q1, uxtw #2]", "vldrw.u32 q3, [r5, q2, uxtw #2]", "vadd.i32 q0, q0, q3"]
    lines += ["vdup.32 q1, r7", "vdup.32 q2, r8", *vectors.finish(finish.kind), "vstrb.32 q0, [r3], #4"]
    return function(name, [*lines, f"letp lr, {loop}", "vpop {d8-d11}", "pop {r4-r12, pc}"])


HEADER = """\
/* Sums of two tensors: tables with what each byte adds, and a requantizer (meanings as in the kernels for convolution). */
typedef struct {
    const int32_t *table0, *table1;
    int32_t count, multiplier, shift, offset, lo, hi;
} bw_sum_t;
"""
PORTABLE = """\
void @NAME@(const bw_sum_t *t, const void *x0, const void *x1, void *y)
{
    const unsigned char *a = (const unsigned char *)x0, *b = (const unsigned char *)x1;
    unsigned char *out = (unsigned char *)y;
    for (int32_t i = 0; i < t->count; i++) {
        int32_t acc = t->table0[a[i]] + t->table1[b[i]];
@SCALE@
        out[i] = (unsigned char)bw_clamp(acc, t->lo, t->hi);
    }
}
"""


def declarations(used: list[FastSum], prefix: str) -> str:
    """For the header that the network's own files share."""
    lines = [HEADER]
    for name in sorted({s.name for s in used}):
        lines += [f"#define {name} {prefix}_{name}"]
        lines += [f"void {name}(const bw_sum_t *t, const void *x0, const void *x1, void *y);"]
    return "\n".join([*lines, ""])


def assembled(used: list[FastSum], prefix: str) -> list[list[str]]:
    """The functions in assembly."""
    return [
        (vector if item.vector else scalar)(f"{prefix}_{name}", item.finish)
        for name, item in sorted({s.name: s for s in used}.items())
    ]


def definitions(used: list[FastSum], prefix: str, fill_in: Callable[[str, Mapping[str, str]], str]) -> str:
    """For the file of kernels."""
    out = []
    for name, item in sorted({s.name: s for s in used}.items()):
        out += [
            mve.GUARD if item.vector else dsp.GUARD,
            assembly.quoted(assembled([item], prefix)),
            "#else",
        ]
        out += [fill_in(PORTABLE, {"NAME": name, "SCALE": _scale(item)}), "#endif\n"]
    return "\n".join(out)


def _scale(item: FastSum) -> str:
    kind = item.finish.kind
    if item.vector:
        lines = [mve.SCALES[kind].replace("numbers[4]", "t->multiplier")]
        lines.append(
            "        acc = (int32_t)(((int64_t)acc + ((int64_t)1 << -t->shift >> 1)) >> -t->shift) + t->offset;"
        )
        return "\n".join(line for line in lines if line)
    text = dsp.SCALES[kind].replace("(int32_t)numbers[0]", "t->multiplier")
    return text.replace("shift", "t->shift").replace("offset", "t->offset").replace("t->t->", "t->")
