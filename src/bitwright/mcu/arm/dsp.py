"""Which layers run on kernels for Arm cores with the DSP extension, and how their constants are packed for them.

A kernel is chosen only where the requantizer was proven to be one of its kinds (``export/c/requant.py``); the conditions
here are what its shorter arithmetic needs on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.mcu import runtime
from bitwright.mcu.arm import assembly
from bitwright.mcu.arm.assembly import Clamp, Finish, Kind

CORES = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m35p", "cortex-m52", "cortex-m55", "cortex-m85")
"""Cores with the DSP extension.  It is optional on the M33, whose compilers then take the portable text."""
INT32 = 1 << 31
FOUR, MOST_TAPS = 4, 64
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A contraction, as far as choosing a kernel goes.

    Attributes:
        weights: ``[O, I / groups, kh, kw]``, 8 bits.
        bias: ``[O]``, zero point of the input folded in.
        groups: Channel groups.
        source: C suffix of the input type.
        result: C suffix of the output type.
        kind: The proven requantizer.
        multiplier: ``[O]`` or ``[1]``; empty if there is none.
        shift: ``[O]`` or ``[1]``.
        zero: Zero point of the output.
        lo: Lowest output.
        hi: Highest output.
        in_size: Rows and columns of the input.
        out_size: Rows and columns of the output.
        in_c: Channels of the input.
        strides: Along rows and columns.
        dilations: Along rows and columns.
        before: Padding above and to the left.
    """

    weights: NDArray[np.integer[Any]]
    bias: Ints
    groups: int
    source: str
    result: str
    kind: str
    multiplier: Ints
    shift: Ints
    zero: int
    lo: int
    hi: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    in_c: int
    strides: tuple[int, int]
    dilations: tuple[int, int]
    before: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fast:
    """A layer on such a kernel.

    Attributes:
        driver: C function that runs it: ``bw_dsp_conv`` or ``bw_dsp_depthwise``.
        stream: Its packed constants.
        step: Words of two channels (convolution) or of one (depthwise) in the stream.
        finish: From accumulators to integers.
        source: C suffix of the input type.
        offset: What is added before the last halving.
        lo: Lowest output.
        hi: Highest output.
        pointers: The functions in its description.
        scratch_bytes: Working memory.
    """

    driver: str
    stream: NDArray[np.uint32]
    step: int
    finish: Finish
    source: str
    offset: int
    lo: int
    hi: int
    pointers: tuple[str, ...]
    scratch_bytes: int

    @property
    def description(self) -> str:
        """The C type of its description."""
        return f"{self.driver}_t"


@dataclass(frozen=True)
class _Numbers:
    """What the kernels put where, per channel."""

    bias: Ints
    multiplier: Ints | None
    shift: Ints
    finish: Finish
    offset: int


def choose(core: str | None, layer: Layer) -> Fast | None:
    """A kernel for the layer, or None where the portable one must do.

    Args:
        core: Name of the core, as gcc spells it; None for portable text.
        layer: The layer.
    """
    if core not in CORES or layer.source not in ("s8", "u8") or layer.result not in ("s8", "u8"):
        return None
    if layer.kind not in ("shift", "single", "double"):
        return None
    numbers = _numbers(layer)
    if numbers is None:
        return None
    if layer.groups == 1:
        return _conv(layer, numbers)
    outputs, inputs, *_ = layer.weights.shape
    if layer.groups != layer.in_c or layer.in_c != outputs or inputs != 1:
        return None
    return _depthwise(layer, numbers) or _taps(layer, numbers)


def _clamp(layer: Layer) -> Clamp:
    clamps: dict[tuple[str, int, int], Clamp] = {("s8", -128, 127): "s8", ("s8", 0, 127): "u7", ("u8", 0, 255): "u8"}
    return clamps.get((layer.result, layer.lo, layer.hi), "any")


def _numbers(layer: Layer) -> _Numbers | None:
    """Biases, multipliers and shifts as the kernels want them, if the layer's are in their range."""
    count = len(layer.weights)
    shift = np.broadcast_to(layer.shift, (count,)).astype(np.int64)
    multiplier = np.broadcast_to(layer.multiplier, (count,)).astype(np.int64) if layer.multiplier.size else None
    offset = 2 * layer.zero + 1
    if layer.kind == "shift":
        # One addition for bias, half a step and zero point.
        bias = layer.bias + ((np.int64(1) << shift) >> 1) + (layer.zero << shift)
        largest = 255 if layer.source == "u8" else 128
        reach = np.abs(bias) + np.abs(layer.weights.astype(np.int64)).reshape(count, -1).sum(1) * largest
        if (shift < 0).any() or int(reach.max(initial=0)) >= INT32:
            return None
        return _Numbers(bias, None, shift, Finish("shift", _clamp(layer)), 0)
    if multiplier is None:
        return None
    if layer.kind == "double":
        if (shift < 1).any() or (multiplier < INT32 >> 1).any():
            return None
        # Halves below zero differ, but then the result lies at or below the zero point: the clamp hides it.
        kind: Kind = "double" if layer.lo >= layer.zero else "away"
        return _Numbers(layer.bias, 2 * multiplier - (1 << 32), shift - 1, Finish(kind, _clamp(layer)), offset)
    if layer.kind == "single":
        if (shift < 33).any():
            return None
        return _Numbers(layer.bias, multiplier, shift - 33, Finish("single", _clamp(layer)), offset)
    return None


def _words(values: Ints) -> NDArray[np.uint32]:
    return (values & 0xFFFFFFFF).astype(np.uint32)


def _conv(layer: Layer, numbers: _Numbers) -> Fast:
    outputs, inputs, high, wide = layer.weights.shape
    row = wide * inputs
    units = high * (-(-row // 4))
    padded = np.zeros((outputs + outputs % 2, high, units // high * 4), np.int64)
    padded[:outputs, :, :row] = layer.weights.transpose(0, 2, 3, 1).reshape(outputs, high, row)
    # [pair, channel of it, unit, k of it] → bytes (c0 k0, c1 k0, c0 k2, c1 k2), (c0 k1, c1 k1, c0 k3, c1 k3)
    fours = padded.reshape(-1, 2, units, 4)[:, :, :, [0, 2, 1, 3]]
    ordered = np.ascontiguousarray(fours.transpose(0, 2, 3, 1)).reshape(len(fours), units * 2, 4)
    weights = ordered.astype(np.int8).view("<u4")[:, :, 0].astype(np.uint32)
    bias, shift = _even(numbers.bias), _even(numbers.shift)
    parts = [_words(bias), weights]
    if numbers.multiplier is not None:
        parts.append(_words(_even(numbers.multiplier)))
    parts.append(_words(shift[:, :1] | shift[:, 1:] << 8))
    stream = np.concatenate(parts, axis=1)
    pixels = layer.out_size[0] * layer.out_size[1]
    rest = pixels % 4 or 4
    name = numbers.finish.name
    tiles = (f"bw_tile4_{name}", f"bw_tile{rest}_{name}")
    expands = (f"bw_expand4_{layer.source}", f"bw_expand{rest}_{layer.source}")
    used = (tiles[0] if pixels >= 4 else "NULL", tiles[1], expands[0] if pixels >= 4 else "NULL", expands[1])
    return Fast(
        driver="bw_dsp_conv",
        stream=stream.ravel(),
        step=stream.shape[1],
        finish=numbers.finish,
        source=layer.source,
        offset=numbers.offset,
        lo=layer.lo,
        hi=layer.hi,
        pointers=used,
        scratch_bytes=8 * units * min(pixels, 4) + 4 * (units // high),
    )


def _even(values: Ints) -> Ints:
    """Per channel → ``[pairs, 2]``, one more channel of zeros where their number is odd."""
    return np.append(values, np.zeros(len(values) % 2, np.int64)).reshape(-1, 2)


def _depthwise(layer: Layer, numbers: _Numbers) -> Fast | None:
    channels, _, high, wide = layer.weights.shape
    stride = layer.strides[0]
    columns = (layer.out_size[1] - 1) * stride + 3
    first = max(layer.before[1], 0)
    if (
        (high, wide) != (3, 3)
        or layer.strides not in ((1, 1), (2, 2))
        or layer.dilations != (1, 1)
        or channels < 4
        or min(layer.before) < 0
        or min(columns, layer.in_size[1] + layer.before[1]) <= first
    ):
        return None
    w = layer.weights[:, 0].astype(np.int64) & 0xFFFF
    pairs = np.stack([w[:, 0] | w[:, 1] << 16, w[:, 1] | w[:, 2] << 16], axis=2).reshape(channels, 6)
    parts = [_words(pairs), _words(numbers.bias[:, None])]
    if numbers.multiplier is not None:
        parts.append(_words(numbers.multiplier[:, None]))
    parts.append(_words(numbers.shift[:, None]))
    stream = np.concatenate(parts, axis=1)
    name = numbers.finish.name
    return Fast(
        driver="bw_dsp_depthwise",
        stream=stream.ravel(),
        step=stream.shape[1],
        finish=numbers.finish,
        source=layer.source,
        offset=numbers.offset,
        lo=layer.lo,
        hi=layer.hi,
        pointers=(f"bw_columns_{layer.source}", f"bw_strip{stride}even_{name}", f"bw_strip{stride}odd_{name}"),
        scratch_bytes=32 * columns,
    )


def _taps(layer: Layer, numbers: _Numbers) -> Fast | None:
    channels, _, high, wide = layer.weights.shape
    if channels < FOUR or high * wide > MOST_TAPS:
        return None
    w = layer.weights[:, 0].astype(np.int64).reshape(channels, -1).T & 0xFFFF
    blocks = []
    for start in range(0, channels, FOUR):
        at = min(start, channels - FOUR)  # the last block holds the last four channels
        block = w[:, at : at + FOUR]
        pairs = np.stack([block[:, 0] | block[:, 2] << 16, block[:, 1] | block[:, 3] << 16], axis=1)
        multiplier = [] if numbers.multiplier is None else [numbers.multiplier[at : at + FOUR]]
        blocks += [numbers.bias[at : at + FOUR], pairs.ravel(), *multiplier, numbers.shift[at : at + FOUR]]
    return Fast(
        driver="bw_dsp_taps",
        stream=_words(np.concatenate(blocks)),
        step=0,
        finish=numbers.finish,
        source=layer.source,
        offset=numbers.offset,
        lo=layer.lo,
        hi=layer.hi,
        pointers=(f"bw_taps{layer.source}_{numbers.finish.name}",),
        scratch_bytes=-(-layer.in_c // FOUR) * FOUR,
    )


# Text


@cache
def text(name: str) -> str:
    """A file of this folder."""
    return (resources.files("bitwright.mcu.arm") / name).read_text("utf-8")


C_TYPES = {"s8": "int8_t", "u8": "uint8_t"}
GUARD = "#if defined(__ARM_FEATURE_DSP) && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'"
SCALES: dict[Kind, str] = {
    "shift": "    acc >>= shift;\n    (void)offset;",
    "single": "    acc = (int32_t)((int64_t)acc * (int32_t)numbers[0] >> 32);\n    acc = ((acc >> shift) + offset) >> 1;",
    "double": "    acc = (int32_t)(((int64_t)acc * ((int64_t)(int32_t)numbers[0] + 4294967296) + 2147483648) >> 32);\n"
    "    acc = ((acc >> shift) + offset) >> 1;",
    "away": "    acc = (int32_t)(((int64_t)acc * ((int64_t)(int32_t)numbers[0] + 4294967296) + 2147483648) >> 32);\n"
    "    acc = (((acc - (acc < 0)) >> shift) + offset) >> 1;",
}


def declarations(used: list[Fast], prefix: str) -> str:
    """For the header that the network's own files share."""
    drivers = sorted({fast.driver for fast in used})
    names = sorted({pointer for fast in used for pointer in fast.pointers if pointer != "NULL"})
    lines = [text("dsp.h")]
    lines += [f"#define {name} {prefix}_{name}" for name in (*drivers, *names)]
    lines += [f"void {name}(const {name}_t *d, const void *x, void *y, void *scratch);" for name in drivers]
    kinds = {
        "bw_tile": "bw_tile_fn",
        "bw_expa": "bw_expand_fn",
        "bw_colu": "bw_columns_fn",
        "bw_stri": "bw_strip_fn",
        "bw_taps": "bw_taps_fn",
    }
    lines += [f"{kinds[name[:7]]} {name};" for name in names]
    return "\n".join([*lines, ""])


def assembled(used: list[Fast], prefix: str) -> list[list[str]]:
    """The functions in assembly."""
    names = sorted({pointer for fast in used for pointer in fast.pointers if pointer != "NULL"})
    finishes = {fast.finish.name: fast.finish for fast in used}
    return [_assembled(name, prefix, finishes) for name in names]


def definitions(used: list[Fast], prefix: str, fill_in: Any) -> str:
    """For the file of kernels: drivers, the assembly, and what stands for it on other machines."""
    names = sorted({pointer for fast in used for pointer in fast.pointers if pointer != "NULL"})
    finishes = {fast.finish.name: fast.finish for fast in used}
    out = [GUARD, assembly.quoted(assembled(used, prefix)), "#else"]
    for name, finish in sorted(finishes.items()):
        values = {"SCALE": SCALES[finish.kind], "MULTIPLIES": str(int(finish.multiplies))}
        out.append(fill_in(text("portable_finish.c"), {"PREFIX": prefix, "FINISH": name, **values}))
    for what, rest in sorted({(_stem(name), _parts(name)[1]) for name in names}):
        out.append(_twin(what, rest, prefix, finishes, fill_in))
    out += [_portable(name, prefix) for name in names]
    out.append("#endif\n")
    files = {
        "bw_dsp_conv": text("conv.c"),
        "bw_dsp_depthwise": text("depthwise.c"),
        "bw_dsp_taps": runtime.text("taps.c"),
    }
    values = {
        "PREFIX": prefix,
        "DRIVER": f"{prefix}_bw_dsp_taps",
        "DESCRIPTION": "bw_dsp_taps_t",
        "SHAPE": "bw_taps_t",
        "MOST": str(MOST_TAPS),
        "CALL": "d->taps(taps, (const uint32_t *)k->weights, out, &t)",
    }
    out += [fill_in(files[driver], values) for driver in sorted({fast.driver for fast in used})]
    return "\n".join(out)


def _parts(name: str) -> tuple[str, str]:
    """``bw_tile4_double_s8`` → ``tile4``, ``double_s8``."""
    _, what, rest = name.split("_", 2)
    return what, rest


def _stem(name: str) -> str:
    return next(stem for stem in ("tile", "expand", "strip", "columns", "taps") if _parts(name)[0].startswith(stem))


def _twin(what: str, rest: str, prefix: str, finishes: dict[str, Finish], fill_in: Any) -> str:
    """The portable function behind all variants of one kind."""
    values = {"PREFIX": prefix, "FINISH": rest, "SOURCE": rest, "IN": C_TYPES.get(rest, "")}
    if rest in finishes:
        values["MULTIPLIES"] = str(int(finishes[rest].multiplies))
    file = "portable_taps_dsp.c" if what == "taps" else f"portable_{what}.c"
    return str(fill_in(text(file), values))


def _assembled(name: str, prefix: str, finishes: dict[str, Finish]) -> list[str]:
    what, rest = _parts(name)
    symbol = f"{prefix}_{name}"
    if what.startswith("tile"):
        return assembly.tile(symbol, int(what[4:]), finishes[rest])
    if what.startswith("expand"):
        return assembly.expand(symbol, int(what[6:]), rest == "s8")
    if what.startswith("strip"):
        return assembly.strip(symbol, int(what[5]), what[6:] == "odd", finishes[rest])
    if what.startswith("taps"):
        return assembly.taps(symbol, what == "tapss8", finishes[rest])
    return assembly.columns(symbol, rest == "s8")


def _portable(name: str, prefix: str) -> str:
    what, rest = _parts(name)
    kind = C_TYPES.get(rest, "")
    if what.startswith("tile"):
        return (
            f"void {name}(const int16_t *patch, const uint32_t *stream, void *y, const bw_tile_t *t)\n"
            f"{{\n    {prefix}_tile_{rest}({what[4:]}, patch, stream, y, t);\n}}\n"
        )
    if what.startswith("expand"):
        return (
            f"void {name}(int16_t *patch, const void *x, int32_t units)\n"
            f"{{\n    {prefix}_expand_{rest}({what[6:]}, patch, (const {kind} *)x, units);\n}}\n"
        )
    if what.startswith("strip"):
        return (
            f"void {name}(const int16_t *ring, const uint32_t *stream, void *y, const bw_strip_t *t)\n"
            f"{{\n    {prefix}_strip_{rest}({what[5]}, {int(what[6:] == 'odd')}, ring, stream, y, t);\n}}\n"
        )
    if what.startswith("taps"):
        return (
            f"void {name}(const void *const *taps, const uint32_t *stream, void *y, const bw_taps_t *t)\n"
            f"{{\n    {prefix}_taps_{rest}({int(what == 'tapss8')}, taps, stream, y, t);\n}}\n"
        )
    return (
        f"void {name}(int16_t *ring, const void *a, const void *b, int32_t columns, int32_t pitch_a, int32_t pitch_b)\n"
        f"{{\n    {prefix}_columns_{rest}(ring, (const {kind} *)a, (const {kind} *)b, columns, pitch_a, pitch_b);\n}}\n"
    )
