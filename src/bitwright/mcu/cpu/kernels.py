"""Which layers run on kernels for processors with vectors, how their constants are packed, and the text of those kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.mcu import runtime
from bitwright.mcu.arm.dsp import C_TYPES, Layer
from bitwright.mcu.cpu import vectors
from bitwright.mcu.cpu.cores import Family, family_of
from bitwright.mcu.cpu.vectors import FAMILIES, Kind

INT32 = 1 << 31
MOST_TAPS = 64
MOST_VECTORS = 8  # of one pixel: more do not hide the latency of sums any better
KINDS: tuple[Kind, ...] = ("shift", "single", "double", "float32_even", "float32_away")
ITEM_BYTES = {"int8_t": 1, "uint8_t": 1, "int16_t": 2}
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Finished:
    """From accumulators to integers.

    Attributes:
        kind: The requantizer.
    """

    kind: Kind

    @property
    def name(self) -> str:
        """For reports."""
        return self.kind


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorFast:
    """A layer on such a kernel.

    Attributes:
        family: Whose instructions.
        driver: C function that runs it.
        stream: Its packed constants.
        step: Bytes of a row of inputs.
        finish: From accumulators to integers.
        source: C suffix of the input type.
        offset: Zero point of the output.
        lo: Lowest output.
        hi: Highest output.
        pointers: The functions in its description: for many pixels, for one; and how many are many.
        scratch_bytes: Working memory.
        vectors: Vectors of channels in a block; 0 for depthwise layers.
        pixels: Of a tile.
        careful: Weights of -128 occur.
    """

    family: Family
    driver: str
    stream: NDArray[np.uint32]
    step: int
    finish: Finished
    source: str
    offset: int
    lo: int
    hi: int
    scratch_bytes: int
    vectors: int
    pixels: int
    careful: bool

    @property
    def description(self) -> str:
        """The C type of its description."""
        return "bw_cpu_conv_t"

    @property
    def pointers(self) -> tuple[str, ...]:
        """The last fields of its description."""
        many, one = (self.function(n) for n in (self.pixels, 1))
        return many, one, str(self.pixels)

    @property
    def functions(self) -> tuple[str, ...]:
        """The C functions that it calls."""
        return tuple(sorted({self.function(self.pixels), self.function(1)}))

    def function(self, pixels: int) -> str:
        """The function for so many pixels."""
        kind = self.finish.kind
        if not self.vectors:
            return f"bw_cpu_taps_{kind}_{self.source}"
        return f"bw_cpu_tile{pixels}x{self.vectors}{'w' if self.careful else ''}_{kind}"


def choose(core: str | None, layer: Layer) -> VectorFast | None:
    """A kernel for the layer, or None where the portable one must do.

    Args:
        core: Name of the core, one of ``cores/``.
        layer: The layer.
    """
    family = family_of(core)
    if family is None or layer.source not in ("s8", "u8") or layer.result not in ("s8", "u8"):
        return None
    kind = next((k for k in KINDS if k == layer.kind), None)
    outputs, inputs, high, wide = layer.weights.shape
    # A shift below 0 is one to the left, which only the portable text knows.
    if kind is None or (layer.shift.size and (layer.shift < 0).any()):
        return None
    if layer.groups == 1:
        return _conv(family, kind, layer)
    own = layer.groups == layer.in_c == outputs and inputs == 1 and outputs >= FAMILIES[family].depthwise
    return _depthwise(family, kind, layer) if own and high * wide <= MOST_TAPS else None


def _numbers(layer: Layer, bias: Ints, count: int, block: int) -> Ints:
    """Biases, multipliers, shifts: ``[3, count]``, filled up with zeros to a multiple of ``block``."""
    numbers = np.zeros((3, -(-count // block) * block), np.int64)
    numbers[0, :count] = bias
    numbers[1, :count] = layer.multiplier if layer.multiplier.size else 0
    numbers[2, :count] = layer.shift if layer.shift.size else 0
    if layer.kind == "single":
        numbers[2, count:] = 1  # half of a step must be a number
    return numbers


def _bytes(values: Ints, dtype: str) -> NDArray[np.uint8]:
    return np.ascontiguousarray((values & 0xFFFFFFFF).astype("<u4") if dtype == "<u4" else values.astype(dtype)).view(
        np.uint8
    )


def tiling(family: Family, outputs: int, pixels: int) -> tuple[int, int]:
    """Vectors in a block and pixels of a tile: what multiplies least beyond the last channel, and loads least.

    Args:
        family: Whose instructions.
        outputs: Channels.
        pixels: Of the output.
    """
    item = FAMILIES[family]
    if pixels == 1:
        most = min(MOST_VECTORS, -(-outputs // item.lanes)) if len(item.tiles) > 1 else 1
        return min(range(1, most + 1), key=lambda v: (-(-outputs // (item.lanes * v)) * v, -v)), 1
    cost = {
        v: -(-outputs // (item.lanes * v)) * v * (v * p + v + p) / (v * p) for v, p in item.tiles.items()
    }  # fmt: skip
    best = min(cost, key=lambda v: (cost[v], v))
    return best, min(item.tiles[best], pixels)


def _conv(family: Family, kind: Kind, layer: Layer) -> VectorFast | None:
    item = FAMILIES[family]
    outputs, inputs, high, wide = layer.weights.shape
    depth = high * wide * inputs
    added = item.offsets[layer.source]
    weights = layer.weights.astype(np.int64).transpose(0, 2, 3, 1).reshape(outputs, depth)
    bias = layer.bias - added * weights.sum(1)
    reach = np.abs(bias) + np.abs(weights).sum(1) * 255
    if int(reach.max(initial=0)) >= INT32:
        return None
    count, pixels = tiling(family, outputs, layer.out_size[0] * layer.out_size[1])
    block = item.lanes * count
    row = ITEM_BYTES[item.row]
    long = -(-depth * row // item.step) * item.step  # bytes of a row of inputs
    blocks = -(-outputs // block)
    filled = np.zeros((blocks * block, long // row), np.int64)
    filled[:outputs, :depth] = weights
    groups = filled.reshape(blocks, block, -1, item.group).transpose(0, 2, 1, 3)
    numbers = _numbers(layer, bias, outputs, block).reshape(3, blocks, block).transpose(1, 0, 2)
    parts = [_bytes(numbers, "<u4").reshape(blocks, -1), _bytes(groups, "i1").reshape(blocks, -1)]
    return VectorFast(
        family=family,
        driver=f"bw_cpu_conv_{layer.source}",
        stream=np.ascontiguousarray(np.concatenate(parts, axis=1)).ravel().view("<u4").astype(np.uint32),
        step=long,
        finish=Finished(kind),
        source=layer.source,
        offset=layer.zero,
        lo=layer.lo,
        hi=layer.hi,
        scratch_bytes=pixels * long,
        vectors=count,
        pixels=pixels,
        careful=family == "neon" and bool((layer.weights == -128).any()),
    )


def _depthwise(family: Family, kind: Kind, layer: Layer) -> VectorFast:
    channels = len(layer.weights)
    taps = layer.weights[:, 0].astype(np.int64).reshape(channels, -1).T
    parts = [_bytes(_numbers(layer, layer.bias, channels, 1), "<u4").ravel(), _bytes(taps, "<i2").ravel()]
    raw = np.concatenate(parts)
    return VectorFast(
        family=family,
        driver=f"bw_cpu_depthwise_{layer.source}",
        stream=np.pad(raw, (0, -len(raw) % 4)).view("<u4").astype(np.uint32),
        step=1,
        finish=Finished(kind),
        source=layer.source,
        offset=layer.zero,
        lo=layer.lo,
        hi=layer.hi,
        scratch_bytes=-(-layer.in_c // 4) * 4,
        vectors=0,
        pixels=1,
        careful=False,
    )


# Text


@cache
def text(name: str) -> str:
    """A file of this folder."""
    return (resources.files("bitwright.mcu.cpu") / name).read_text("utf-8")


def declarations(used: list[VectorFast], prefix: str) -> str:
    """For the header that the network's own files share."""
    drivers = sorted({fast.driver for fast in used})
    names = sorted({name for fast in used for name in fast.functions})
    lines = [text("bytes.h")]
    lines += [f"#define {name} {prefix}_{name}" for name in (*drivers, *names)]
    lines += [f"void {name}(const bw_cpu_conv_t *d, const void *x, void *y, void *scratch);" for name in drivers]
    return "\n".join([*lines, *(f"bw_cpu_fn {name};" for name in names), ""])


def definitions(used: list[VectorFast], prefix: str, fill_in: Any) -> str:
    """For the file of kernels: inner loops, what stands for them on other machines, and drivers."""
    family = used[0].family
    item = FAMILIES[family]
    kinds = [kind for kind in KINDS if any(fast.finish.kind == kind for fast in used)]
    functions: dict[str, tuple[VectorFast, int]] = {}
    for fast in used:
        for pixels in (fast.pixels, 1):
            functions[fast.function(pixels)] = fast, pixels
    tiles = any(fast.vectors for fast in used)
    out = [f"#if {item.guard}", f"#include <{item.include}>", ""]
    out.append(vectors.helpers(family, prefix, kinds, dot=tiles and family in ("vnni", "avx512-vnni")))
    for name, (fast, pixels) in sorted(functions.items()):
        out.append(_vector_text(name, fast, pixels, prefix))
    out.append("#else")
    for kind in kinds:
        filled = {"PREFIX": prefix, "KIND": kind, "SCALE": SCALES[kind]}
        out.append(fill_in(text("portable_finish.c"), filled))
        here = {"tile" if fast.vectors else "taps" for fast in used if fast.finish.kind == kind}
        out += [fill_in(text(f"portable_{what}.c"), filled) for what in sorted(here)]
    for name, (fast, pixels) in sorted(functions.items()):
        out.append(_portable_text(name, fast, pixels, prefix))
    out.append("#endif\n")
    most = max(fast.pixels for fast in used)
    for driver in sorted({fast.driver for fast in used}):
        source = driver.rsplit("_", 1)[1]
        added = item.offsets[source]
        values: Mapping[str, str] = {
            "PREFIX": prefix,
            "SUFFIX": source,
            "IN": C_TYPES[source],
            "ROW": item.row,
            "FLIP": f" {'+' if added > 0 else '-'} {abs(added)}" if added else "",
            "STEP": str(item.step),
            "MOST": str(most if "conv" in driver else MOST_TAPS),
            "DRIVER": f"{prefix}_{driver}",
            "DESCRIPTION": "bw_cpu_depthwise_t",
            "SHAPE": "bw_cpu_t",
            "CALL": "d->one(taps, k->weights, &out, &t)",
        }
        out.append(fill_in(text("conv.c") if "conv" in driver else runtime.text("taps.c"), values))
    return "\n".join(out)


def _vector_text(name: str, fast: VectorFast, pixels: int, prefix: str) -> str:
    kind = fast.finish.kind
    if not fast.vectors:
        return vectors.depthwise(name, fast.family, prefix, kind, fast.source)
    return vectors.tile(name, fast.family, prefix, kind, pixels, fast.vectors, careful=fast.careful)


SCALES: Mapping[Kind, str] = {
    "shift": "    (void)multiplier;\n    acc = bw_requant_shift(acc, shift);",
    "single": "    acc = bw_requant_single(acc, multiplier, shift);",
    "double": "    acc = bw_requant_double(acc, multiplier, shift);",
    "float32_even": "    (void)shift;\n    acc = (int32_t)rintf((float)acc * bw_float_of(multiplier));",
    "float32_away": "    (void)shift;\n    acc = (int32_t)roundf((float)acc * bw_float_of(multiplier));",
}


def _portable_text(name: str, fast: VectorFast, pixels: int, prefix: str) -> str:
    item, kind = FAMILIES[fast.family], fast.finish.kind
    head = (
        f"void {name}(const void *const *rows, const void *stream, unsigned char *const *out, const bw_cpu_t *t)\n{{\n"
    )
    if not fast.vectors:
        return f"{head}    {prefix}_taps_{kind}(rows, stream, out[0], t, {int(fast.source == 's8')});\n}}\n"
    block, fold = item.lanes * fast.vectors, item.step // ITEM_BYTES[item.row] // item.group
    return (
        f"{head}    for (int32_t p = 0; p < {pixels}; p++) {{\n"
        f"        {prefix}_tile_{kind}(rows[p], stream, out[p], t, {block}, {item.group}, {fold}, "
        f"{ROWS[item.row]});\n    }}\n}}\n"
    )


ROWS = {"int8_t": 0, "uint8_t": 1, "int16_t": 2}


def uses_float32(used: list[VectorFast]) -> bool:
    """Whether one of them requantizes in single precision."""
    return any(fast.finish.kind.startswith("float32") for fast in used)


def code_bytes(used: list[VectorFast]) -> int:
    """A rough size of their code: eight bytes an instruction, one instruction a line."""
    functions = {fast.function(n): (fast, n) for fast in used for n in (fast.pixels, 1)}
    lines = sum(_vector_text(name, fast, n, "p").count("\n") for name, (fast, n) in functions.items())
    return 900 * len({fast.driver for fast in used}) + 8 * lines
