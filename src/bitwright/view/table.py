"""The table of tensors: a row each, strips on one shared axis."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from bitwright.errors import printable
from bitwright.view.axis import Axis, quality
from bitwright.view.drawing import rect, svg
from bitwright.view.markup import TOLD, Content, Markup, breakable, spaced, tag
from bitwright.view.seen import TensorSeen, TypeSeen
from bitwright.view.strip import axis_marks, figure, strip

POOR_DB = 20.0
MANY_OVER, MANY_UNDER = 0.001, 0.25
"""Shares that are flagged: some schemes cut off a few outliers everywhere, and a page full of flags flags nothing."""
BEST_DB = 45.0
DIGITS = re.compile(r"\d+\.\d+(e[-+]?\d+)?")
METER = 44

COLUMNS = (
    ("tensor", "Tensor", ""),
    ("kind", "Kind", ""),
    ("min", "Min", "number"),
    ("max", "Max", "number"),
    ("type", "Type", ""),
    ("bits", "Bits", ""),
    ("overflow", "Overflow %", "number"),
    ("underflow", "Underflow %", "number"),
    ("sqnr", "SQNR dB", "number"),
)


def number(value: float | None) -> str:
    """A real number with four significant digits, with a real minus; empty if unknown."""
    if value is None:
        return ""
    short = f"{value:.4g}"
    return ("0" if value == 0 else f"{value:.0f}" if "e+0" in short else short).replace("-", "−")


def type_text(kind: TypeSeen) -> Markup:
    """A format as people write it: ``int8·2⁻⁵`` with a raised exponent; what is long stands small under it."""
    shown = DIGITS.sub(lambda found: f"{float(found[0]):.3g}", kind.text)
    name, dot, step = shown.partition("·")
    if kind.per_channel:
        span = step.removesuffix(" per channel").strip("[]").replace("..", " … ")
        return tag("span", name, " per channel ", tag("small", _raised(span), class_="muted"), class_="type")
    step, _, zero = step.partition(" (zero point ")
    under = tag("small", " zero point " + zero.rstrip(")").replace("-", "−"), class_="muted") if zero else None
    return tag("span", name, dot, _raised(step), under, class_="type")


def _raised(text: str) -> Markup:
    """``2^-5`` with a raised exponent; of ``2^[-9..-5]``, whose brackets are gone, both."""
    base, power, rest = text.partition("2^")
    if not power or base:
        return tag("span", text)
    ends = rest.strip("[]").split(" … ")
    return tag("span", *(part for k, e in enumerate(ends) for part in (" … " if k else "", "2", _sup(e))))


def _sup(exponent: str) -> Markup:
    return tag("sup", exponent.strip("[]").replace("-", "−"))


def meter(decibel: float | None) -> Markup | None:
    """A short bar from zero under a signal to noise."""
    how = quality(decibel)
    if not how or decibel is None:
        return None
    return svg(METER, 3, rect(0, 0, max(2.0, METER * min(max(decibel, 0.0), BEST_DB) / BEST_DB), 3, f"db{how}"))


def sqnr_cell(tensor: TensorSeen) -> Markup:
    """Signal to noise with its bar; ``∞`` where nothing is lost."""
    value = tensor.sqnr_db
    shown = "∞" if tensor.lossless else "" if value is None else f"{value:.1f}"
    poor = value is not None and value < POOR_DB and tensor.kind != "Bias"
    return tag(
        "td", tag("span", shown, class_="bad" if poor else None), meter(value), class_="number sqnr", data_label="dB"
    )


def share_cell(share: float | None, flag: str, name: str, *, bad: bool) -> Markup:
    """A share in percent; a flagged one has a mark, for color alone tells nobody."""
    shown = figure(share)
    inner: Content = tag("span", f"{flag} {shown}", class_="bad") if bad else shown
    return tag("td", inner, class_="number" + ("" if bad or shown not in {"0", ""} else " muted"), data_label=name)


def tensor_row(
    tensor: TensorSeen, axis: Axis, *, row_id: str | None = None, selected: bool = False, href: str | None = None
) -> Markup:
    """One row; ``data-*`` hold what it is sorted by, and the name leads to ``href``."""
    over, under = tensor.overflow, tensor.underflow
    return tag(
        "tr",
        tag(
            "th",
            tag("a", breakable(tensor.name, 60), href=href) if href else breakable(tensor.name, 60),
            scope="row",
            class_="name",
        ),
        tag("td", tensor.kind, class_="muted kind"),
        tag("td", number(tensor.min), class_="number", data_label="min"),
        tag("td", number(tensor.max), class_="number", data_label="max"),
        tag("td", type_text(tensor.type)),
        tag("td", strip(tensor, axis), class_="bits"),
        share_cell(over, "▲", "over %", bad=over is not None and over > MANY_OVER),
        share_cell(under, "▼", "under %", bad=under is not None and under > MANY_UNDER and tensor.kind != "Bias"),
        sqnr_cell(tensor),
        id=row_id,
        class_="selected" if selected else None,
        data_tensor=printable(tensor.name, TOLD),
        data_kind=tensor.kind,
    )


def table_head(axis: Axis, *, sortable: bool = False) -> Markup:
    """The heading, with the axis over the strips."""
    cells: list[Content] = []
    for key, title, kind in COLUMNS:
        inner: Content = tag("button", title, type="button", data_sort=key) if sortable and key != "bits" else title
        marks = axis_marks(axis) if key == "bits" else None
        inner = tag("div", inner) if marks is not None else inner  # the axis has a line of its own, without style too
        cells.append(tag("th", inner, marks, scope="col", class_=f"c-{key} {kind}".strip()))
    return tag("thead", tag("tr", *cells))


def tensor_table(
    tensors: Sequence[TensorSeen],
    axis: Axis,
    *,
    caption: str = "",
    ids: Callable[[int], str] | None = None,
    sortable: bool = False,
) -> Markup:
    """Rows for ``tensors``, in their order.

    Args:
        tensors: What to show; give a slice of a large table.
        axis: Of the whole table, so that slices agree.
        caption: What the table is.
        ids: Place in ``tensors`` → the row's id.
        sortable: Headings are buttons, for pages with a script.
    """
    rows = [tensor_row(t, axis, row_id=None if ids is None else ids(k)) for k, t in enumerate(tensors)]
    return tag(
        "table",
        tag("caption", caption) if caption else None,
        table_head(axis, sortable=sortable),
        tag("tbody", *rows),
        class_="tensors",
    )


def strip_key() -> Markup:
    """What the colors of the strips mean."""

    def sample(*tokens: str) -> Markup:
        return svg(13 * len(tokens) - 1, 12, *(rect(13 * k, 0, 12, 12, token) for k, token in enumerate(tokens)))

    items = (
        (("in1", "in3", "in5"), "inside the type, darker is more"),
        (("over3",), "overflow"),
        (("under1", "under3", "under5"), "below the step"),
        (("lane",), "representable, empty"),
        (("none",), "not representable"),
    )
    keys = (tag("span", sample(*tokens), f" {text}", class_="key") for tokens, text in items)
    return tag("p", *spaced(*keys), class_="keys")
