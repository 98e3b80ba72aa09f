"""The bit strip: a tensor's values by their most significant bit, on the axis that all tensors share.

Blue lies inside the format, vermillion beyond its range, gray below its step; a pale lane is what the format could hold,
a gray one what it cannot.  Zeros have no significant bit and stand in a cell of their own at the right.
"""

from __future__ import annotations

from bitwright.view.axis import Axis, Cell, cells, lane, level
from bitwright.view.drawing import block, power, svg, words
from bitwright.view.markup import Markup
from bitwright.view.seen import TensorSeen

CELL, HEIGHT, GAP = 7, 14, 6
"""Width and height of a cell and the gap before the zeros, in pixels."""


def strip_width(axis: Axis, cell: int = CELL) -> int:
    """Pixels that every strip on ``axis`` is wide."""
    return axis.columns * cell + GAP + cell


def strip(tensor: TensorSeen, axis: Axis, *, cell: int = CELL, height: int = HEIGHT) -> Markup:
    """The strip of one tensor."""
    width = axis.columns * cell
    zeros_at = width + GAP
    boxes: dict[str, list[tuple[float, float, float, float]]] = {}

    def add(token: str, x: float, y: float, w: float, h: float) -> None:
        boxes.setdefault(token, []).append((x, y, w, h))

    held = lane(tensor, axis)
    add("none", 0, 0, width, height)
    add("none", zeros_at, 0, cell, height)
    if held is not None:
        add("lane", held[0] * cell, 0, (held[1] - held[0] + 1) * cell, height)
    drawn = () if tensor.bits is None else cells(tensor.bits, axis)
    zeros = 0 if tensor.bits is None else tensor.bits.zeros
    most = max([c.total for c in drawn], default=0)  # zeros, which are half of many tensors, would pale all the rest
    for one in drawn:
        x, w = one.column * cell, cell - 1
        token = f"{state(one)}{level(one.total, most)}"
        add(token, x, 0, w, height)
        if one.over and not token.startswith("over"):  # the range ends inside this column
            add(f"over{max(3, level(one.over, most))}", x, 0, w, height * 0.4)
    if zeros:
        add(f"in{level(zeros, max(most, zeros))}", zeros_at, 0, cell, height)
    shapes = [block(found, token) for token, found in boxes.items()]
    return svg(strip_width(axis, cell), height, *shapes, label=told(tensor), class_="strip")


def state(cell: Cell) -> str:
    """What most of a cell's values are: ``in``, ``over`` or ``under``."""
    most = max(cell.inside, cell.over, cell.under)
    return "over" if cell.over == most else "in" if cell.inside == most else "under"


def told(tensor: TensorSeen) -> str:
    """The strip in words, for those who hear it."""
    if tensor.bits is None:
        return f"{tensor.type.text}; its values are not known"
    over = "" if tensor.overflow is None else f", {percent(tensor.overflow)} overflow"
    under = "" if tensor.underflow is None else f", {percent(tensor.underflow)} underflow"
    zeros = f", {percent(tensor.bits.zeros / tensor.bits.count)} zero" if tensor.bits.zeros else ""
    where = f"2^{tensor.type.top} to 2^{tensor.type.bottom}"
    return f"{tensor.type.text} holds {where}{over}{under}{zeros}"


def percent(share: float) -> str:
    """A share in percent: ``0 %``, ``<0.1 %``, ``5.3 %``."""
    return f"{figure(share)} %"


def figure(share: float | None) -> str:
    """The number of that alone; empty if unknown."""
    if share is None:
        return ""
    return "0" if share == 0 else "<0.1" if share < 0.0005 else f"{100 * share:.1f}"


def axis_marks(axis: Axis, *, cell: int = CELL) -> Markup:
    """The labels above the strips: a power of two every four columns, and ``=0`` over the zeros."""
    marks = []
    for exponent in axis.powers():
        if axis.column(exponent) > axis.columns - 2:  # it would run into the mark of the zeros
            continue
        x = axis.column(exponent) * cell + (cell - 1) / 2
        marks.append(words(x, 9, power(exponent), size=9, text_anchor="middle"))
    marks.append(words(axis.columns * cell + GAP + cell / 2, 9, "=0", size=9, text_anchor="middle"))
    return svg(strip_width(axis, cell), 12, *marks, class_="axis")
