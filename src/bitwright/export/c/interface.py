"""The functions around the network: from pixels or floats to integers, from integers to floats, the best classes.

Pixels go through tables that hold, for each of the 256 values, what the input contract and the input's format make of
it in Python; so the board sees the numbers that were measured, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitwright.data.contract import InputContract
from bitwright.export.c import picture
from bitwright.export.c.constants import Constants
from bitwright.export.c.layout import Layout
from bitwright.export.c.loops import Dimension, index, nest
from bitwright.export.c.names import type_of
from bitwright.export.c.pattern import fold
from bitwright.number.format import Rounding
from bitwright.program.program import Buffer, Program


@dataclass(frozen=True)
class Helper:
    """A function of the interface.

    Attributes:
        prototype: Its declaration without the semicolon.
        comment: What it does, for the header; plain text of ours.
        body: Its lines.
        support: A function of the file that it calls.
    """

    prototype: str
    comment: str
    body: tuple[str, ...]
    support: str = ""

    @property
    def definition(self) -> str:
        """The C text."""
        return "\n".join([*([self.support] if self.support else []), self.prototype, "{", *self.body, "}"])


def copy_loop(to: NDArray[np.int64], source: NDArray[np.int64], lines: Sequence[str]) -> list[str]:
    """Loops around ``lines``, in which ``@t`` and ``@s`` stand for the places written and read; regular copies only."""
    pattern = fold(to, source)
    loops = [Dimension(loop.count, (loop.to, loop.source)) for loop in pattern.loops]
    if pattern.starts is not None:
        raise ValueError("this copy needs a table of starts")
    counters = [f"i{n}" for n in range(len(loops))]
    t = index(counters, [d.strides[0] for d in loops], pattern.to)
    s = index(counters, [d.strides[1] for d in loops], pattern.source)
    return nest(loops, [line.replace("@t", t).replace("@s", s) for line in lines])


def real(value: float) -> str:
    """A double as a C constant with all its digits."""
    text = repr(float(value))
    return text if any(c in text for c in ".einf") else f"{text}.0"


ROUND_LINES = {
    Rounding.HALF_AWAY: "whole = magnitude - whole >= 0.5 ? whole + 1.0 : whole;",
    Rounding.HALF_UP: "whole = (v < 0.0 ? magnitude - whole > 0.5 : magnitude - whole >= 0.5) ? whole + 1.0 : whole;",
    Rounding.TOWARD_ZERO: "",
    Rounding.FLOOR: "whole = v < 0.0 && magnitude > whole ? whole + 1.0 : whole;",
    Rounding.HALF_EVEN: (
        "whole = magnitude - whole > 0.5 || (magnitude - whole == 0.5 && fmod(whole, 2.0) == 1.0) ? whole + 1.0 : whole;"
    ),
}


def quantize_float(prefix: str, suffix: str, buffer: Buffer, layout: Layout, rounding: Rounding) -> Helper:
    """Real numbers in the network's own order → the integers that the network reads, in theirs."""
    kind, form = type_of(buffer.format.dtype), buffer.format
    scale, zero = real(float(form.scale)), int(form.zero_point)
    line = ROUND_LINES[rounding]
    inner = [
        "const double v = (double)x[@s] / " + scale + ";",
        "double magnitude = fabs(v), whole = floor(magnitude);",
        *([line] if line else []),
        f"whole = (v < 0.0 ? -whole : whole) + {real(zero)};",
        "if (!(v == v)) {",
        "    bad = -1;",
        f"    whole = {real(zero)};",
        "}",
        f"q[@t] = ({kind})(whole < {real(form.lo)} ? {real(form.lo)} : whole > {real(form.hi)} ? {real(form.hi)} : whole);",
    ]
    body = ["    int bad = 0;", *copy_loop(np.arange(buffer.size), layout.positions, inner), "    return bad;"]
    return Helper(
        f"int {prefix}_quantize_input{suffix}_f32(const float *x, {kind} *q)",
        "Real numbers, in the order of the network's own input, to integers; -1 if one is no number (taken as 0).",
        tuple(body),
    )


def dequantize(prefix: str, suffix: str, buffer: Buffer, layout: Layout) -> Helper:
    """Integers of an output → real numbers in the network's own order."""
    kind, form = type_of(buffer.format.dtype), buffer.format
    line = f"y[@t] = (float)({real(float(form.scale))} * (double)((int64_t)q[@s] - ({int(form.zero_point)})));"
    return Helper(
        f"void {prefix}_dequantize_output{suffix}(const {kind} *q, float *y)",
        "Integers of the output to real numbers in the order of the network's own output.",
        tuple(copy_loop(layout.positions, np.arange(buffer.size), [line])),
    )


def quantize_pixels(
    prefix: str, suffix: str, buffer: Buffer, layout: Layout, contract: InputContract, rounding: Rounding,
    constants: Constants,
) -> Helper | None:  # fmt: skip
    """Bytes of an image → the integers that the network reads, or None where the contract is not about pixels."""
    shape = buffer.shape[1:]
    if contract.layout == "raw" or len(shape) != 3 or buffer.shape[0] != 1:
        return None
    channels, height, width = shape if contract.layout == "NCHW" else (shape[2], shape[0], shape[1])
    tables = pixel_tables(buffer, contract, rounding, channels)
    if tables is None:
        return None
    logical = np.arange(buffer.size).reshape(shape)
    planes = logical if contract.layout == "NCHW" else logical.transpose(2, 0, 1)
    place = np.empty(buffer.size, np.int64)
    place[layout.positions] = np.arange(buffer.size)
    pixel = np.arange(height * width) * channels
    body: list[str] = []
    same = all(np.array_equal(t, tables[0]) for t in tables)
    order = list(range(channels))[::-1] if contract.color == "BGR" and channels == 3 else list(range(channels))
    if same:
        table = constants.add("input", "table", "pixels", tables[0])
        sources = np.stack([pixel + order[c] for c in range(channels)])
        to = place[planes.reshape(channels, -1)]
        sort = np.argsort(to.ravel())
        body += copy_loop(to.ravel()[sort], sources.ravel()[sort], [f"q[@t] = {table}[pixels[@s]];"])
    else:
        for c in range(channels):
            table = constants.add("input", "table", f"pixels{c}", tables[c])
            body += copy_loop(place[planes[c].ravel()], pixel + order[c], [f"q[@t] = {table}[pixels[@s]];"])
    kind = type_of(buffer.format.dtype)
    meaning = {1: "gray values", 3: "red, green, blue"}.get(channels, f"{channels} channels")
    return Helper(
        f"void {prefix}_quantize_pixels{suffix}(const uint8_t *pixels, {kind} *q)",
        f"{height} rows of {width} pixels, {meaning}, 8 bits each, to the integers of the input: color order, mean, "
        "std and format in one table look-up.",
        tuple(body),
    )


def quantize_image(
    prefix: str, suffix: str, buffer: Buffer, layout: Layout, contract: InputContract, rounding: Rounding,
    constants: Constants,
) -> Helper | None:  # fmt: skip
    """A picture of any size → the integers that the network reads, or None where the contract does not resize or crop."""
    shape = buffer.shape[1:]
    if (contract.resize is None and contract.crop is None) or len(shape) != 3 or layout.order is None:
        return None
    first = contract.layout == "NCHW"
    channels, height, width = shape if first else (shape[2], shape[0], shape[1])
    tables = pixel_tables(buffer, contract, rounding, channels)
    if tables is None or buffer.shape[0] != 1:
        return None
    c, y, x = layout.strides[1:] if first else (layout.strides[3], *layout.strides[1:3])
    order = list(range(channels))[::-1] if contract.color == "BGR" and channels == 3 else list(range(channels))
    kind = type_of(buffer.format.dtype)
    what = [f"resized to {contract.resize}" if isinstance(contract.resize, int) else ""]
    what += [f"resized to {contract.resize[0]}x{contract.resize[1]}" if isinstance(contract.resize, tuple) else ""]
    what += ["its center cut out" if contract.crop is not None else ""]
    return Helper(
        picture.prototype(prefix, suffix, kind),
        f"A picture of any size (rows of pixels of {channels} bytes each), {', '.join(w for w in what if w)}, to the "
        "integers of the input, as they were measured; -1 if it is too small or too large.",
        tuple(
            picture.body(
                (height, width),
                contract.resize,
                contract.crop is not None,
                [constants.add("input", "table", f"pixels{i}", table) for i, table in enumerate(tables)],
                order,
                [f"{i * c} + y * {y} + x * {x}" for i in range(channels)],
            )
        ),
        picture.support().rstrip(),
    )


def pixel_tables(
    buffer: Buffer, contract: InputContract, rounding: Rounding, channels: int
) -> list[NDArray[np.integer]] | None:
    """For each channel of the network the integer of each of the 256 pixel values."""
    listed = max(len(contract.mean), len(contract.std))
    if listed not in (1, channels):
        return None
    values = np.arange(256, dtype=np.float32)
    mean = np.broadcast_to(np.array(contract.mean, np.float32), (channels,))
    scale = np.broadcast_to(contract.scale, (channels,))
    tables = []
    for c in range(channels):
        # The very operations of data/transform.normalize.
        x = (values - mean[c]) * scale[c] if contract.normalizes else values
        tables.append(buffer.format.quantize(x, rounding))
    return tables


def top_k(prefix: str, suffix: str, buffer: Buffer) -> Helper:
    """The largest scores of an output."""
    kind, count = type_of(buffer.format.dtype), buffer.size
    body = f"""\
    int32_t found = 0;
    for (; found < k && found < {count}; found++) {{
        int32_t best = -1;
        for (int32_t i = 0; i < {count}; i++) {{
            int taken = 0;
            for (int32_t j = 0; j < found; j++) {{
                taken |= classes[j] == i;
            }}
            if (!taken && (best < 0 || q[i] > q[best])) {{
                best = i;
            }}
        }}
        classes[found] = best;
    }}
    return found;"""
    return Helper(
        f"int32_t {prefix}_top_k{suffix}(const {kind} *q, int32_t k, int32_t *classes)",
        "Positions of the k largest values, the largest first, the first of equals first; returns how many.",
        tuple(body.split("\n")),
    )


def helpers(
    program: Program, layouts: dict[str, Layout], prefix: str, contract: InputContract | None, constants: Constants
) -> list[Helper]:
    """All functions of the interface, in the order of the header."""
    made: list[Helper] = []
    for i, name in enumerate(program.inputs):
        suffix = "" if len(program.inputs) == 1 else str(i)
        buffer, layout = program.buffers[name], layouts[name]
        if contract is not None and (len(program.inputs) == 1 or contract.name == name):
            pixels = quantize_pixels(prefix, suffix, buffer, layout, contract, program.input_rounding, constants)
            image = quantize_image(prefix, suffix, buffer, layout, contract, program.input_rounding, constants)
            made += [helper for helper in (pixels, image) if helper is not None]
        if layout.order is not None and buffer.format.bits <= 32:
            made.append(quantize_float(prefix, suffix, buffer, layout, program.input_rounding))
    for i, name in enumerate(program.outputs):
        suffix = "" if len(program.outputs) == 1 else str(i)
        buffer, layout = program.buffers[name], layouts[name]
        made.append(dequantize(prefix, suffix, buffer, layout))
        if contract is not None and contract.task == "classification":
            made.append(top_k(prefix, suffix, buffer))
    return made
