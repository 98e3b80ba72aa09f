"""Two networks side by side: targets, schemes, or saved reports."""

from __future__ import annotations

from dataclasses import dataclass

from bitwright.errors import printable
from bitwright.view.axis import Axis, shared_axis
from bitwright.view.markup import TOLD, Content, Markup, breakable, tag
from bitwright.view.seen import Page, SideSeen, TensorSeen
from bitwright.view.strip import CELL, axis_marks, figure, strip
from bitwright.view.table import type_text

ENOUGH_DB = 60.0
"""Above it nothing shows in a network of 8 bits: 100 dB are no better than 60 where differences are ranked."""


@dataclass(frozen=True, kw_only=True)
class PairSeen:
    """One tensor in both.

    Attributes:
        a: As the first has it.
        b: As the second has it.
    """

    a: TensorSeen
    b: TensorSeen

    @property
    def changed(self) -> bool:
        """Whether the formats differ."""
        return self.a.type != self.b.type

    @property
    def gain_db(self) -> float | None:
        """By how much the second stores it better, what is beyond ``ENOUGH_DB`` left out; None if unknown."""
        levels = [ENOUGH_DB if t.lossless else t.sqnr_db for t in (self.a, self.b)]
        if levels[0] is None or levels[1] is None:
            return None
        return min(levels[1], ENOUGH_DB) - min(levels[0], ENOUGH_DB)


@dataclass(frozen=True, kw_only=True)
class PairsSeen:
    """Two networks.

    Attributes:
        a: The first.
        b: The second.
        rows: Tensors in both, the largest difference first, biases last.
        only_a: Tensors that only the first holds in integers.
        only_b: Tensors that only the second does.
        notes: What limits the comparison.
    """

    a: SideSeen
    b: SideSeen
    rows: tuple[PairSeen, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def pairs_seen(a: Page, b: Page) -> PairsSeen:
    """Compare two pages by their tensors' names."""
    of_a, of_b = ({t.name: t for t in page.tensors} for page in (a, b))
    rows = [PairSeen(a=of_a[name], b=of_b[name]) for name in of_a if name in of_b]
    notes = []
    if a.side.fingerprint != b.side.fingerprint:
        notes.append("These are different float networks; tensors are paired by name.")
    if not rows:
        notes.append("They have no tensor in common.")
    return PairsSeen(
        a=a.side,
        b=b.side,
        rows=tuple(sorted(rows, key=lambda r: (r.a.kind == "Bias", -_weight(r)))),
        only_a=tuple(name for name in of_a if name not in of_b),
        only_b=tuple(name for name in of_b if name not in of_a),
        notes=tuple(notes),
    )


def _weight(pair: PairSeen) -> float:
    """How high a tensor stands: by its difference, known or at least in format."""
    return (1e-9 if pair.changed else 0.0) if pair.gain_db is None else abs(pair.gain_db)


def pairs_table(found: PairsSeen, axis: Axis | None = None, *, first: int = 0, end: int | None = None) -> Markup:
    """A over B, strip over strip; changed types are bold.

    Args:
        found: The comparison.
        axis: Of the strips; by default the one that all tensors of both share.
        first: First row to draw.
        end: Row after the last one.
    """
    shown = axis or shared_axis([t for row in found.rows for t in (row.a, row.b)])
    names = (f"A {found.a.target}", f"B {found.b.target}")
    if names[0][2:] == names[1][2:]:
        names = (f"A {schemes_text(found.a)}", f"B {schemes_text(found.b)}")
    head = tag(
        "thead",
        tag(
            "tr",
            tag("th", "Tensor", scope="col"),
            tag("th", "Type", tag("div", " / ".join(names), class_="muted"), scope="col"),
            tag("th", "Bits", axis_marks(shown), scope="col", class_="c-bits"),
            tag("th", "Overflow %", scope="col", class_="number"),
            tag("th", "SQNR dB", scope="col", class_="number"),
            tag("th", "B − A, dB", scope="col", class_="number"),
        ),
    )
    rows = [_row(row, shown) for row in found.rows[first:end]]
    return tag("table", head, tag("tbody", *rows), class_="tensors pairs")


def schemes_text(side: SideSeen) -> str:
    """The schemes of a network in short."""
    return ", ".join(dict.fromkeys(name for _, name in side.schemes)) or side.name


def _row(row: PairSeen, axis: Axis) -> Markup:
    both = (row.a, row.b)
    types: list[Content] = [
        tag("div", type_text(t.type), class_=("changed" if k else None) if row.changed else "muted" if k else None)
        for k, t in enumerate(both)
    ]
    gain = row.gain_db
    shown = "" if gain is None or abs(gain) < 0.05 else f"{gain:+.1f}".replace("-", "−")
    return tag(
        "tr",
        tag("th", breakable(row.a.name, 60), scope="row", class_="name"),
        tag("td", *types, class_="both"),
        tag("td", *(strip(t, axis, cell=CELL) for t in both), class_="both bits"),
        tag("td", *(tag("div", figure(t.overflow)) for t in both), class_="both number"),
        tag("td", *(tag("div", decibel(t)) for t in both), class_="both number"),
        tag("td", tag("span", shown, class_="bad" if gain is not None and gain < -0.05 else None), class_="number"),
        data_tensor=printable(row.a.name, TOLD),
        data_kind=row.a.kind,
    )


def decibel(tensor: TensorSeen) -> str:
    """Signal to noise, ``∞`` where nothing is lost; empty if unknown."""
    return "∞" if tensor.lossless else "" if tensor.sqnr_db is None else f"{tensor.sqnr_db:.1f}"
