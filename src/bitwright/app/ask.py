"""What a page is asked to show: the whole of it stands in the address, so that a link shows the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal as Choice
from typing import TypeVar, get_args
from urllib.parse import urlencode

from bitwright.view.axis import Axis, shared_axis
from bitwright.view.seen import Page, TensorSeen

T = TypeVar("T")

Tab = Choice["ranges", "channels", "folds", "compare", "memory", "log"]
View = Choice["optimized", "network"]
Coloring = Choice["sqnr", "bits", "where"]
Sort = Choice["", "tensor", "kind", "min", "max", "type", "overflow", "underflow", "sqnr"]
Order = Choice["", "down"]
Kind = Choice["", "Weights", "Bias", "Activations"]

ROWS = 50
"""Rows of a large table that are drawn at once."""
WHOLE = 1000
"""Tables up to here are drawn whole: searching, printing and reading aloud work best so."""
MOST_PICKED = 20_000


def mark_of(name: str) -> str:
    """Ten letters that stand for a name of any length and content in addresses, forms and ids."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What to show.

    Attributes:
        step: A step whose form is open.
        pick: Marks of the tensors that are selected.
        layer: Mark of the layer that is selected.
        tab: What the middle shows.
        view: Which graph.
        color: What colors it.
        block: The block of a large graph that is open; -1 for all blocks.
        sort: Column that the table is sorted by; empty for the order of the network.
        order: Ascending or ``down``.
        text: Only tensors whose names hold it.
        kind: Only tensors of this kind.
        first: First row shown of a large table.
        other: What is compared with.
    """

    step: str = ""
    pick: tuple[str, ...] = ()
    layer: str = ""
    tab: Tab = "ranges"
    view: View = "optimized"
    color: Coloring = "sqnr"
    block: int = -1
    sort: Sort = ""
    order: Order = ""
    text: str = ""
    kind: Kind = ""
    first: int = 0
    other: str = ""

    @classmethod
    def of(cls, query: Iterable[tuple[str, str]]) -> Ask:
        """Read an address; what it does not know or cannot be is left out."""
        given = dict(query)
        choices = {"tab": Tab, "view": View, "color": Coloring, "sort": Sort, "order": Order, "kind": Kind}
        found: dict[str, object] = {}
        for name, kind in choices.items():
            if given.get(name) in get_args(kind):
                found[name] = given[name]
        for name in ("step", "layer", "text", "other"):
            if name in given:
                found[name] = given[name][:400]
        for name in ("first", "block"):
            text = given.get(name, "")
            if text.isascii() and text.isdigit() and len(text) < 9:
                found[name] = int(text)
        if given.get("pick"):
            found["pick"] = tuple(dict.fromkeys(p for p in given["pick"].split(".")[:MOST_PICKED] if _is_mark(p)))
        return cls(**found)  # type: ignore[arg-type]

    def but(self, **changes: object) -> Ask:
        """The same with changes."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def query(self) -> str:
        """As it stands in an address, ``?tab=folds``; what is usual is left out."""
        default = Ask()
        pairs = []
        for one in fields(self):
            value = getattr(self, one.name)
            if value != getattr(default, one.name):
                pairs.append((one.name, ".".join(value) if isinstance(value, tuple) else str(value)))
        return f"?{urlencode(pairs)}" if pairs else "?"


def _is_mark(text: str) -> bool:
    return len(text) == 10 and all(c in "0123456789abcdef" for c in text)


class Names:
    """Tensors and layers of one page by their marks; made once for a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.tensors = {mark_of(t.name): t for t in page.tensors}
        self.marks = {t.name: mark for mark, t in self.tensors.items()}
        self.layers = {mark_of(box.name): k for k, box in enumerate(page.optimized.boxes)}

    @cached_property
    def axis(self) -> Axis:
        """The axis of all strips."""
        return shared_axis(self.page.tensors)

    def picked(self, ask: Ask) -> list[TensorSeen]:
        """The tensors that are selected and still there, in the order in which they were picked."""
        return [self.tensors[mark] for mark in ask.pick if mark in self.tensors]


def sorted_rows(tensors: Sequence[TensorSeen], ask: Ask) -> list[TensorSeen]:
    """The rows of the table: filtered and sorted, rows without a figure last."""
    wanted = ask.text.lower()
    rows = [
        t
        for t in tensors
        if (not ask.kind or t.kind == ask.kind) and (not wanted or wanted in f"{t.name} {t.kind} {t.type.text}".lower())
    ]
    if not ask.sort:
        return rows[::-1] if ask.order else rows
    known = [(value, k) for k, t in enumerate(rows) if (value := _sort_value(t, ask.sort)) is not None]
    rest = [t for t in rows if _sort_value(t, ask.sort) is None]
    known.sort(key=lambda pair: pair[0], reverse=bool(ask.order))
    return [*(rows[k] for _, k in known), *rest]


def _sort_value(tensor: TensorSeen, by: Sort) -> str | float | None:
    if by == "tensor":
        return tensor.name.lower()
    if by == "kind":
        return tensor.kind
    if by == "type":
        return f"{tensor.type.bits:02d} {tensor.type.bottom + 200:04d} {tensor.type.text}"
    if by == "sqnr":
        return float("inf") if tensor.lossless else tensor.sqnr_db
    value: float | None = getattr(tensor, by)
    return value
