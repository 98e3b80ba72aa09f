"""Bit strips on the screen: what the terminal can show, and tables of tensors with their strips."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bitwright.commands import screen

if TYPE_CHECKING:
    from rich.text import Text

    from bitwright.view.axis import Axis
    from bitwright.view.seen import TensorSeen
    from bitwright.view.term import Look

POOR_DB = 20.0


def look() -> Look:
    """What the terminal can show: colors (``NO_COLOR`` says no), and more than ASCII."""
    from bitwright.view.term import Look

    console = screen.out()
    color = console.color_system is not None and not console.no_color
    return Look(color=color, ascii=console.options.ascii_only)


def strip_text(tensor: TensorSeen, axis: Axis, *, typed: bool = True) -> Text:
    """The strip of one tensor, for a cell of a table."""
    from bitwright.view.term import STYLES, pieces

    return screen.line(*((piece.text, STYLES[piece.where]) for piece in pieces(tensor, axis, look(), typed=typed)))


def tensor_table(tensors: Sequence[TensorSeen], *, title: str) -> None:
    """Tensors with format, range, strips on one axis, and losses."""
    from bitwright.view.term import axis_title, term_axis

    axis = term_axis(list(tensors), screen.out().width)
    screen.table(
        (
            screen.Column(title, shrinks=True),
            screen.Column("Format", style="cyan"),
            screen.Column("Min", right=True, drop=4),
            screen.Column("Max", right=True, drop=4),
            screen.Column(axis_title(axis, look()), drop=1),
            screen.Column("Over %", right=True, drop=3),
            screen.Column("Under %", right=True, drop=2),
            screen.Column("SQNR dB", right=True),
        ),
        [_cells(tensor, axis) for tensor in tensors],
    )


def _cells(tensor: TensorSeen, axis: Axis) -> list[Any]:
    sqnr = tensor.sqnr_db
    shown = "∞" if tensor.lossless else "" if sqnr is None else f"{sqnr:.1f}"
    return [
        screen.safe(tensor.name),
        short(tensor.type.text),
        "" if tensor.min is None else screen.number(tensor.min),
        "" if tensor.max is None else screen.number(tensor.max),
        strip_text(tensor, axis),
        percent(tensor.overflow),
        percent(tensor.underflow),
        screen.text(shown, "bold yellow" if sqnr is not None and sqnr < POOR_DB else ""),
    ]


def short(format: str) -> str:
    """A format's text in three significant digits, without what the column says already."""
    digits = re.sub(r"\d+\.\d+(e[-+]?\d+)?", lambda found: f"{float(found[0]):.3g}", format)
    return digits.replace(" per channel", " /ch").replace(" (zero point ", " zp ").replace(")", "")


def percent(share: float | None) -> str:
    """A share in percent; empty if unknown."""
    if share is None:
        return ""
    return "0" if share == 0 else "<0.1" if share < 0.0005 else f"{100 * share:.1f}"
