"""The whole page: its parts in reading order, and the document that holds them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bitwright.view import charts, panels
from bitwright.view.axis import Axis, shared_axis
from bitwright.view.graph import COLORINGS, Link, graph_key, graph_section
from bitwright.view.heat import HeatSeen, heat
from bitwright.view.markup import Content, Markup, label, sentence, spaced, tag
from bitwright.view.pairs import PairsSeen, pairs_table, schemes_text
from bitwright.view.seen import BoxSeen, Page, TensorSeen
from bitwright.view.style import digest, report_script, stylesheet
from bitwright.view.table import sqnr_cell, strip_key, table_head, tensor_row, tensor_table, type_text

DRAWN = 1000
"""Tensors that a report draws; the others follow in words."""

JSON_ID = "bitwright-page"
COLOR_NAMES = {"sqnr": "SQNR", "bits": "bits lost by folding", "where": "what runs where"}


def row_ids(page: Page) -> dict[str, str]:
    """Tensor → the id of its row."""
    return {tensor.name: f"t{k}" for k, tensor in enumerate(page.tensors)}


def row_link(page: Page) -> Link:
    """Where a box leads: to the row of what it makes, or else of its first tensor."""
    ids = row_ids(page)
    kinds = {tensor.name: tensor.kind for tensor in page.tensors}

    def link(_: int, box: BoxSeen) -> str | None:
        own = sorted((name for name in box.tensors if name in ids), key=lambda name: kinds[name] != "Activations")
        return f"#{ids[own[0]]}" if own else None

    return link


def section(name: str, title: str, *content: Content, pane: bool = False) -> Markup:
    """A part of the page with its heading."""
    inner = (tag("h2", title), *content)
    return tag("section", tag("div", *inner, class_="pane", tabindex=0) if pane else inner, id=name, aria_label=title)


def summary(page: Page) -> Markup:
    """Verdict, tiles and profile."""
    verdict = tag("p", sentence(page.verdict), class_=f"verdict {page.verdict_kind}") if page.verdict else None
    unmeasured = tag("p", "Not validated: no figures were measured.", class_="muted") if not page.verdict else None
    return section(
        "summary",
        "Summary",
        verdict,
        panels.tiles(page.tiles),
        unmeasured,
        charts.profile(page.profile, page.profile_of),
    )


def layers(page: Page) -> Markup:
    """Both graphs, and how they are seen."""
    views = (("optimized", "as computed"), ("network", "source network"))
    see = _choices("see", "view", views)
    by = _choices("by", "color", [(name, COLOR_NAMES[name]) for name in COLORINGS])
    link = row_link(page)
    return section(
        "layers",
        f"Layers ({sum(box.state != 'input' for box in page.optimized.boxes)})",
        see,
        by,
        *(graph_key(name) for name in COLORINGS),
        tag(
            "div",
            tag("h3", "Layers as computed"),
            graph_section(page.optimized, link=link),
            class_="see-optimized scroll",
            tabindex=0,
        ),
        tag(
            "div",
            tag("h3", "Source network"),
            graph_section(page.network, link=link),
            class_="see-network scroll",
            tabindex=0,
        ),
        pane=True,
    )


def _choices(name: str, legend: str, values: Sequence[tuple[str, str]]) -> Markup:
    """A choice that works by style alone."""
    buttons = [
        tag("label", tag("input", type="radio", name=name, id=f"{name}-{value}", checked=k == 0), text)
        for k, (value, text) in enumerate(values)
    ]
    return tag("fieldset", tag("legend", legend), *spaced(*buttons), class_="choices")


def tensors(page: Page, axis: Axis, *, drawn: int = DRAWN) -> Markup:
    """The table; of a very large network the tensors that lose most are drawn, and the others told in words."""
    ids = list(row_ids(page).values())
    shown, rest = _divided(page.tensors, drawn)
    rows = [tensor_row(page.tensors[k], axis, row_id=ids[k]) for k in shown]
    table = tag("table", table_head(axis, sortable=True), tag("tbody", *rows), class_="tensors")
    count = tag("span", f"{len(rows)} tensors", id="shown", class_="muted", role="status")
    tools = tag(
        "div",
        tag("label", "Filter ", tag("input", type="search", id="filter", autocomplete="off"), for_="filter"),
        count,
        class_="tools",
        data_script=True,
        hidden=True,
    )
    more = None
    if rest:
        body = [_told(page.tensors[k], ids[k]) for k in rest]
        heads = ("Tensor", "Type", "SQNR dB")
        head = tag("thead", tag("tr", *(tag("th", t, scope="col") for t in heads)))
        title = f"{len(rest):,} more tensors, which lose less"
        more = tag("details", tag("summary", title), tag("table", head, tag("tbody", *body), class_="plain"))
    where = "Above: the tensors that lose most, in the order of the network." if rest else None
    return section(
        "tensors", "Tensors", strip_key(), tools, tag("div", table, class_="scroll", tabindex=0), where, more
    )


def _divided(all_: Sequence[TensorSeen], drawn: int) -> tuple[list[int], list[int]]:
    order = range(len(all_))
    if len(all_) <= drawn:
        return list(order), []
    worst = sorted(order, key=lambda k: (all_[k].kind == "Bias", _loss(all_[k])))[:drawn]
    chosen = set(worst)
    return sorted(chosen), [k for k in order if k not in chosen]


def _loss(tensor: TensorSeen) -> float:
    return float("inf") if tensor.sqnr_db is None else tensor.sqnr_db


def _told(tensor: TensorSeen, row_id: str) -> Markup:
    name = tag("th", label(tensor.name, 60), scope="row")
    return tag("tr", name, tag("td", type_text(tensor.type)), sqnr_cell(tensor), id=row_id)


def channels(heats: Sequence[HeatSeen]) -> Markup | None:
    """Heat maps of weights, channel by channel."""
    if not heats:
        return None
    maps = [
        tag("figure", tag("figcaption", tag("strong", label(h.tensor, 48)), f" {len(h.rows)} channels"), heat(h))
        for h in heats
    ]
    told = "A row for each channel, the widest at the top; the colors are those of the strips."
    return section(
        "channels", "Channels of the weights that lose most", tag("p", told), tag("div", *maps, class_="heatmaps")
    )


def comparison(found: PairsSeen, most: int = 40) -> Markup:
    """The comparison with another network."""
    shown = [row for row in found.rows if row.changed or abs(row.gain_db or 0) > 0.05][:most]
    from dataclasses import replace

    facts = [
        (
            letter,
            f"{side.target}, {schemes_text(side)}, {panels.bytes_text(side.learnable_bytes[1])}, {100 * side.integer_mac_share:.1f} % in integers",
        )
        for letter, side in (("A", found.a), ("B", found.b))
    ]
    different = sum(row.changed for row in found.rows)
    told = f"{different} of {len(found.rows)} tensors have other formats." + (
        f" The {len(shown)} that differ most:" if shown else ""
    )
    return section(
        "comparison",
        "Comparison",
        panels.pairs_list(facts),
        *(tag("p", label(note, 300)) for note in found.notes),
        tag("p", told),
        tag("div", pairs_table(replace(found, rows=tuple(shown))), class_="scroll", tabindex=0) if shown else None,
        *(
            tag("p", f"Only in {letter}: ", label(", ".join(names[:8]), 300))
            for letter, names in (("A", found.only_a), ("B", found.only_b))
            if names
        ),
    )


def parts(
    page: Page, *, heats: Sequence[HeatSeen] = (), other: PairsSeen | None = None, drawn: int = DRAWN
) -> tuple[tuple[str, str, Markup], ...]:
    """All parts in reading order, as (id, short name, markup)."""
    axis = shared_axis(page.tensors)
    found: list[tuple[str, str, Markup | None]] = [
        ("summary", "Summary", summary(page)),
        ("findings", "Findings", section("findings", "Findings", panels.findings(page.findings), pane=True)),
        ("floats", "In float", _floats(page)),
        ("tensors", "Tensors", tensors(page, axis, drawn=drawn)),
        ("comparison", "Comparison", None if other is None else comparison(other)),
        ("layers", "Layers", layers(page)),
        ("channels", "Channels", channels(heats)),
        ("folds", "Folding", section("folds", "What folding did", panels.folds(page.folds)) if page.folds else None),
        ("memory", "Memory", _memory(page)),
        ("cycles", "Cycles", _cycles(page)),
        ("settings", "Settings", section("settings", "Settings", panels.pairs_list(page.settings), _notes(page))),
        ("facts", "To do it again", section("facts", "To do it again", panels.pairs_list(page.facts))),
        ("words", "Words", section("words", "Words", panels.glossary())),
    ]
    return tuple((name, short, markup) for name, short, markup in found if markup is not None)


def _floats(page: Page) -> Markup | None:
    return section("floats", "Layers that stay in float", panels.floats(page.floats)) if page.floats else None


def _memory(page: Page) -> Markup | None:
    return section("memory", "Memory", *(charts.memory_map(m) for m in page.memory)) if page.memory else None


def _cycles(page: Page) -> Markup | None:
    if not page.cycles and not page.lanes:
        return None
    return section("cycles", "Cycles", charts.lanes(page.lanes), charts.cycles(page.cycles))


def _notes(page: Page) -> Markup | None:
    if not page.notes:
        return None
    return tag("div", tag("h3", "Notes"), tag("ul", *(tag("li", sentence(note, 500)) for note in page.notes)))


def top(page: Page) -> Markup:
    """The head of the page."""
    chips = [
        f"target {page.side.target}",
        f"{schemes_text(page.side)} · {page.side.samples:,} samples",
        f"bitwright {page.version}",
    ]
    button = tag(
        "button", "◐", type="button", class_="theme", aria_label="Light or dark", data_script=True, hidden=True
    )
    return tag(
        "header",
        tag("h1", label(page.name, 100)),
        tag("div", *spaced(*(tag("span", label(chip, 80), class_="chip") for chip in chips), button), class_="chips"),
        class_="top",
    )


def document(
    page: Page, *, heats: Sequence[HeatSeen] = (), other: PairsSeen | None = None, split: str = "", drawn: int = DRAWN
) -> str:
    """The report: one HTML file that loads nothing.

    Args:
        page: What is seen.
        heats: Heat maps to show.
        other: A comparison to show.
        split: Name of the files beside it that hold style and script (``NAME.css``, ``NAME.js``), for servers whose
            policy refuses what is inline; empty writes both into the file.
        drawn: Tensors that are drawn.
    """
    found = parts(page, heats=heats, other=other, drawn=drawn)
    style, script = stylesheet(), report_script()
    policy = _policy("self", "self") if split else _policy(digest(style), digest(script))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", label_text(page)),
        tag("link", rel="stylesheet", href=f"{split}.css") if split else tag("style", Markup(style)),
    )
    contents = tag(
        "nav",
        *spaced(*(tag("a", short, href=f"#{name}") for name, short, _ in found)),
        class_="contents",
        aria_label="Contents",
    )
    body = tag(
        "body",
        top(page),
        contents,
        tag("main", *(markup for _, _, markup in found), class_="page"),
        tag("script", json_text(page), type="application/json", id=JSON_ID),
        tag("script", src=f"{split}.js", defer=True) if split else tag("script", Markup(script)),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en", class_="bw report") + "\n"


def plain_document(title: str, *content: Content) -> str:
    """A small page without a script, for values that have no report of their own."""
    style = stylesheet()
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(digest(style), "none")),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    main = tag("main", tag("section", *content), class_="page")
    return "<!doctype html>\n" + tag("html", head, tag("body", main), lang="en", class_="bw report") + "\n"


def _policy(style: str, script: str) -> str:
    """What the page may do: its own style and script, pictures that stand in it, nothing else."""
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def label_text(page: Page) -> str:
    """The document's title."""
    from bitwright.errors import printable

    return f"{printable(page.name, 100)} on {printable(page.side.target, 60)} · bitwright"


def json_text(page: Page) -> Markup:
    """The page as JSON that cannot end the element it stands in."""
    plain = json.dumps(page.to_json(), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def tensor_slice(page: Page, first: int, end: int, axis: Axis | None = None) -> Markup:
    """Some rows of the table, on the axis of all."""
    return tensor_table(page.tensors[first:end], axis or shared_axis(page.tensors), ids=lambda k: f"t{first + k}")
