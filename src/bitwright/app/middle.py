"""The middle: summary and profile, then tabs with the table of all tensors first."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bitwright.app.ask import ROWS, WHOLE, Ask, Names, Tab, sorted_rows
from bitwright.app.jobs import Job
from bitwright.app.session import Session
from bitwright.app.steps import button, choice, form
from bitwright.view import charts, panels
from bitwright.view.axis import Axis
from bitwright.view.heat import HeatSeen, heat
from bitwright.view.markup import Content, Markup, label, tag
from bitwright.view.pairs import PairsSeen, pairs_table
from bitwright.view.seen import Page, TensorSeen
from bitwright.view.strip import axis_marks
from bitwright.view.table import COLUMNS, strip_key, tensor_row

TABS: tuple[tuple[Tab, str], ...] = (
    ("ranges", "Ranges"),
    ("channels", "Channels"),
    ("folds", "Folding"),
    ("compare", "Compare"),
    ("memory", "Memory & cycles"),
    ("log", "Log"),
)
PAIRS = 200
PROFILE = 480
SOME = 6


def summary(page: Page, *, fresh: bool, measured: bool, moved: bool = False) -> Markup:
    """Verdict, tiles and profile; what is not of the settings of now says so."""
    notes: list[Content] = []
    if not fresh:
        notes.append(
            tag(
                "p",
                "These figures are from before your last edit. Quantize to bring them up to date.",
                class_="stale-note",
            )
        )
    elif page.side.samples and not measured:
        notes.append(tag("p", "Not validated with these settings.", class_="muted small"))
    if moved:
        told = "A repair moved scales between layers, so single tensors have no figures; those of the whole network are exact."
        notes.append(tag("p", told, class_="muted small"))
    verdict = tag("p", label(page.verdict, 600), class_=f"verdict {page.verdict_kind}") if page.verdict else None
    return tag(
        "div",
        tag("div", *notes, verdict, class_="said") if notes or verdict else None,
        panels.tiles(page.tiles),
        charts.profile(page.profile, page.profile_of, width=PROFILE),
        class_="summary" + ("" if fresh else " is-stale"),
    )


def tabs(ask: Ask) -> Markup:
    """The tabs, as links."""
    items = [
        tag(
            "a",
            title,
            href=ask.but(tab=name, first=0).query,
            aria_current="page" if name == ask.tab else None,
            data_go="middle",
        )
        for name, title in TABS
    ]
    return tag("nav", *items, class_="tabs", aria_label="What is shown")


# ---------------------------------------------------------------------- the table


def ranges(session: Session, ask: Ask, names: Names, tensors: Sequence[TensorSeen], *, filling: bool) -> Markup:
    """Tools and the table of tensors."""
    rows = sorted_rows(tensors, ask)
    axis = names.axis
    kinds = [("", "all kinds"), ("Weights", "weights"), ("Bias", "biases"), ("Activations", "activations")]
    hidden = [
        tag("input", type="hidden", name=name, value=value)
        for name, value in (
            ("sort", ask.sort),
            ("order", ask.order),
            ("pick", ".".join(ask.pick)),
            ("layer", ask.layer),
        )
        if value
    ]
    tools = tag(
        "form",
        *hidden,
        tag(
            "label",
            tag("span", "Filter", class_="label"),
            tag(
                "input",
                type="search",
                name="text",
                value=ask.text,
                id="filter",
                autocomplete="off",
                placeholder="Filter… /",
            ),
            class_="field inline",
        ),
        choice("Kind", "kind", kinds, ask.kind, id="kind"),
        tag("button", "Show", type="submit", class_="plain-only"),
        tag("span", count_text(len(rows), len(tensors), filling=filling), id="shown", class_="muted", role="status"),
        method="get",
        action=f"/s/{session.name}",
        class_="tools",
        id="tools",
        role="search",
    )
    if not tensors:
        empty = "Calibrate to see where the bits of every tensor lie."
        return tag("div", tools, tag("p", empty, class_="muted empty-note"))
    return tag("div", tools, strip_key(), table(session, ask, names, rows, axis))


def count_text(shown: int, all_: int, *, filling: bool = False) -> str:
    """How many rows there are."""
    noun = "tensor" if all_ == 1 else "tensors"
    told = f"{all_:,} {noun}" if shown == all_ else f"{shown:,} of {all_:,} {noun}"
    return f"{told}, filling in" if filling else told


def table(session: Session, ask: Ask, names: Names, rows: Sequence[TensorSeen], axis: Axis) -> Markup:
    """The table: whole, or a window of it with links to the rest."""
    whole = len(rows) <= WHOLE
    first = 0 if whole else min(ask.first, max(len(rows) - 1, 0)) // ROWS * ROWS
    end = len(rows) if whole else min(first + ROWS, len(rows))
    body = tag("tbody", *table_rows(ask, names, rows[first:end], axis), id="rows")
    pages: Content = None
    if not whole:
        links = []
        for start, text in ((first - ROWS, "← earlier"), (first + ROWS, "later →")):
            if 0 <= start < len(rows):
                links.append(tag("a", text, href=ask.but(first=start).query, data_go="middle"))
        pages = tag("nav", *links, tag("span", f" rows {first + 1:,} to {end:,} of {len(rows):,}", class_="muted"),
                    class_="pages", aria_label="Rows")  # fmt: skip
    inner = tag(
        "table", tag("caption", "All tensors, a row each", class_="visually-hidden"), head(ask, axis), body,
        class_="tensors", aria_rowcount=len(rows) + 1,
    )  # fmt: skip
    return tag(
        "div",
        tag("div", inner, class_="scroll table-box", id="table-box", tabindex=0, role="region", aria_label="Table of tensors",
            data_total=len(rows), data_first=first, data_window=None if whole else ROWS),
        pages,
    )  # fmt: skip


def table_rows(ask: Ask, names: Names, tensors: Sequence[TensorSeen], axis: Axis) -> list[Markup]:
    """Some rows, each leading to its tensor."""
    chosen = set(ask.pick)
    found = []
    for tensor in tensors:
        mark = names.marks.get(tensor.name, "")
        href = ask.but(pick=(mark,), layer="", step="").query if mark else None
        found.append(tensor_row(tensor, axis, row_id=f"t-{mark}", selected=mark in chosen, href=href))
    return found


def head(ask: Ask, axis: Axis) -> Markup:
    """The heading: links that sort."""
    cells: list[Content] = []
    for key, title, kind in COLUMNS:
        inner: Content = title
        sorting = None
        if key != "bits":
            down = ask.sort == key and not ask.order
            link = ask.but(sort=key, order="down" if down else "", first=0)
            inner = tag("a", title, href=link.query, data_go="middle")
            if ask.sort == key:
                sorting = "descending" if ask.order else "ascending"
        marks = axis_marks(axis) if key == "bits" else None
        cells.append(tag("th", inner, marks, scope="col", class_=f"c-{key} {kind}".strip(), aria_sort=sorting))
    return tag("thead", tag("tr", *cells))


# ---------------------------------------------------------------------- the other tabs


def channels(ask: Ask, heats: Sequence[HeatSeen], names: Names) -> Markup:
    """Heat maps, a row for each channel."""
    if not heats:
        return tag("p", "Quantize to see the channels of the weights that lose most.", class_="muted empty-note")
    maps = [
        tag(
            "figure",
            tag(
                "figcaption",
                tag("a", label(h.tensor, 40), href=ask.but(pick=(names.marks[h.tensor],)).query, data_go="side")
                if h.tensor in names.marks
                else label(h.tensor, 40),
                f" {len(h.rows)} channels",
            ),
            heat(h),
        )
        for h in heats
    ]
    told = "A row for each output channel, the widest range at the top; colors as in the strips. Select weights to see theirs."
    return tag("div", tag("p", told, class_="muted"), tag("div", *maps, class_="heatmaps"))


def folds(page: Page) -> Markup:
    """What folding did."""
    if not page.folds:
        return tag("p", "Nothing was folded into weights in this network.", class_="muted empty-note")
    return panels.folds(page.folds)


def compare(
    session: Session, ask: Ask, others: Sequence[tuple[str, str]], found: PairsSeen | None, said: str,
    targets: Sequence[tuple[str, str]], schemes: Sequence[str],
) -> Markup:  # fmt: skip
    """A over B, strip over strip."""
    picker = tag(
        "form",
        tag("input", type="hidden", name="tab", value="compare"),
        choice("A: what is open. B:", "other", [("", "choose…"), *others], ask.other, id="other"),
        tag("button", "Compare", type="submit"),
        method="get",
        action=f"/s/{session.name}",
        class_="tools",
    )
    fresh = form(
        session, "variant", ask,
        choice("Or make B anew: target", "target", targets, session.settings.target),
        choice("scheme", "scheme", [("", "the target's own"), *((n, n) for n in schemes)], session.settings.scheme),
        button("Quantize B"), class_="tools",
    )  # fmt: skip
    upload = form(
        session, "upload?for=other", ask,
        tag("label", tag("span", "Or a saved report (.html) or network (.bw)", class_="label"),
            tag("input", type="file", name="files"), class_="field inline"),
        button("Load"), enctype="multipart/form-data", class_="tools drop", data_drop="other",
    )  # fmt: skip
    shown: list[Content] = []
    if said:
        shown.append(tag("p", label(said, 600), class_="bad", role="alert"))
    if found is not None:
        different = sum(row.changed for row in found.rows)
        mean = [row.gain_db for row in found.rows if row.gain_db is not None and row.a.kind != "Bias"]
        told = f"{different:,} of {len(found.rows):,} tensors have other formats."
        if mean:
            told += f" B stores weights and activations {sum(mean) / len(mean):+.1f} dB on average.".replace("-", "−")
        shown += [tag("p", told), *(tag("p", label(n, 300), class_="muted") for n in found.notes)]
        end = min(ask.first + PAIRS, len(found.rows))
        shown.append(tag("div", pairs_table(found, first=ask.first, end=end), class_="scroll", tabindex=0,
                         role="region", aria_label="Comparison"))  # fmt: skip
        if end < len(found.rows):
            shown.append(tag("p", tag("a", "The next rows →", href=ask.but(first=end).query, data_go="middle")))
    return tag("div", picker, fresh, upload, *shown)


def memory(session: Session, ask: Ask, page: Page, cores: Sequence[str], *, configurable: bool) -> Markup:
    """Memory map, cycles and lanes, where a back end provides them."""
    parts: list[Content] = []
    if page.side.samples and (cores or configurable):
        fields: list[Content] = [choice("What would it cost on", "core", [(c, c) for c in cores], "cortex-m4")]
        if configurable:
            fields.append(
                tag("label", tag("span", "or a processor's configuration", class_="label"),
                    tag("input", type="text", name="config", autocomplete="off", spellcheck="false"), class_="field inline")
            )  # fmt: skip
        parts.append(form(session, "estimate", ask, *fields, button("Estimate"), class_="tools"))
    parts += [charts.memory_map(m) for m in page.memory]
    lanes, cycles = charts.lanes(page.lanes), charts.cycles(page.cycles)
    if lanes is not None:
        parts.append(tag("figure", tag("figcaption", "What each unit does when"), lanes))
    if cycles is not None:
        parts.append(cycles)
    if not page.side.samples:
        return tag("p", "Quantize to see where tensors lie in memory and what layers cost.", class_="muted empty-note")
    if not page.memory and not page.cycles:
        told = f"Target {page.side.target} gives no memory map by itself: estimate what a device would need."
        parts.append(tag("p", told, class_="muted"))
    return tag("div", *parts)


def log(session: Session, jobs: Sequence[Job], page: Page | None) -> Markup:
    """What was done, with the command line of each; what went wrong, with all there is to report it."""
    items = []
    for job in reversed(jobs):
        told = {"done": "done", "failed": "failed", "canceled": "canceled", "running": "running", "waiting": "waiting"}
        head_ = tag(
            "div", tag("strong", job.title), tag("span", told[job.state], class_=f"chip state-{job.state}"),
            tag("span", f"{job.seconds:.1f} s", class_="muted") if job.seconds else None,
            tag("span", time.strftime("%H:%M:%S", time.localtime(job.began)), class_="muted") if job.began else None,
            class_="head",
        )  # fmt: skip
        more: list[Content] = [tag("p", label(job.said, 300))] if job.said else []
        if job.error:
            more.append(tag("p", label(f"{job.code} {job.error}".strip(), 1900), class_="bad"))
        if job.log:
            more.append(tag("details", tag("summary", "Details"), tag("pre", label(job.log, 1900), tabindex=0)))
        if job.command:
            more.append(tag("pre", tag("code", label(job.command, 1900)), class_="command", tabindex=0))
        items.append(tag("li", head_, *more))
    edits = [tag("li", label(text, 200)) for text, _ in reversed(session.history.past[-50:])]
    notes = [] if page is None else [tag("li", label(note, 500)) for note in page.notes]
    return tag(
        "div",
        tag("ol", *items, class_="jobs") if items else tag("p", "Nothing was run yet.", class_="muted"),
        tag("h3", "Edits, the latest first") if edits else None,
        tag("ol", *edits, class_="edits") if edits else None,
        tag("h3", "Notes") if notes else None,
        tag("ul", *notes) if notes else None,
        tag("p", "Files: ", tag("code", label(str(session.folder), 300)), class_="muted"),
    )
