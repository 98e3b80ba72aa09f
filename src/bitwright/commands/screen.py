"""What people see: text on stdout, progress on stderr, at any width, with or without color.

Names come from files that we did not write: they are made printable, and never read as markup.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from bitwright.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Progress = Callable[[int, int | None, str], None]

PIPE_WIDTH = 120
TEXT_WIDTH = 100
LABEL = 12
PLAIN_SECONDS = 2.0
RIGHT_TO_LEFT = {"R", "AL", "AN"}
ISOLATE, END_ISOLATE = "\u2068", "\u2069"


@cache
def out() -> Console:
    """Where results go."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=_width(sys.stdout))


@cache
def err() -> Console:
    """Where progress and remarks go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True, width=_width(sys.stderr))


def _width(stream: Any) -> int | None:
    """None lets the terminal decide; a pipe has no width of its own."""
    return None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH


def forget_streams() -> None:
    """Open the consoles anew, when stdout or stderr have been replaced."""
    out.cache_clear()
    err.cache_clear()


def safe(name: object, limit: int = 120) -> str:
    """A foreign name that moves no cursor and reorders no neighbor."""
    text = printable(name, limit)
    if any(unicodedata.bidirectional(c) in RIGHT_TO_LEFT for c in text):
        return f"{ISOLATE}{text}{END_ISOLATE}"
    return text


def text(value: object = "", style: str = "") -> Text:
    """A piece of text, taken literally."""
    from rich.text import Text

    return Text(str(value), style)


def line(*parts: object) -> Text:
    """Pieces put together; ``(value, style)`` for styled ones."""
    from rich.text import Text

    result = Text()
    for part in parts:
        if isinstance(part, tuple):
            result.append(str(part[0]), part[1])
        elif isinstance(part, Text):
            result.append_text(part)
        else:
            result.append(str(part))
    return result


def say(*lines: object) -> None:
    """Print lines of the result."""
    for item in lines or ("",):
        out().print(item)


def remark(*parts: object) -> None:
    """Print a line beside the result, on stderr."""
    err().print(line(*parts))


def emit_json(value: Any) -> None:
    """Print the result for programs: one JSON document, no number that JSON lacks."""
    from bitwright.program.file import plain

    sys.stdout.write(json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def paragraph(message: str, *, first: str = "", indent: str = "", width: int | None = None) -> str:
    """A message wrapped to the screen, paths and names kept whole where they fit."""
    room = min(width or err().width, TEXT_WIDTH)
    return textwrap.fill(
        message,
        room,
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def done(*parts: object, saved: object) -> None:
    """Print that something was made and where it is; on a line of its own where the screen is narrow."""
    from rich.cells import cell_len

    head = line(("✓ ", "blue"), *parts)
    where = f"saved {safe(saved, 1000)}"
    if cell_len(head.plain) + 3 + cell_len(where) <= out().width:
        say(line(head, (f"   {where}", "dim")))
    else:
        say(head, text(f"  {where}", "dim"))


def fact(label: str, *parts: object, indent: int = 0, width: int = LABEL) -> None:
    """Print a line of a summary: a bold label, then text, wrapped under itself where the screen is narrow."""
    from rich.text import Text

    head = Text(" " * indent + f"{label:<{width}}", "bold")
    body = line(*parts)
    room = max(out().width - len(head), 20)
    for k, row in enumerate(body.wrap(out(), room) or [Text()]):
        row.rstrip()
        say(line(head if k == 0 else " " * len(head), row))


def notes(sentences: Sequence[str]) -> None:
    """Print what else the user should know, wrapped, once each."""
    for sentence in dict.fromkeys(sentences):
        wrapped = paragraph(safe(sentence, 600), first="  note  ", indent="        ", width=out().width)
        say(text(wrapped, "dim"))


def number(value: float) -> str:
    """A real number with four significant digits, for columns."""
    if value == 0:
        return "0"
    short = f"{value:.4g}"
    return f"{value:.0f}" if "e+0" in short else short


def big(value: float) -> str:
    """A large count in short: ``349 M``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f}"


def size(count: float) -> str:
    """Bytes in decimal units, as the data sheets do it: ``734 kB``, ``2.90 MB``."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count:.0f} bytes"


def shape_text(shape: Sequence[int]) -> str:
    """``3×224×224``; the batch is left out."""
    return "×".join(str(n) for n in shape[1:]) or "1"


def many(count: int, noun: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@contextmanager
def progress(title: str, unit: str = "samples", *, quiet: bool = False) -> Iterator[Progress | None]:
    """A bar on a terminal, a line now and then elsewhere, nothing if ``quiet``."""
    if quiet:
        yield None
    elif err().is_terminal:
        with _bar(title, unit) as report:
            yield report
    else:
        yield _Lines(title, unit)


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Progress]:
    from rich import progress as rich_progress

    columns = (
        rich_progress.SpinnerColumn(style="cyan"),
        rich_progress.TextColumn("{task.fields[title]}", style="bold", markup=False),
        rich_progress.BarColumn(bar_width=28, complete_style="blue", finished_style="blue", pulse_style="blue"),
        rich_progress.TextColumn("{task.fields[count]}", style="green", markup=False),
        rich_progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        rich_progress.TextColumn("{task.fields[step]}", style="dim", markup=False),
    )
    with rich_progress.Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task("", total=None, title=title, count="", step="")

        def report(done: int, total: int | None, step: str) -> None:
            count = f"{done}/{total} {unit}" if total is not None else f"{done} {unit}"
            shown = "" if step == title.lower() else step
            bar.update(task, completed=done, total=total, count=count, step=shown)

        yield report


class _Lines:
    """Progress for logs."""

    def __init__(self, title: str, unit: str) -> None:
        self.title, self.unit = title, unit
        self.began = self.last = time.monotonic()

    def __call__(self, done: int, total: int | None, step: str) -> None:
        """Print a line if the last one was some time ago."""
        now = time.monotonic()
        if now - self.last < PLAIN_SECONDS:
            return
        self.last = now
        left = ""
        if total and done:
            left = f", about {(now - self.began) * (total - done) / done:.0f} s left"
        what = "" if step == self.title.lower() else f", {step}"
        remark(f"{self.title}: {done}{f'/{total}' if total is not None else ''} {self.unit}{left}{what}")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        right: Numbers stand at the right.
        style: Of its cells.
        shrinks: Its text may be cut in the middle where the screen is narrow.
        drop: Left out on a narrow screen, the highest number first; 0 is never left out.
    """

    title: str
    right: bool = False
    style: str = ""
    shrinks: bool = False
    drop: int = 0


GAP = 3
COMFORT, LEAST = 40, 8


def table(columns: Sequence[Column], rows: Sequence[Sequence[Any]], *, indent: int = 1) -> None:
    """Print an aligned table that fits the screen: long names are cut in the middle, the last columns left out."""
    from rich.cells import cell_len
    from rich.text import Text

    cells = [[cell if isinstance(cell, Text) else Text(str(cell)) for cell in row] for row in rows]
    natural = [
        max([cell_len(column.title), *(cell_len(row[i].plain) for row in cells)]) for i, column in enumerate(columns)
    ]
    room = out().width - indent
    kept, widths = _fit(columns, natural, room)
    head = _row([Text(columns[i].title, "bold") for i in kept], [columns[i] for i in kept], widths, styled=False)
    say(line(" " * indent, head))
    say(line(" " * indent, ("─" * (sum(widths) + GAP * (len(kept) - 1)), "dim")))
    for row in cells:
        say(line(" " * indent, _row([row[i] for i in kept], [columns[i] for i in kept], widths)))


def _fit(columns: Sequence[Column], natural: Sequence[int], room: int) -> tuple[list[int], list[int]]:
    """Which columns stay, and how wide each is."""
    kept = list(range(len(columns)))
    while True:
        for floor in (COMFORT, LEAST) if not any(columns[i].drop for i in kept) else (COMFORT,):
            widths = {i: natural[i] for i in kept}
            while (over := sum(widths.values()) + GAP * (len(kept) - 1) - room) > 0:
                elastic = [i for i in kept if columns[i].shrinks and widths[i] > floor]
                if not elastic:
                    break
                widest = max(elastic, key=lambda i: widths[i])
                widths[widest] = max(floor, widths[widest] - over)
            if over <= 0:
                return kept, [widths[i] for i in kept]
        droppable = [i for i in kept if columns[i].drop]
        if not droppable:
            return kept, [widths[i] for i in kept]
        kept.remove(max(droppable, key=lambda i: columns[i].drop))


def _row(cells: Sequence[Text], columns: Sequence[Column], widths: Sequence[int], *, styled: bool = True) -> Text:
    from rich.cells import cell_len
    from rich.text import Text

    result = Text()
    for k, (cell, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        shown = cell.copy()
        if cell_len(shown.plain) > width:
            shown = Text(cut(shown.plain, width), shown.style)
        if styled and column.style:
            shown.stylize_before(column.style)
        padding = " " * (width - cell_len(shown.plain))
        if k:
            result.append(" " * GAP)
        if column.right:
            result.append(padding)
        result.append_text(shown)
        if not column.right and k < len(columns) - 1:
            result.append(padding)
    result.rstrip()
    return result


def cut(name: str, width: int) -> str:
    """``name`` in at most ``width`` cells, the middle left out: both ends of a layer's name tell something."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) <= width:
        return name
    if width < 3:
        return set_cell_size(name, width)
    head = (width - 1) // 2
    tail = width - 1 - head
    start = set_cell_size(name, head).rstrip()
    end = name
    while cell_len(end) > tail:
        end = end[1:]
    return f"{start}…{end}"
