"""A calibration in pictures: every tensor's values on one axis, before any format was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bitwright.view.axis import Axis, shared_axis
from bitwright.view.markup import Markup, breakable, tag
from bitwright.view.seen import BitsSeen, Kind, TensorSeen, TypeSeen
from bitwright.view.strip import axis_marks, strip
from bitwright.view.table import number

if TYPE_CHECKING:
    from bitwright.api import Calibration

ANYTHING = TypeSeen(text="float", bits=32, signed=True, top=127, bottom=-149, step=0.0, low=-3.4e38, high=3.4e38)
"""The format of what has none yet: float32 holds every column."""


def observed_tensor(row: Mapping[str, Any]) -> TensorSeen:
    """A row of the calibration table, drawn as a tensor in float."""
    counts = {int(power): int(n) for power, n in row["msb_counts"].items() if n}
    kind: Kind = row["kind"]
    bits = None
    if counts or row["zeros"]:
        top = max(counts, default=0)
        inside = tuple(counts.get(p, 0) for p in range(top, min(counts, default=1) - 1, -1))
        bits = BitsSeen(top=top, inside=inside, zeros=int(row["zeros"]))
    return TensorSeen(
        name=str(row["optimized_layer"]), layer="", kind=kind, type=ANYTHING, min=row["min"], max=row["max"], bits=bits
    )


def observed_tensors(calibration: Calibration) -> tuple[TensorSeen, ...]:
    """All rows of the calibration table."""
    return tuple(observed_tensor(row) for row in calibration.rows)


def observed_axis(tensors: tuple[TensorSeen, ...], columns: int = 28) -> Axis:
    """The axis of tensors without formats: what lies very deep is gathered at its end."""
    axis = shared_axis([TensorSeen(name="", layer="", kind="Bias", type=ANYTHING, bits=t.bits) for t in tensors])
    return Axis(axis.top, max(axis.bottom, axis.top - columns + 1))


def observed_table(calibration: Calibration, most: int | None = None) -> Markup:
    """The calibration table with strips."""
    tensors = observed_tensors(calibration)
    axis = observed_axis(tensors)
    shown = tensors[:most]
    heads = ("Layer", "Kind", "Min", "Max")
    head = tag(
        "tr",
        *(tag("th", t, scope="col", class_="number" if t in {"Min", "Max"} else None) for t in heads),
        tag("th", "Bits", axis_marks(axis), scope="col", class_="c-bits"),
    )
    rows = [
        tag(
            "tr",
            tag("th", breakable(t.name, 60), scope="row", class_="name"),
            tag("td", t.kind, class_="muted"),
            tag("td", number(t.min), class_="number"),
            tag("td", number(t.max), class_="number"),
            tag("td", strip(t, axis), class_="bits"),
        )
        for t in shown
    ]
    more = tag("p", f"… and {len(tensors) - len(shown)} more", class_="muted") if len(shown) < len(tensors) else None
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="tensors")
    return tag("div", tag("div", table, class_="scroll", tabindex=0), more)
