"""The report: a page frozen into one file, written, read back, judged and summed up."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitwright.errors import BadModelFile, ExportError, printable
from bitwright.shown import Shown
from bitwright.view.heat import HeatSeen
from bitwright.view.look import look
from bitwright.view.page import JSON_ID, document
from bitwright.view.pairs import PairsSeen, pairs_seen
from bitwright.view.seen import Page
from bitwright.view.style import report_script, stylesheet

if TYPE_CHECKING:
    from bitwright.explain.finding import Explanation
    from bitwright.measured import Cost
    from bitwright.metrics.validation import Validation
    from bitwright.quantized import Quantized

Progress = Callable[[int, int | None, str], None]
PathLike = str | os.PathLike[str]

LARGEST = 256 << 20
"""Bytes of a report that is read; a page of 10,000 tensors has about a tenth of it."""

HEATS, HEAT_CHANNELS = 6, 4096
ENDINGS = {".html", ".htm"}


@dataclass(frozen=True)
class Report(Shown):
    """A page as a file.

    Attributes:
        page: What is seen.
        heats: Heat maps in it.
        other: A comparison in it, or None.
    """

    page: Page
    heats: tuple[HeatSeen, ...] = ()
    other: PairsSeen | None = None

    @cached_property
    def html(self) -> str:
        """The document."""
        return document(self.page, heats=self.heats, other=self.other)

    def save(self, path: PathLike, *, split: bool = False) -> Path:
        """Write it, whole or not at all; with ``split`` style and script go beside it (``NAME.css``, ``NAME.js``).

        Raises:
            ExportError: if it cannot be written.
        """
        target = Path(path)
        if not split:
            write_text(target, self.html)
            return target
        stem = re.sub(r"[^A-Za-z0-9_-]", "_", target.stem) or "report"
        write_text(target.with_name(f"{stem}.css"), stylesheet())
        write_text(target.with_name(f"{stem}.js"), report_script())
        write_text(target, document(self.page, heats=self.heats, other=self.other, split=stem))
        return target

    def markdown(self) -> str:
        """The summary for a pull request."""
        from bitwright.view.markdown import markdown

        return markdown(self.page, self.other)

    def to_json(self) -> dict[str, Any]:
        """The page as plain values."""
        return self.page.to_json()

    @classmethod
    def load(cls, path: PathLike) -> Report:
        """Read a report back: all that is seen but the heat maps.

        Raises:
            BadModelFile: if it is missing, no report, damaged or of another version.
        """
        return cls(read_page(path))


def report(
    quantized: Quantized | PathLike,
    path: PathLike | None = None,
    *,
    data: Any = None,
    metric: Any = None,
    samples: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
    decode: Any = None,
    validation: Validation | None = None,
    explanation: Explanation | None = None,
    cost: Cost | None = None,
    compare: Quantized | Page | PathLike | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Report:
    """Everything there is to see of a quantized network, in one HTML file that loads nothing.

    Args:
        quantized: A quantized network or its ``.bw`` file.
        path: Where to write it; None writes nothing.
        data: Samples to validate it with; without them no figure is measured.
        metric: See :func:`bitwright.validate`.
        samples: See :func:`bitwright.validate`.
        seed: See :func:`bitwright.validate`.
        skip_bad: See :func:`bitwright.validate`.
        decode: See :func:`bitwright.validate`.
        validation: A validation that was made already, in place of ``data``.
        explanation: Its explanation, whose findings and measured profile are shown.
        cost: What it costs on a device (``deploy(...).cost``): memory and cycles are shown.
        compare: Another network, its ``.bw`` file or its report, to stand beside this one.
        command: The command line, for the reader who wants to do it again.
        progress: Called with (samples done, samples in all or None, what is going on).

    Raises:
        BadModelFile: if a file cannot be read.
        ExportError: if the report cannot be written.
    """
    from bitwright.quantized import open_quantized
    from bitwright.validating import validate

    q = open_quantized(quantized)
    name = str(data) if isinstance(data, (str, os.PathLike)) else ""
    if validation is None and data is not None:
        validation = validate(
            q, data, metric, samples=samples, seed=seed, skip_bad=skip_bad, decode=decode, progress=progress
        )
    page = look(q, validation=validation, explanation=explanation, cost=cost, command=command, data=name)
    other = None if compare is None else pairs_seen(page, page_of(compare))
    made = Report(page, heats_of(q, page), other)
    if path is not None:
        made.save(path)
    return made


def heats_of(q: Quantized, page: Page) -> tuple[HeatSeen, ...]:
    """Heat maps of the weights that lose most, as long as they stay small."""
    from bitwright.view.heat import heats_seen

    poor = [t for t in page.tensors if t.kind == "Weights" and t.sqnr_db is not None]
    worst = sorted(poor, key=lambda t: t.sqnr_db or 0.0)[:HEATS]
    return tuple(h for h in heats_seen(q, [t.name for t in worst]) if len(h.rows) <= HEAT_CHANNELS)


def page_of(item: Quantized | Page | Report | PathLike) -> Page:
    """A page, from whatever has one: itself, a report, a quantized network, or the file of one of these.

    Raises:
        BadModelFile: if a file cannot be read.
    """
    if isinstance(item, Page):
        return item
    if isinstance(item, Report):
        return item.page
    if isinstance(item, (str, os.PathLike)) and is_report(item):
        return read_page(item)
    from bitwright.quantized import open_quantized

    return look(open_quantized(item))


def is_report(path: PathLike) -> bool:
    """Whether a file's name says that it is a report."""
    return Path(path).suffix.lower() in ENDINGS


def read_page(path: PathLike) -> Page:
    """The page inside a report; nothing in it is executed.

    Raises:
        BadModelFile: if it is missing, no report, damaged or of another version.
    """
    file = Path(path)
    try:
        if file.stat().st_size > LARGEST:
            raise BadModelFile(f"'{printable(path)}' has more than {LARGEST >> 20} MiB: that is no report.")
        text = file.read_text("utf-8")
    except OSError as error:
        raise BadModelFile(f"'{printable(path)}' cannot be read: {error.strerror}.", path=str(path)) from error
    except UnicodeDecodeError as error:
        raise BadModelFile(f"'{printable(path)}' is no report: it holds no text.", path=str(path)) from error
    found = re.search(rf'<script type="application/json" id="{JSON_ID}">([^<]*)</script>', text)
    if found is None:
        raise BadModelFile(
            f"'{printable(path)}' is no report of bitwright, or somebody took the JSON out of it. Write one with "
            "'bitwright report NAME.bw -o report.html'.",
            path=str(path),
        )
    try:
        plain = json.loads(html.unescape(found[1]) if "&" in found[1] else found[1])
    except (ValueError, RecursionError) as error:
        raise BadModelFile(f"The JSON in '{printable(path)}' is damaged.", path=str(path)) from error
    return Page.from_json(plain)


def with_comparison(made: Report, item: Quantized | Page | PathLike) -> Report:
    """The report with another network beside it."""
    return replace(made, other=pairs_seen(made.page, page_of(item)))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        ExportError: if that is impossible.
    """
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as why:
        raise ExportError(
            f"Cannot write '{printable(path)}': {why.strerror or why}. An existing file is unchanged; free space or choose "
            "another place."
        ) from why
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
