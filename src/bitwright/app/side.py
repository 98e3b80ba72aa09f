"""The right-hand side: findings first; a layer, a tensor or several tensors once they are selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bitwright.app.ask import Ask, Names, mark_of
from bitwright.app.session import Session
from bitwright.app.settings import Step
from bitwright.app.steps import button, choice, form
from bitwright.app.whatif import Bench, WhatIf
from bitwright.tensors import rescaled
from bitwright.view import panels
from bitwright.view.axis import Axis, shared_axis
from bitwright.view.bars import bars
from bitwright.view.heat import heat, heat_seen
from bitwright.view.markup import Content, Markup, label, tag
from bitwright.view.seen import BoxSeen, Page, TensorSeen
from bitwright.view.strip import percent, strip
from bitwright.view.table import number, type_text

if TYPE_CHECKING:
    from bitwright.view.seen import FoldSeen

SHOWN_PICKED = 12
AROUND = 4
"""Columns beside a tensor's values, so that its format can be dragged there."""


def findings_side(session: Session, ask: Ask, page: Page) -> Markup:
    """What stands out, each with the button that mends it."""
    quantized = session.made("quantize", Step.QUANTIZE, ".bw") is not None
    explain: Content = None
    if quantized:
        explain = form(
            session, "run/explain", ask,
            button("Explain the loss"),
            tag("span", " measures what each layer costs and tries remedies", class_="muted"),
            class_="inline",
        )  # fmt: skip
    hint = "Select a layer or a row to change its type and see the effect."
    return tag(
        "div",
        tag("div", tag("h2", "Findings"), class_="head"),
        with_buttons(session, ask, page) if page.findings else tag("p", first_words(session), class_="muted"),
        tag("p", hint, class_="muted") if quantized else None,
        explain,
        class_="findings-side",
    )


def first_words(session: Session) -> str:
    """What to do where nothing was found yet."""
    mark = session.mark(Step.CALIBRATE)
    if mark == "todo":
        return "Calibrate to see where the bits of every tensor lie, and what stands out."
    if session.mark(Step.QUANTIZE) in {"todo", "stale"}:
        return "Quantize to see what stands out."
    return "Nothing stands out."


def with_buttons(session: Session, ask: Ask, page: Page) -> Markup:
    """The findings; under each a form that applies its remedy, and a link to what it is about."""
    cards: list[Content] = []
    for k, item in enumerate(page.findings):
        one = panels.findings([item])
        tools: list[Content] = []
        if item.action:
            tools.append(
                form(
                    session, "remedy", ask,
                    tag("input", type="hidden", name="finding", value=k),
                    button("Apply this remedy", primary=True),
                    class_="inline",
                )
            )  # fmt: skip
        if item.tensor:
            link = ask.but(pick=(mark_of(item.tensor),), layer="", step="")
            tools.append(tag("a", "Show the tensor", href=link.query, data_go="side"))
        elif item.layer:
            link = ask.but(layer=mark_of(item.layer), pick=(), step="")
            tools.append(tag("a", "Show the layer", href=link.query, data_go="side"))
        cards.append(tag("div", one, tag("div", *tools, class_="tools") if tools else None, class_="with-tools"))
    return tag("div", *cards, class_="cards-one")


# ---------------------------------------------------------------------- a layer


def layer_side(session: Session, ask: Ask, page: Page, names: Names) -> Markup:
    """What became of some layers of the source network: which became one, and what that did to the ranges."""
    box = page.optimized.boxes[names.layers[ask.layer]]
    runs = {"integer": "integers", "table": "a table", "float": "float", "input": "input", "output": "output"}
    parts: list[Content] = []
    others = box.sources
    if len(others) > 1:
        parts.append(tag("p", f"{len(others)} layers of the network became this one:"))
        parts.append(tag("ol", *(tag("li", label(s, 60)) for s in others[:24]), class_="sources"))
    if box.reason:
        parts.append(tag("p", tag("strong", "Stays in float: "), label(box.reason, 600), class_="reason"))
    facts = [("Computed in", runs.get(box.state, box.state)), ("Makes", box.shape)]
    if box.macs:
        facts.append(("Multiply-accumulates", f"{box.macs:,}"))
    if box.sqnr_db is not None:
        facts.append(("SQNR of its output", f"{box.sqnr_db:.1f} dB"))
    parts.append(panels.pairs_list(facts))
    parts.append(fold_part(page, box))
    own = [names.tensors[names.marks[t]] for t in box.tensors if t in names.marks]
    if own:
        axis = shared_axis(own)
        rows = [_tensor_line(t, axis, ask, names) for t in own]
        parts.append(tag("table", tag("tbody", *rows), class_="plain own"))
    return tag("div", _head(box.name, box.op, ask), *parts, class_="layer-side")


def fold_part(page: Page, box: BoxSeen) -> Content:
    """What folding did to the ranges of a layer's weights and bias."""
    of_layer: list[FoldSeen] = [f for f in page.folds if f.layer == box.name]
    weights = [f for f in of_layer if f.kind == "weights"]
    bias = next((f for f in of_layer if f.kind == "bias"), None)
    return [panels.fold_card(f, bias) for f in weights] or None


def _tensor_line(tensor: TensorSeen, axis: Axis, ask: Ask, names: Names) -> Markup:
    kind = tensor.kind.lower()
    link = ask.but(pick=(names.marks[tensor.name],), layer="").query
    return tag(
        "tr",
        tag("th", tag("a", kind, href=link, data_go="side"), tag("div", type_text(tensor.type)), scope="row"),
        tag("td", strip(tensor, axis, cell=6), class_="bits"),
    )


def _head(name: str, kind: str, ask: Ask) -> Markup:
    back = ask.but(pick=(), layer="").query
    return tag(
        "div",
        tag("h2", label(name, 60)),
        tag("span", kind, class_="chip"),
        tag("a", "Findings", href=back, class_="close", data_go="side", title="Back to the findings (Esc)"),
        class_="head",
    )


# ---------------------------------------------------------------------- one tensor


def tensor_side(session: Session, ask: Ask, tensor: TensorSeen, found: WhatIf | None, bench: Bench | None) -> Markup:
    """The histogram with its type as a bracket, fields, figures, and the buttons that make them true."""
    kind = {"Weights": "weights", "Bias": "bias", "Activations": "activations"}[tensor.kind]
    told = [f"{kind} of ", label(tensor.layer, 40)] if tensor.layer else ["an input of the network"]
    count = tensor.bits.count if tensor.bits else 0
    about: list[Content] = [*told]
    if tensor.shape:
        about.append(f" · {tensor.shape}")
    if count:
        zeros = tensor.bits.zeros / count if tensor.bits else 0.0
        about.append(f" · {percent(zeros)} zero")
    parts: list[Content] = [_head(tensor.name, tensor.kind, ask), tag("p", *about, class_="muted")]
    if found is None or bench is None:
        parts.append(tag("div", bars(tensor, axis_around(tensor)), class_="bars-box"))
        parts.append(tag("p", why_not(session), class_="muted"))
        return tag("div", *parts, class_="tensor-side")
    parts.append(tag("div", tried(session, ask, found, bench), id="tried"))
    if tensor.kind == "Weights":
        seen = heat_seen(bench.q, tensor.name)
        if seen is not None and len(seen.rows) > 1:
            parts.append(tag("h3", f"Channels ({len(seen.rows)}), the widest first"))
            parts.append(heat(seen))
    return tag("div", *parts, class_="tensor-side")


def why_not(session: Session) -> str:
    """Why a tensor's type cannot be tried just now."""
    found = session.quantized()
    if found is not None and rescaled(found[0]):
        return (
            "A repair moved scales between layers (equalize), so this tensor no longer holds the numbers that calibration "
            "saw: its type cannot be tried by itself. Take the repair out under Quantize to do that."
        )
    return "Its type can be changed once the network is quantized."


def axis_around(tensor: TensorSeen) -> Axis:
    """The tensor's own columns, with room to drag."""
    own = shared_axis([tensor])
    top = max(own.top, min(tensor.type.top, own.top + 12))
    bottom = min(own.bottom, max(tensor.type.bottom, own.bottom - 12))
    return Axis(top + AROUND // 2, max(bottom - AROUND // 2, top - 30))


def tried(session: Session, ask: Ask, found: WhatIf, bench: Bench) -> Markup:
    """The part that changes while a type is dragged."""
    after, before = found.after, found.before
    fixed = dict(session.settings.formats)
    mark = mark_of(before.name)
    axis = axis_around(before)
    picture = tag(
        "div",
        bars(after, axis),
        class_="bars-box",
        id="bracket",
        role="slider",
        tabindex=0,
        aria_label="Type: arrow keys move it, with Shift they change its width",
        aria_valuenow=after.type.bottom,
        aria_valuemin=-64,
        aria_valuemax=64,
        aria_valuetext=f"{after.type.text}, {_decibel(after, exact=found.exact)}",
        data_mark=mark,
        data_bits=after.type.bits,
        data_bottom=after.type.bottom,
        data_top=after.type.top,
    )
    format_field = found.format
    moved = after.type != before.type
    rows: list[tuple[str, Content]] = [
        (
            "Type",
            [type_text(after.type), tag("span", " was ", type_text(before.type), class_="muted") if moved else None],
        ),
        ("Range", f"{number(after.type.low)} … {number(after.type.high)}"),
        ("Step", number(after.type.step)),
        ("Overflow", _share(after.overflow, before.overflow, "▲", moved=moved)),
        ("Underflow", _share(after.underflow, before.underflow, "▼", moved=moved)),
        ("Seen", f"{number(after.min)} … {number(after.max)}" if after.min is not None else "not known"),
        ("SQNR", _sqnr(found)),
    ]
    cells: list[Content] = []
    for name, value in rows:
        cells += [tag("dt", name), tag("dd", value)]
    schemes = [("", "as it is")]
    if bench.schemes_apply(before):
        from bitwright.calibrate.scheme import schemes as all_schemes

        schemes += [(name, name) for name in all_schemes()]
    fields = form(
        session, "formats", ask,
        tag("input", type="hidden", name="mark", value=mark),
        tag("input", type="hidden", name="format", value=format_field, id="format"),
        tag(
            "div",
            choice("sign", "signed", [("yes", "signed"), ("no", "unsigned")], "yes" if after.type.signed else "no", data_try="signed"),
            _number_field("bits", "bits", after.type.bits, 2, 32),
            _number_field("fraction" if after.type.exponent is not None else "finer", "fraction",
                          -after.type.bottom, -64, 64),
            choice("scheme", "scheme", schemes, "", data_try="scheme"),
            class_="type-fields",
        ),
        tag(
            "p",
            button("Apply", primary=True, name="do", value="apply"),
            button("Reset", name="reset", value="one", disabled=before.name not in fixed and not moved),
            class_="buttons",
        ),
    )  # fmt: skip
    notes: list[Content] = []
    if found.refusal:
        notes.append(tag("p", label(found.refusal, 900), class_="refusal", role="alert"))
    if found.others:
        shown = ", ".join(found.others[:3]) + (f" and {len(found.others) - 3} more" if len(found.others) > 3 else "")
        notes.append(tag("p", "Shares its format with ", label(shown, 200), ": they move together.", class_="muted"))
    if before.name in fixed:
        notes.append(tag("p", f"Set by hand: {fixed[before.name][:80]}", class_="muted"))
    if not found.exact:
        notes.append(
            tag("p", "≈ estimated from the calibration's histogram; Apply measures the exact figures.", class_="muted")
        )
    every = tag(
        "a",
        f"Select all {before.kind.lower()}",
        href=ask.but(pick=("all",), kind=before.kind).query,
        data_pick_kind=before.kind,
        hidden=True,
    )
    return tag("div", picture, fields, tag("dl", *cells, class_="facts figures"), *notes, every)


def _number_field(text: str, name: str, value: int, low: int, high: int) -> Markup:
    return tag(
        "label",
        tag("span", text, class_="label"),
        tag("input", type="number", name=name, value=value, min=low, max=high, step=1, data_try=name),
        class_="field narrow",
    )


def _share(after: float | None, before: float | None, flag: str, *, moved: bool) -> Content:
    if after is None:
        return "not known"
    shown: list[Content] = [
        tag("span", f"{flag} {percent(after)}" if after > 0 else percent(after), class_="bad" if after > 0.01 else None)
    ]
    if moved and before is not None and abs(after - before) >= 0.0005:
        shown.append(tag("span", f" {100 * (after - before):+.1f}".replace("-", "−"), class_="muted"))
    return shown


def _decibel(tensor: TensorSeen, *, exact: bool) -> str:
    sign = "" if exact else "≈ "
    return (
        "nothing lost"
        if tensor.lossless
        else "not known"
        if tensor.sqnr_db is None
        else f"{sign}{tensor.sqnr_db:.1f} dB"
    )


def _sqnr(found: WhatIf) -> Content:
    after, before = found.after, found.before
    parts: list[Content] = [tag("strong", _decibel(after, exact=found.exact))]
    if after.sqnr_db is not None and before.sqnr_db is not None and after.type != before.type:
        gain = after.sqnr_db - before.sqnr_db
        tone = "gain" if gain > 0.05 else "loss" if gain < -0.05 else "muted"
        parts.append(tag("span", f" {gain:+.1f} dB".replace("-", "−"), class_=tone))
    return parts


# ---------------------------------------------------------------------- several tensors


def many_side(session: Session, ask: Ask, tensors: Sequence[TensorSeen]) -> Markup:
    """Several tensors: move all their types together."""
    from bitwright.calibrate.scheme import schemes

    axis = shared_axis(tensors)
    rows = [
        tag("tr", tag("th", label(t.name, 32), tag("div", type_text(t.type), class_="muted"), scope="row"),
            tag("td", strip(t, axis, cell=5), class_="bits"))
        for t in tensors[:SHOWN_PICKED]
    ]  # fmt: skip
    more = len(tensors) - SHOWN_PICKED
    buttons = form(
        session, "formats", ask,
        tag("input", type="hidden", name="marks", value=".".join(mark_of(t.name) for t in tensors)),
        tag("p", button("One bit finer", name="shift", value="-1"), button("One bit coarser", name="shift", value="1"),
            button("Reset", name="reset", value="these"), class_="buttons"),
        choice("Formats that a scheme would choose", "scheme", [(n, n) for n in schemes()], "minmax"),
        tag("p", button("Take them", name="do", value="scheme"), class_="buttons"),
    )  # fmt: skip
    return tag(
        "div",
        _head(f"{len(tensors)} tensors", "selected", ask),
        tag("p", "Shift or Ctrl with a click, or Space, selects more.", class_="muted"),
        buttons,
        tag("table", tag("tbody", *rows), class_="plain own"),
        tag("p", f"and {more} more", class_="muted") if more > 0 else None,
        class_="many-side",
    )
