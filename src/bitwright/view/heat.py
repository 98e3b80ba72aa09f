"""The heat map of one tensor: a row for each channel, a column for each power of two."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitwright.view.axis import Axis, level
from bitwright.view.drawing import line, power, svg, words
from bitwright.view.markup import Markup, tag
from bitwright.view.palette import INSIDE, OVER, UNDER

if TYPE_CHECKING:
    from bitwright.quantized import Quantized

COLUMN, TALLEST, ROW, FOOT = 8, 480, 10, 14
EMPTY = (0, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class HeatSeen:
    """A tensor channel by channel.

    Attributes:
        tensor: Its name.
        axis: The columns.
        order: The channels in the order of the rows, the widest first.
        rows: For each row and column a level: 0 is empty, 1 to 5 inside the format, 6 to 10 beyond its range, 11 to 15
            below its step.
    """

    tensor: str
    axis: Axis
    order: tuple[int, ...]
    rows: tuple[tuple[int, ...], ...]


def heat_seen(q: Quantized, tensor: str, axis: Axis | None = None) -> HeatSeen | None:
    """The channels of the weights ``LAYER.Weights``; None if there is no such tensor or its numbers are not at hand.

    Args:
        q: The quantized network.
        tensor: Name of the tensor.
        axis: The columns; by default those that the tensor fills.
    """
    return next(iter(heats_seen(q, [tensor], axis)), None)


def heats_seen(q: Quantized, tensors: Sequence[str], axis: Axis | None = None) -> tuple[HeatSeen, ...]:
    """The channels of several weights, those left out whose numbers are not at hand."""
    import numpy as np

    from bitwright.calibrate.spec import read_layers

    if not tensors:
        return ()
    items = {f"{one.layer}.{one.parameter}": one for one in q.program.learnables if one.parameter == "Weights"}
    specs = {spec.name: spec for spec in read_layers(q.lowered_network, q.target).layers if spec.is_linear}
    found = []
    for tensor in tensors:
        item = items.get(tensor)
        if item is None or item.layer not in specs:
            continue
        values = np.asarray(specs[item.layer].weights(), np.float64)
        if not values.size:
            continue
        seen = channels_seen(tensor, values.reshape(len(values), -1), item.format, axis)
        if seen is not None:
            found.append(seen)
    return tuple(found)


def channels_seen(tensor: str, values: object, format: object, axis: Axis | None = None) -> HeatSeen | None:
    """The channels of constants ``[channels, values]`` in a format for the whole tensor or one per channel."""
    import numpy as np

    from bitwright.number.format import Format
    from bitwright.view.tensors import bits_of_values

    assert isinstance(values, np.ndarray)
    assert isinstance(format, Format)
    found = []
    for channel, row in enumerate(values):
        own = format
        if format.axis is not None:
            own = Format(
                format.bits, format.signed, format.scale[channel], format.zero_point[channel], narrow=format.narrow
            )
        bits = bits_of_values(row, own)
        found.append(((), 0) if bits is None else (bits.columns, bits.top))
    if axis is None:
        tops = [top for columns, top in found if columns]
        if not tops:
            return None
        ends = [top - len(columns) + 1 for columns, top in found if columns]
        axis = Axis(max(tops), max(min(ends), max(tops) - 23))
    rows = []
    for columns, top in found:
        sums = [[0, 0, 0] for _ in range(axis.columns)]
        for k, parts in enumerate(columns):
            cell = sums[axis.column(top - k)]
            for j, part in enumerate(parts):
                cell[j] += part
        most = max(sum(cell) for cell in sums)
        rows.append(tuple(_level(cell, most) for cell in sums))
    widest = sorted(range(len(rows)), key=lambda c: (-_reach(found[c]), c))
    return HeatSeen(tensor=tensor, axis=axis, order=tuple(widest), rows=tuple(rows[c] for c in widest))


def _reach(channel: tuple[Sequence[tuple[int, int, int]], int]) -> int:
    columns, top = channel
    return top - next((k for k, parts in enumerate(columns) if any(parts)), 1000) if columns else -1000


def _level(cell: Sequence[int], most: int) -> int:
    total = sum(cell)
    if not total:
        return 0
    return level(total, most) + (5 if cell[1] == max(cell) else 0 if cell[0] == max(cell) else 10)


def heat(seen: HeatSeen, *, column: int = COLUMN) -> Markup:
    """The drawing: a small indexed PNG, for thousands of channels fit in no table."""
    rows = len(seen.rows)
    height = min(TALLEST, max(rows * ROW, 24))
    width = seen.axis.columns * column
    picture = "data:image/png;base64," + base64.b64encode(png(seen.rows)).decode()
    words_ = f"{rows} channels of the tensor, the widest at the top, by powers of two from 2^{seen.axis.top} to 2^{seen.axis.bottom}"
    image = tag("img", src=picture, width=width, height=height, alt=words_, class_="heat")
    marks = [
        words(seen.axis.column(p) * column + column / 2, 10, power(p), size=9, text_anchor="middle")
        for p in seen.axis.powers()
    ]
    ticks = [
        line([(seen.axis.column(p) * column + column / 2, 12), (seen.axis.column(p) * column + column / 2, 14)], "rule")
        for p in seen.axis.powers()
    ]
    axis = svg(width, FOOT, *marks, *ticks, class_="axis")
    return tag("div", axis, image, class_="heatmap")


def png(rows: Sequence[Sequence[int]]) -> bytes:
    """An indexed PNG, a pixel for each level; level 0 is transparent."""
    colors = [EMPTY[:3], *(_rgb(c.light) for ramp in (INSIDE, OVER, UNDER) for c in ramp)]
    palette = b"".join(bytes(color) for color in colors)
    width, height = len(rows[0]) if rows else 1, len(rows) or 1
    lines = b"".join(b"\x00" + bytes(row) for row in rows) or b"\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        + _chunk(b"PLTE", palette)
        + _chunk(b"tRNS", b"\x00")
        + _chunk(b"IDAT", zlib.compress(lines, 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
