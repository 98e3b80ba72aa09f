"""The bit strip in a line of text: the same columns, levels and colors as on the page.

With colors a cell's height is how many values it holds and its color is where they lie.  Without, brackets stand where
the format begins and ends.  Where only ASCII can be shown, digits of ink stand for the heights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bitwright.view.axis import Axis, Cell, cells, lane, shared_axis
from bitwright.view.palette import INSIDE, OVER, UNDER
from bitwright.view.seen import TensorSeen
from bitwright.view.strip import state

BLOCKS = " ▁▂▃▄▅▆▇█"
INK = " .:-=+*#@"
EMPTY, EMPTY_ASCII = "·", " "
WIDEST, NARROW = 24, 16

Where = Literal["in", "over", "under", "lane", "none"]
STYLES: dict[Where, str] = {
    "in": INSIDE[2].dark,
    "over": OVER[2].dark,
    "under": UNDER[3].dark,
    "lane": "dim",
    "none": "",
}
"""Where a cell lies → its color, the ones for a dark ground: most terminals have one, and they are legible on both."""


class Piece(NamedTuple):
    """Some characters and where they lie."""

    text: str
    where: Where


@dataclass(frozen=True)
class Look:
    """What a terminal can show.

    Attributes:
        color: It shows colors.
        ascii: It shows nothing but ASCII.
    """

    color: bool = True
    ascii: bool = False

    @property
    def brackets(self) -> bool:
        """Whether the ends of the format are drawn: without color nothing else tells them."""
        return not self.color or self.ascii


def term_axis(tensors: Sequence[TensorSeen], room: int = 120) -> Axis:
    """The axis of strips on a screen of so many characters: at most ``WIDEST`` columns, on a narrow one ``NARROW``."""
    axis = shared_axis(tensors)
    most = WIDEST if room >= 100 else NARROW
    return Axis(axis.top, max(axis.bottom, axis.top - most + 1))


def axis_title(axis: Axis, look: Look) -> str:
    """The heading of a column of strips."""
    return f"Bits 2^{axis.top} {'..' if look.ascii else '…'} 2^{axis.bottom}, =0"


def pieces(tensor: TensorSeen, axis: Axis, look: Look, *, typed: bool = True) -> list[Piece]:
    """The strip, every one on an axis equally wide: columns, brackets where there are any, a space and the zeros.

    Args:
        tensor: What to show.
        axis: The columns.
        look: What the terminal can show.
        typed: Whether it has a format already; without one nothing lies outside.
    """
    drawn = {cell.column: cell for cell in (() if tensor.bits is None else cells(tensor.bits, axis))}
    zeros = 0 if tensor.bits is None else tensor.bits.zeros
    most = max([c.total for c in drawn.values()], default=0) or zeros
    held = lane(tensor, axis)
    brackets = look.brackets and typed
    found: list[Piece] = []
    for column in range(axis.columns):
        if brackets and held is not None and column == held[0]:
            found.append(Piece("[", "lane"))
        found.append(_cell(drawn.get(column), column, held, most, look))
        if brackets and held is not None and column == held[1]:
            found.append(Piece("]", "lane"))
    if brackets and held is None:
        found.append(Piece("  ", "none"))
    found += [Piece(" ", "none"), Piece(_bar(min(zeros, most), most, look), "in")]
    return found


def plain(tensor: TensorSeen, axis: Axis, look: Look, *, typed: bool = True) -> str:
    """The strip as text without styles."""
    return "".join(piece.text for piece in pieces(tensor, axis, look, typed=typed))


def _cell(cell: Cell | None, column: int, held: tuple[int, int] | None, most: int, look: Look) -> Piece:
    if cell is None:
        inside = held is not None and held[0] <= column <= held[1]
        if not inside or look.brackets:
            return Piece(" ", "none")
        return Piece(EMPTY_ASCII if look.ascii else EMPTY, "lane")
    return Piece(_bar(cell.total, most, look), _where(cell))


def _where(cell: Cell) -> Where:
    found = state(cell)
    return "over" if cell.over or found == "over" else "in" if found == "in" else "under"


def _bar(count: int, most: int, look: Look) -> str:
    """Its height from zero; what occurs is never invisible."""
    if not count:
        return " "
    signs = INK if look.ascii else BLOCKS
    return signs[max(1, round(8 * count / most))]
