"""Inner loops for Arm cores with vectors (Armv8.1-M, MVE), as text for an assembler.

Sources: Armv8.1-M Architecture Reference Manual (VMLADAVA, VQRDMULH, VRSHL, VCTP, DLSTP, LETP).  A loop that ends in LETP
predicates its last turn, so nothing is read or written beyond the end.
"""

from __future__ import annotations

from bitwright.mcu.arm.assembly import Kind, function


def finish(kind: Kind) -> list[str]:
    """``q0`` from accumulators to outputs: multipliers in ``q1``, negative right shifts in ``q2``, zero point in ``r11``."""
    out = []
    if kind == "single":
        out.append("vmulh.s32 q0, q0, q1")
    elif kind != "shift":
        out.append("vqrdmulh.s32 q0, q0, q1")
    if kind == "away":
        out += ["vshr.s32 q3, q0, #31", "vadd.i32 q0, q0, q3"]
    return [*out, "vrshl.s32 q0, q0, q2", "vadd.i32 q0, q0, r11", "vmax.s32 q0, q0, q4", "vmin.s32 q0, q0, q5"]


def tile(name: str, kind: Kind) -> list[str]:
    """``bw_vectors``: all channels of one pixel, four at a time.

    ``r0`` values, ``r1`` stream, ``r2`` output, ``r3`` ``bw_mve_t``.
    """
    again, loop = f".L{name}_four", f".L{name}_loop"
    lines = ["push {r4-r12, lr}", "vpush {d8-d11}", "sub sp, #8", "ldm.w r3, {r5, r6, r7, r8, r9}"]
    lines += ["strd r6, r7, [sp]", "vdup.32 q4, r8", "vdup.32 q5, r9", "mov r9, r5"]
    lines += [
        f"{again}:",
        "ldrd r4, r6, [r1]",
        "ldrd r8, r10, [r1, #8]",
        "add.w r5, r1, #48",
        "add.w r7, r5, r9",
        "add.w r11, r7, r9",
        "add.w r12, r11, r9",
        "mov r3, r0",
        "dlstp.8 lr, r9",
        f"{loop}:",
        "vldrb.8 q0, [r3], #16",
        "vldrb.8 q1, [r5], #16",
        "vmladava.s8 r4, q0, q1",
        "vldrb.8 q2, [r7], #16",
        "vmladava.s8 r6, q0, q2",
        "vldrb.8 q1, [r11], #16",
        "vmladava.s8 r8, q0, q1",
        "vldrb.8 q2, [r12], #16",
        "vmladava.s8 r10, q0, q2",
        f"letp lr, {loop}",
        "vmov q0[2], q0[0], r4, r8",
        "vmov q0[3], q0[1], r6, r10",
        *(["vldrw.u32 q1, [r1, #16]"] if kind != "shift" else []),
        "vldrw.u32 q2, [r1, #32]",
        "ldrd r3, r11, [sp]",
        *finish(kind),
        "vctp.32 r3",
        "vpst",
        "vstrbt.32 q0, [r2], #4",
        "adds r1, #48",
        "add.w r1, r1, r9, lsl #2",
        "subs r3, #4",
        "str r3, [sp]",
        f"bgt.w {again}",
        "add sp, #8",
        "vpop {d8-d11}",
        "pop {r4-r12, pc}",
    ]
    return function(name, lines)


def nine(name: str, kind: Kind) -> list[str]:
    """``bw_nine``: one filter of up to nine taps per channel, one pixel.

    ``r0`` addresses of the nine taps, ``r1`` stream, ``r2`` output, ``r3`` ``bw_mve_t``.
    """
    loop = f".L{name}_loop"
    lines = ["push {r4-r12, lr}", "vpush {d8-d11}", "ldm.w r3, {r5, r6, r7, r8, r9}"]
    lines += [
        "mov lr, r6",
        "mov r11, r7",
        "vdup.32 q4, r8",
        "vdup.32 q5, r9",
        "mov r7, r0",
        "mov r0, r1",
        "mov r12, r2",
    ]
    lines += ["ldm.w r7, {r1, r2, r3, r4, r5, r6, r8, r9, r10}", "dlstp.32 lr, lr", f"{loop}:", "vldrw.u32 q0, [r0]"]
    for tap in range(9):
        value = "q1" if tap % 2 == 0 else "q3"
        if tap < 6:
            lines.append(f"vldrb.s32 {value}, [r{tap + 1}], #4")
        else:  # widening loads take low registers only
            high = f"r{tap + 2}"
            lines += [f"mov r7, {high}", f"add.w {high}, {high}, #4", f"vldrb.s32 {value}, [r7]"]
        lines.append(f"vldrb.s32 q2, [r0, #{48 + 4 * tap}]")
        lines += [f"vmul.i32 {value}, {value}, q2", f"vadd.i32 q0, q0, {value}"]
    lines += [*(["vldrw.u32 q1, [r0, #16]"] if kind != "shift" else []), "vldrw.u32 q2, [r0, #32]", *finish(kind)]
    lines += ["mov r7, r12", "vstrb.32 q0, [r7]", "add.w r12, r12, #4", "adds r0, #84", f"letp lr, {loop}"]
    return function(name, [*lines, "vpop {d8-d11}", "pop {r4-r12, pc}"])


def taps(name: str, kind: Kind) -> list[str]:
    """``bw_taps``: one filter of any number of taps per channel, one pixel, eight channels at a time.

    Values widen to 16 bits, and products of even and of odd channels go to accumulators of their own.  The last eight
    channels may be some of those before them once more, so that nothing is read beyond the end.

    ``r0`` addresses of the taps, ``r1`` stream, ``r2`` output, ``r3`` ``bw_mve_t``.
    """
    again, loop, out = f".L{name}_eight", f".L{name}_loop", f".L{name}_out"
    multipliers = [["vldrw.u32 q1, [r1, #32]"], ["vldrw.u32 q1, [r1, #48]"]] if kind != "shift" else [[], []]
    lines = [
        "push {r4-r12, lr}",
        "vpush {d8-d15}",
        "ldm.w r3, {r5, r6, r7, r8, r9}",  # taps, channels, zero point, lo, hi
        "vdup.32 q4, r8",
        "vdup.32 q5, r9",
        "mov r11, r7",
        "mov r9, r5",
        "sub.w r12, r6, #8",
        "mov.w r8, #0",
        f"{again}:",
        "vldrw.u32 q0, [r1]",
        "vldrw.u32 q1, [r1, #16]",
        "add.w r4, r1, #96",
        "mov r5, r0",
        "dls lr, r9",
        f"{loop}:",
        "ldr r6, [r5], #4",
        "add r6, r8",
        "vldrb.s16 q2, [r6]",
        "vldrb.s16 q3, [r4], #8",
        "vmullb.s16 q6, q2, q3",
        "vadd.i32 q0, q0, q6",
        "vmullt.s16 q7, q2, q3",
        "vadd.i32 q1, q1, q7",
        f"le lr, {loop}",
        "vmov q6, q1",
        *multipliers[0],
        "vldrw.u32 q2, [r1, #64]",
        *finish(kind),
        "vmov q7, q0",
        "vmov q0, q6",
        *multipliers[1],
        "vldrw.u32 q2, [r1, #80]",
        *finish(kind),
        "vmovnt.i32 q7, q0",
        "add.w r6, r2, r8",
        "vstrb.16 q7, [r6]",
        "mov r1, r4",
        "cmp r8, r12",
        f"beq {out}",
        "add.w r8, r8, #8",
        "cmp r8, r12",
        "it gt",
        "movgt r8, r12",
        f"b {again}",
        f"{out}:",
        "vpop {d8-d15}",
        "pop {r4-r12, pc}",
    ]
    return function(name, lines)


def eights(name: str, kind: Kind) -> list[str]:
    """``bw_eights``: one filter of nine taps per channel, one pixel, eight channels a turn; arguments as ``bw_taps``."""
    loop = f".L{name}_loop"
    multipliers = [["vldrw.u32 q1, [r0, #-64]"], ["vldrw.u32 q1, [r0, #-48]"]] if kind != "shift" else [[], []]
    lines = [
        "push {r4-r12, lr}",
        "vpush {d8-d15}",
        "ldm.w r3, {r5, r6, r7, r8, r9}",
        "lsrs r6, r6, #3",
        "mov r11, r7",
        "vdup.32 q4, r8",
        "vdup.32 q5, r9",
        "mov r7, r0",
        "mov r0, r1",
        "mov r12, r2",
        "dls lr, r6",
        "ldm.w r7, {r1, r2, r3, r4, r5, r6, r8, r9, r10}",
        f"{loop}:",
        "vldrw.u32 q0, [r0]",
        "vldrw.u32 q1, [r0, #16]",
        "adds r0, #96",
    ]
    for tap in range(9):
        if tap < 6:
            lines.append(f"vldrb.s16 q2, [r{tap + 1}], #8")
        else:  # widening loads take low registers only
            high = f"r{tap + 2}"
            lines += [f"mov r7, {high}", f"add.w {high}, {high}, #8", "vldrb.s16 q2, [r7]"]
        lines += [f"vldrb.s16 q3, [r0, #{8 * tap}]", "vmullb.s16 q6, q2, q3", "vadd.i32 q0, q0, q6"]
        lines += ["vmullt.s16 q7, q2, q3", "vadd.i32 q1, q1, q7"]
    lines += ["vmov q6, q1", *multipliers[0], "vldrw.u32 q2, [r0, #-32]", *finish(kind), "vmov q7, q0", "vmov q0, q6"]
    lines += [*multipliers[1], "vldrw.u32 q2, [r0, #-16]", *finish(kind), "vmovnt.i32 q7, q0", "mov r7, r12"]
    lines += ["vstrb.16 q7, [r7]", "add.w r12, r12, #8", "adds r0, #72", f"le lr, {loop}"]
    return function(name, [*lines, "vpop {d8-d15}", "pop {r4-r12, pc}"])
