"""How values look in a notebook: a small static picture of each, its page in a frame, its rows as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import ToolMissing
from bitwright.view import panels
from bitwright.view.axis import shared_axis
from bitwright.view.markup import Content, Markup, label, sentence, tag
from bitwright.view.page import plain_document
from bitwright.view.report import page_of, report, write_text
from bitwright.view.seen import FindingSeen, Page, TensorSeen
from bitwright.view.style import stylesheet
from bitwright.view.table import tensor_table

if TYPE_CHECKING:
    from bitwright.view.plots import Plots

WORST, MOST = 8, 12
INSTALL = "pip install 'bitwright[notebook]'"


def faces(value: Any) -> Faces:
    """How a value looks: ``html()``, ``show()``, ``rows()``, ``to_pandas()``, ``to_polars()``, ``plot``.

    Args:
        value: A network, a calibration, a quantized network, a report, or what was found out about one.

    Raises:
        TypeError: if there is nothing to see of such a value.
    """
    if type(value).__name__ not in PICTURES:
        raise TypeError(f"there is nothing to see of a {type(value).__name__}")
    return Faces(value)


@dataclass(frozen=True)
class Faces:
    """The faces of one value.

    Attributes:
        value: A network, a calibration, a quantized network, or what was found out about one.
    """

    value: Any

    def html(self) -> str:
        """A static picture for a notebook: no script, style of its own, nothing loaded."""
        return tag("div", tag("style", Markup(stylesheet())), _picture(self.value), class_="bw nb")

    def show(self, path: Any = None, *, height: int = 760) -> Any:
        """The whole page: a file if ``path`` is given, else a frame for the notebook."""
        if path is not None:
            write_text(Path(path), self.document)
            return Path(path)
        return Frame(self.document, height)

    @cached_property
    def document(self) -> str:
        """The whole page as an HTML document."""
        kind = type(self.value).__name__
        if kind == "Report":
            return str(self.value.html)
        if kind == "Quantized":
            return report(self.value).html
        return plain_document(f"{kind} · bitwright", _picture(self.value, whole=True))

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the table, plain values."""
        return rows_of(self.value)

    def to_pandas(self) -> Any:
        """The rows as a pandas ``DataFrame``.

        Raises:
            ToolMissing: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise missing("pandas") from error
        return pd.DataFrame(self.rows())

    def to_polars(self) -> Any:
        """The rows as a polars ``DataFrame``.

        Raises:
            ToolMissing: if polars is not installed.
        """
        try:
            import polars as pl
        except ImportError as error:
            raise missing("polars") from error
        return pl.DataFrame(self.rows(), infer_schema_length=None, strict=False)

    @property
    def plot(self) -> Plots:
        """Plots with matplotlib.

        Raises:
            ToolMissing: if matplotlib is not installed.
        """
        from importlib.util import find_spec

        from bitwright.view.plots import Plots

        if find_spec("matplotlib") is None:
            raise missing("matplotlib")

        return Plots(self.value)


def missing(tool: str) -> ToolMissing:
    """The error for a package that is not installed."""
    return ToolMissing(f"{tool} is not installed: {INSTALL}", tool=tool, install=INSTALL)


@dataclass(frozen=True)
class Frame:
    """A page in a frame of its own, cut off from the notebook around it.

    Attributes:
        document: The page.
        height: In pixels.
    """

    document: str
    height: int

    def _repr_html_(self) -> str:
        return tag(
            "iframe", srcdoc=Markup(self.document), sandbox="allow-scripts", width="100%", height=self.height,
            title="bitwright", frameborder=0, loading="lazy",
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- pictures


def _picture(value: Any, *, whole: bool = False) -> Markup:
    return PICTURES[type(value).__name__](value, whole)


def _title(name: str, *more: str) -> Markup:
    chips = [part for text in more if text for part in (" ", tag("span", text, class_="chip"))]
    return tag("p", tag("strong", label(name)), *chips)


def _quantized(value: Any, whole: bool) -> Markup:
    return _page(page_of(value), whole)


def _page(page: Page, whole: bool) -> Markup:
    worst = worst_tensors(page.tensors, len(page.tensors) if whole else WORST)
    return tag(
        "div",
        _title(page.name, f"target {page.side.target}", f"{page.side.samples:,} samples"),
        tag("p", label(page.verdict, 400), class_=f"verdict {page.verdict_kind}") if page.verdict else None,
        panels.tiles(page.tiles),
        tag(
            "div",
            tensor_table(worst, shared_axis(page.tensors), caption="Tensors that lose most"),
            class_="scroll",
            tabindex=0,
        ),
    )


def worst_tensors(tensors: Sequence[TensorSeen], count: int) -> list[TensorSeen]:
    """Those with the lowest signal to noise; a bias counts beside its layer's output, so it comes last."""
    return sorted(tensors, key=lambda t: (t.kind == "Bias", math.inf if t.sqnr_db is None else t.sqnr_db))[:count]


def _calibration(value: Any, whole: bool) -> Markup:
    from bitwright.view.observed import observed_table

    statistics = value.statistics
    return tag(
        "div",
        _title(value.model.name, "calibration", f"{statistics.samples:,} samples"),
        observed_table(value, None if whole else MOST),
        *(tag("p", label(note, 400), class_="muted") for note in value.notes),
    )


def _network(value: Any, whole: bool) -> Markup:
    network = getattr(value, "network", value)
    rows = rows_of(network)
    shown = rows if whole else rows[:MOST]
    more = tag("p", f"… and {len(rows) - len(shown)} more layers", class_="muted") if len(shown) < len(rows) else None
    inputs = ", ".join(f"{name} {'×'.join(map(str, network.shape(name)[1:]))}" for name in network.inputs)
    return tag(
        "div", _title(network.name, f"{len(rows)} layers"), tag("p", "input ", label(inputs, 200)), _table(shown), more
    )


def _validation(value: Any, _: bool) -> Markup:
    lines = value.lines()
    title, *rest = [line.strip() for line in lines]
    verdict = tag("p", label(value.verdict.text, 400), class_=f"verdict {value.verdict.kind.value}")
    plain = [line for line in rest if not line.startswith("→")]
    facts = [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in plain]
    return tag("div", _title(title), verdict, panels.pairs_list(facts))


def _rows(title: str) -> Callable[[Any, bool], Markup]:
    def draw(value: Any, whole: bool) -> Markup:
        rows = rows_of(value)
        shown = rows if whole else rows[:MOST]
        more = tag("p", f"… and {len(rows) - len(shown)} more rows", class_="muted") if len(shown) < len(rows) else None
        name = getattr(value, "name", "") or getattr(value, "network", "") or getattr(value, "board", "")
        found = [tag("p", sentence(s, 400)) for s in getattr(value, "findings", ()) if isinstance(s, str)]
        return tag("div", _title(f"{name} · {title}" if name else title), *found, _table(shown), more)

    return draw


def _comparison(value: Any, whole: bool) -> Markup:
    rows = rows_of(value)
    shown = rows if whole else rows[:MOST]
    sides = [f"{letter} {side.name} for {side.target}" for letter, side in (("A", value.a), ("B", value.b))]
    told = f"{value.different} of {len(value.tensors)} tensors have other formats."
    notes = [tag("p", label(note, 400), class_="muted") for note in value.notes]
    more = tag("p", f"… and {len(rows) - len(shown)} more rows", class_="muted") if len(shown) < len(rows) else None
    return tag("div", _title(f"{sides[0]}, {sides[1]}"), tag("p", told), *notes, _table(shown), more)


def _explanation(value: Any, whole: bool) -> Markup:
    from bitwright.view.look import explained_profile, finding_seen

    found: tuple[FindingSeen, ...] = tuple(finding_seen(f) for f in value.findings)
    return tag(
        "div",
        _title(value.network, f"target {value.target}"),
        explained_profile(value),
        panels.findings(found if whole else found[:5]),
        _table(rows_of(value)) if whole else None,
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> Markup:
    if not rows:
        return tag("p", "Nothing.", class_="muted")
    names = [key for key, cell in rows[0].items() if not isinstance(cell, (dict, list))]
    head = tag("thead", tag("tr", *(tag("th", name.replace("_", " "), scope="col") for name in names)))
    body = [tag("tr", *(_cell(row.get(name)) for name in names)) for row in rows]
    return tag("div", tag("table", head, tag("tbody", *body), class_="plain"), class_="scroll", tabindex=0)


def _cell(value: Any) -> Markup:
    if isinstance(value, bool) or value is None:
        return tag("td", "" if value is None else "yes" if value else "no")
    if isinstance(value, int):
        return tag("td", f"{value:,}", class_="number")
    if isinstance(value, float):
        return tag("td", f"{value:.4g}".replace("-", "−"), class_="number")
    shown: Content = label(value, 80)
    return tag("td", shown)


PICTURES: dict[str, Callable[[Any, bool], Markup]] = {
    "Calibration": _calibration,
    "Details": _rows("learnables"),
    "Explanation": _explanation,
    "Inspection": _rows("layers on the target"),
    "Measured": _rows("steps on the board"),
    "Model": _network,
    "Network": _network,
    "NetworkComparison": _comparison,
    "Quantized": _quantized,
    "Report": lambda value, whole: _page(value.page, whole),
    "Validation": _validation,
}


# ----------------------------------------------------------------------------------------------------------------- rows


def tensor_rows(page: Page) -> list[dict[str, Any]]:
    """A row per tensor: name, kind, format, range, shares, decibel."""
    return [
        {
            "tensor": t.name,
            "layer": t.layer,
            "kind": t.kind,
            "format": t.type.text,
            "bits": t.type.bits,
            "signed": t.type.signed,
            "per_channel": t.type.per_channel,
            "step": t.type.step,
            "low": t.type.low,
            "high": t.type.high,
            "min": t.min,
            "max": t.max,
            "overflow": t.overflow,
            "underflow": t.underflow,
            "sqnr_db": math.inf if t.lossless else t.sqnr_db,
            "values": None if t.bits is None else t.bits.count,
            "zeros": None if t.bits is None else t.bits.zeros,
        }
        for t in page.tensors
    ]


def rows_of(value: Any) -> list[dict[str, Any]]:
    """The rows of a value: tensors, layers or figures."""
    return ROWS[type(value).__name__](value)


def _network_rows(value: Any) -> list[dict[str, Any]]:
    network = getattr(value, "network", value)
    return [
        {
            "layer": layer.name,
            "op": layer.op,
            "shape": "×".join(map(str, network.shape(layer.outputs[-1])[1:]))
            if layer.outputs and network.has_shape(layer.outputs[-1])
            else "",
            "sources": ", ".join(layer.sources),
            "inputs": ", ".join(layer.inputs),
            "outputs": ", ".join(layer.outputs),
        }
        for layer in network.layers()
    ]


def _validation_rows(value: Any) -> list[dict[str, Any]]:
    rows = []
    for name, figure, size in (
        ("float", value.float, value.learnable_bytes.float),
        ("quantized", value.quantized, value.learnable_bytes.quantized),
    ):
        interval = value.interval.get(name)
        rows.append(
            {
                "network": name,
                "metric": value.metric,
                "value": figure,
                "low": None if interval is None else interval.low,
                "high": None if interval is None else interval.high,
                "samples": value.samples,
                "learnable_bytes": size,
                "agreement": value.agreement if name == "quantized" else None,
                "output_sqnr_db": value.output_sqnr_db if name == "quantized" else None,
            }
        )
    return rows


def _comparison_rows(value: Any) -> list[dict[str, Any]]:
    return [
        {
            "tensor": pair.a.tensor,
            "kind": pair.a.kind,
            "format_a": pair.a.format,
            "format_b": pair.b.format,
            "sqnr_db_a": pair.a.sqnr_db,
            "sqnr_db_b": pair.b.sqnr_db,
            "gain_db": pair.gain_db,
        }
        for pair in value.tensors
    ]


def _calibration_rows(value: Any) -> list[dict[str, Any]]:
    return [{**row, "network_layers": ", ".join(row["network_layers"])} for row in value.rows]


def _json_rows(*path: str) -> Callable[[Any], list[dict[str, Any]]]:
    """The rows that stand in a value's JSON under a key; lists inside them become text."""

    def rows(value: Any) -> list[dict[str, Any]]:
        found = value.to_json()
        for key in path:
            found = found[key]
        return [{k: _flat(v) for k, v in row.items()} for row in found]

    return rows


def _flat(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value


ROWS: dict[str, Callable[[Any], list[dict[str, Any]]]] = {
    "Calibration": _calibration_rows,
    "Details": _json_rows("quantized_learnables"),
    "Explanation": _json_rows("layers"),
    "Inspection": _json_rows("layers"),
    "Measured": _json_rows("layers"),
    "Model": _network_rows,
    "Network": _network_rows,
    "NetworkComparison": _comparison_rows,
    "Quantized": lambda value: tensor_rows(page_of(value)),
    "Report": lambda value: tensor_rows(value.page),
    "Validation": _validation_rows,
}
