"""The histogram of one tensor, with its format as a bracket."""

from __future__ import annotations

from bitwright.view.axis import Axis, cells, lane
from bitwright.view.drawing import block, line, power, rect, short, svg, words
from bitwright.view.markup import Markup, tag
from bitwright.view.palette import light
from bitwright.view.seen import TensorSeen
from bitwright.view.strip import GAP, told

COLUMN, HEIGHT, FOOT = 12, 120, 16


def bars_width(axis: Axis, column: int = COLUMN) -> int:
    """Pixels that the histogram is wide."""
    return axis.columns * column + GAP + column


def bars(tensor: TensorSeen, axis: Axis, *, column: int = COLUMN, height: int = HEIGHT) -> Markup:
    """Values per power of two; the bracket, a group of class ``bracket``, says from where to where the format reaches.

    Its ``data-top`` and ``data-bottom`` are the powers at its ends, ``data-cell`` is the width of a column.
    """
    width = axis.columns * column
    drawn = () if tensor.bits is None else cells(tensor.bits, axis)
    zeros = 0 if tensor.bits is None else tensor.bits.zeros
    most = max([c.total for c in drawn], default=0) or max(zeros, 1)
    boxes: dict[str, list[tuple[float, float, float, float]]] = {}
    for one in drawn:
        foot = float(height)
        for token, count in (("under3", one.under), ("in4", one.inside), ("over3", one.over)):
            if count:
                tall = max(1.5, (height - 6) * count / most)
                foot -= tall
                boxes.setdefault(token, []).append((one.column * column + 1, foot, column - 2, tall))
    if zeros:
        tall = max(1.5, (height - 6) * min(zeros / most, 1))  # cut off where there are more than fit
        boxes.setdefault("in2", []).append((width + GAP + 1, height - tall, column - 2, tall))
    ground = [rect(0, 0, width, height, "none"), rect(width + GAP, 0, column, height, "none")]
    held = lane(tensor, axis)
    if held is not None:
        ground.append(rect(held[0] * column, 0, (held[1] - held[0] + 1) * column, height, "lane"))
    shapes = [block(found, token) for token, found in boxes.items()]
    marks = [
        words(axis.column(p) * column + column / 2, height + 12, power(p), text_anchor="middle") for p in axis.powers()
    ]
    marks.append(words(width + GAP + column / 2, height + 12, "=0", text_anchor="middle"))
    return svg(
        bars_width(axis, column), height + FOOT, *ground, *shapes, _bracket(tensor, axis, column, height), *marks,
        label=f"Histogram: {told(tensor)}", class_="bars",
    )  # fmt: skip


def _bracket(tensor: TensorSeen, axis: Axis, column: int, height: int) -> Markup | None:
    """The outline of the format; open where it reaches beyond the axis."""
    held = lane(tensor, axis)
    if held is None:
        return None
    left, right = held[0] * column + 1, (held[1] + 1) * column - 1
    arms = [line([(left, 1), (right, 1)], "accent", 2), line([(left, height - 1), (right, height - 1)], "accent", 2)]
    if tensor.type.top <= axis.top:
        arms.append(line([(left, 0), (left, height)], "accent", 2, data_side="top"))
    if tensor.type.bottom >= axis.bottom:
        arms.append(line([(right, 0), (right, height)], "accent", 2, data_side="bottom"))
    return tag(
        "g", *arms, class_="bracket", data_top=tensor.type.top, data_bottom=tensor.type.bottom,
        data_axis_top=axis.top, data_cell=short(column), stroke=light("accent"),
    )  # fmt: skip
