"""Which layers run on kernels for Arm cores with vectors (MVE), and how their constants are packed for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.mcu.arm import assembly, vectors
from bitwright.mcu.arm.assembly import Finish, Kind
from bitwright.mcu.arm.dsp import Fast, Layer, text

CORES = ("cortex-m52", "cortex-m55", "cortex-m85")
"""Cores with vectors of integers.  They are optional; compilers for cores without them take the portable text."""
INT32 = 1 << 31
TAPS, MOST_TAPS = 9, 64
EIGHT = 8  # channels that the kernel for other windows does at once


def choose(core: str | None, layer: Layer) -> Fast | None:
    """A kernel for the layer, or None where another must do.

    Args:
        core: Name of the core, as gcc spells it.
        layer: The layer.
    """
    if core not in CORES or layer.source != "s8" or layer.result not in ("s8", "u8"):
        return None
    kind = _kind(layer)
    if kind is None:
        return None
    outputs, inputs, high, wide = layer.weights.shape
    flat = layer.weights.astype(np.int8).reshape(outputs, inputs, high * wide)
    if layer.groups == 1:
        driver, function, scratch = "bw_mve_conv", "bw_vectors", high * wide * inputs
        weights = flat.transpose(0, 2, 1).reshape(outputs, -1)
    elif layer.groups == layer.in_c == outputs and inputs == 1 and _by_eights(outputs, high * wide):
        driver, scratch = "bw_mve_depthwise", layer.in_c
        function = "bw_eights" if high * wide == TAPS else "bw_taps"
        weights = flat[:, 0]
    elif layer.groups == layer.in_c == outputs and inputs == 1 and high * wide <= TAPS:
        driver, function, scratch = "bw_mve_depthwise", "bw_nine", layer.in_c
        weights = np.pad(flat[:, 0], ((0, 0), (0, TAPS - high * wide)))
    else:
        return None
    if function in ("bw_taps", "bw_eights"):
        stream = _stream_of_eights(layer, kind, weights)
    else:
        stream = _stream(layer, kind, weights, by_tap=driver == "bw_mve_depthwise")
    return Fast(
        driver=driver,
        stream=stream,
        step=0,
        finish=Finish(kind, "any"),
        source=layer.source,
        offset=layer.zero,
        lo=layer.lo,
        hi=layer.hi,
        pointers=(f"{function}_{kind}",),
        scratch_bytes=-(-scratch // 4) * 4,
    )


def _by_eights(channels: int, taps: int) -> bool:
    """Whether a depthwise layer goes eight channels at a time: nine taps only where no channels are left over."""
    return taps <= MOST_TAPS and (channels % EIGHT == 0 if taps == TAPS else channels >= EIGHT)


def _kind(layer: Layer) -> Kind | None:
    shift = layer.shift
    if layer.kind == "shift":
        return "shift" if (shift >= 0).all() else None
    if layer.kind == "single":
        return "single" if (shift >= 33).all() else None
    if layer.kind == "double" and (shift >= 0).all():
        # Halves below zero round away; where a shift is 0 there are none, and nothing must be taken off.
        if layer.lo >= layer.zero:
            return "double"
        return "away" if (shift >= 1).all() else None
    return None


def _stream(layer: Layer, kind: Kind, weights: NDArray[np.int8], *, by_tap: bool) -> NDArray[np.uint32]:
    """Blocks of four channels: bias, multiplier, negative shift; then the weights, row by row or tap by tap."""
    count = len(weights)
    more = -count % 4
    shift = layer.shift - (32 if kind == "single" else 0)
    numbers = np.zeros((3, count + more), np.int64)
    numbers[0, :count] = layer.bias
    numbers[1, :count] = layer.multiplier if layer.multiplier.size else 0
    numbers[2, :count] = -shift
    words = numbers.reshape(3, -1, 4).transpose(1, 0, 2).astype(np.int32).reshape(-1, 12)
    rows = np.pad(weights, ((0, more), (0, 0))).reshape(-1, 4, weights.shape[1])
    if by_tap:
        rows = rows.transpose(0, 2, 1)
    body = np.ascontiguousarray(rows).reshape(len(words), -1)
    blocks = np.concatenate(
        [np.ascontiguousarray(words).astype("<i4").view(np.int8).reshape(len(words), 48), body], axis=1
    )
    return np.ascontiguousarray(blocks).ravel().view("<u4").astype(np.uint32)


def _stream_of_eights(layer: Layer, kind: Kind, weights: NDArray[np.int8]) -> NDArray[np.uint32]:
    """Blocks of eight channels: biases of the even ones, of the odd ones, multipliers, negative shifts; then tap by tap."""
    count = len(weights)
    shift = layer.shift - (32 if kind == "single" else 0)
    numbers = np.zeros((3, count), np.int64)
    numbers[0] = layer.bias
    numbers[1] = layer.multiplier if layer.multiplier.size else 0
    numbers[2] = -shift
    blocks = []
    for start in range(0, count, EIGHT):
        channels = np.arange(EIGHT) + min(start, count - EIGHT)
        words = numbers[:, channels[[0, 2, 4, 6, 1, 3, 5, 7]]].astype("<i4")
        blocks.append(np.concatenate([np.ascontiguousarray(words).view(np.int8).ravel(), weights[channels].T.ravel()]))
    return np.concatenate(blocks).view("<u4").astype(np.uint32)


# Text

GUARD = "#if defined(__ARM_FEATURE_MVE)"
SCALES: dict[Kind, str] = {
    "shift": "",
    "single": "        acc = (int32_t)((int64_t)acc * numbers[4] >> 32);",
    "double": "        acc = (int32_t)((2 * (int64_t)acc * numbers[4] + 2147483648) >> 32);",
    "away": "        acc = (int32_t)((2 * (int64_t)acc * numbers[4] + 2147483648) >> 32);\n        acc -= acc < 0;",
}
FILES = {"bw_mve_conv": "mve_conv.c", "bw_mve_depthwise": "mve_depthwise.c"}


def names_of(used: list[Fast]) -> list[str]:
    """Names of the functions in assembly."""
    return sorted({pointer for fast in used for pointer in fast.pointers})


def declarations(used: list[Fast], prefix: str) -> str:
    """For the header that the network's own files share."""
    drivers = sorted({fast.driver for fast in used})
    lines = [text("mve.h"), *(f"#define {name} {prefix}_{name}" for name in (*drivers, *names_of(used)))]
    lines += [f"void {name}(const {name}_t *d, const void *x, void *y, void *scratch);" for name in drivers]
    lines += [f"bw_vectors_fn {name};" for name in names_of(used)]
    return "\n".join([*lines, ""])


def assembled(used: list[Fast], prefix: str) -> list[list[str]]:
    """The functions in assembly."""
    functions = []
    for kind in sorted({fast.finish.kind for fast in used}):
        names = {pointer for fast in used for pointer in fast.pointers if fast.finish.kind == kind}
        for name in sorted(names):
            make = {
                "bw_vectors": vectors.tile,
                "bw_nine": vectors.nine,
                "bw_taps": vectors.taps,
                "bw_eights": vectors.eights,
            }[name.rsplit("_", 1)[0]]
            functions.append(make(f"{prefix}_{name}", kind))
    return functions


def definitions(used: list[Fast], prefix: str, fill_in: Any) -> str:
    """For the file of kernels: drivers, the assembly, and what stands for it on other machines."""
    finishes = {fast.finish.kind for fast in used}
    out = [GUARD, assembly.quoted(assembled(used, prefix)), "#else"]
    for kind in sorted(finishes):
        values = {"PREFIX": prefix, "FINISH": kind, "SCALE": SCALES[kind]}
        mine = {pointer.rsplit("_", 1)[0] for fast in used if fast.finish.kind == kind for pointer in fast.pointers}
        if mine - {"bw_taps", "bw_eights"}:
            out.append(fill_in(text("portable_vectors.c"), values))
        if mine & {"bw_taps", "bw_eights"}:
            wide = SCALES[kind].replace("numbers[4]", "numbers[8]")
            out.append(fill_in(text("portable_taps.c"), {**values, "SCALE": wide}))
    for name in names_of(used):
        what, rest = name.removeprefix("bw_").split("_")
        if what in ("taps", "eights"):
            out.append(
                f"void {name}(const void *x, const void *stream, void *y, const bw_mve_t *t)\n"
                f"{{\n    {prefix}_taps_{rest}(x, stream, y, t);\n}}\n"
            )
            continue
        out.append(
            f"void {name}(const void *x, const void *stream, void *y, const bw_mve_t *t)\n"
            f"{{\n    {prefix}_vectors_{rest}(x, stream, y, t, {int(what == 'nine')});\n}}\n"
        )
    out.append("#endif\n")
    values = {"PREFIX": prefix, "TAPS": str(MOST_TAPS)}
    out += [fill_in(text(FILES[driver]), values) for driver in sorted({fast.driver for fast in used})]
    return "\n".join(out)
