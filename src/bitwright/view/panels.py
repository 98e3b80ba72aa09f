"""The parts of a page that are mostly words: summary, findings, folds, facts, layers in float, glossary."""

from __future__ import annotations

from collections.abc import Sequence

from bitwright.errors import printable
from bitwright.view.drawing import block, line, rect, svg, words
from bitwright.view.markup import TOLD, Content, Markup, label, sentence, spaced, tag
from bitwright.view.seen import FindingSeen, FoldSeen, TileSeen
from bitwright.view.table import number

GLOSSARY = (
    ("SQNR", "Signal to quantization noise: how much larger the values are than their error. 6 dB are one bit."),
    ("Overflow", "Values beyond the range of a format; they become its highest or lowest number."),
    ("Underflow", "Values that are not zero and become zero, because they are less than half a step."),
    ("Step", "The distance of two neighboring numbers of a format; the power of two after the dot in int8·2⁻⁵."),
    ("Fold", "Batch normalization computed into the weights before it; it can stretch their range."),
    ("Bit-exact", "The simulator computed every integer as the reference does; the device computes the same ones."),
)


def tiles(items: Sequence[TileSeen]) -> Markup:
    """The summary."""
    return tag("dl", *(_tile(item) for item in items), class_="tiles")


def _tile(item: TileSeen) -> Markup:
    change = tag("span", f" {item.change}", class_=f"change {item.tone}") if item.change else None
    before = tag("div", f"float {item.before}", class_="note") if item.before else None
    note = tag("div", item.note, class_="note") if item.note else None
    value = tag("span", item.value, class_="value" + (" bad" if item.tone == "bad" and not item.change else ""))
    return tag("div", tag("dt", item.label), tag("dd", value, change, before, note), class_="tile")


def findings(items: Sequence[FindingSeen], *, buttons: bool = False) -> Markup:
    """The findings, the heaviest first; with ``buttons`` those that can be remedied have one."""
    if not items:
        return tag("p", "Nothing stands out.", class_="muted")
    return tag("ol", *(_finding(k, item, buttons=buttons) for k, item in enumerate(items)), class_="findings")


def _finding(index: int, item: FindingSeen, *, buttons: bool) -> Markup:
    head: list[Content] = [tag("strong", label(item.title, 48))]
    if item.kind:
        head.append(tag("span", item.kind, class_="chip"))
    if item.figure:
        head.append(tag("span", item.figure, class_="figure"))
    body: list[Content] = [tag("div", *spaced(*head), class_="head"), tag("p", sentence(item.text))]
    if item.remedy or item.gain:
        gain = (" ", tag("span", f"{item.gain} measured", class_="gain")) if item.gain else None
        body.append(tag("p", sentence(item.remedy, 400), gain, class_="remedy"))
    if item.command:
        body.append(tag("pre", tag("code", label(item.command, 400)), class_="command"))
    if buttons and (item.action or item.command):
        body.append(tag("button", "Apply", type="button", data_finding=index, class_="apply"))
    return tag(
        "li",
        *body,
        class_=f"finding {item.severity}",
        data_finding=index,
        data_tensor=printable(item.tensor, TOLD) or None,
    )


def pairs_list(items: Sequence[tuple[str, str]], class_: str = "facts") -> Markup:
    """(what, value) as a list."""
    cells: list[Content] = []
    for name, value in items:
        cells += [tag("dt", label(name)), tag("dd", label(value, 300))]
    return tag("dl", *cells, class_=class_)


def bytes_text(count: float) -> str:
    """Bytes in decimal units, as the data sheets do it: ``734 kB``, ``2.90 MB``."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return f"{count:.0f} bytes"


def floats(rows: Sequence[tuple[str, str, str]]) -> Markup:
    """Layers that stay in float, and why."""
    if not rows:
        return tag("p", "None: every layer computes in integers.", class_="muted")
    body = [
        tag("tr", tag("th", label(layer), scope="row"), tag("td", label(op, 40)), tag("td", sentence(reason, 400)))
        for layer, op, reason in rows
    ]
    head = tag("thead", tag("tr", *(tag("th", t, scope="col") for t in ("Layer", "Operator", "Reason"))))
    return tag("div", tag("table", head, tag("tbody", *body), class_="plain"), class_="scroll", tabindex=0)


SCALE, BAR = 260, 10


def folds(items: Sequence[FoldSeen], most: int = 24) -> Markup:
    """What folding did to the ranges, the layers that lost most first; all of them in words."""
    weights = sorted((f for f in items if f.kind == "weights"), key=lambda f: -abs(f.bits_lost))
    biases = {f.layer: f for f in items if f.kind == "bias"}
    cards = [fold_card(fold, biases.get(fold.layer)) for fold in weights[:most]]
    more = [
        tag(
            "li",
            label(f.layer),
            ": ",
            sentence(f.text, 300),
            "; ",
            label(biases[f.layer].text, 200) if f.layer in biases else "",
        )
        for f in weights[most:]
    ]
    rest = tag("details", tag("summary", f"{len(more)} more"), tag("ul", *more)) if more else None
    return tag("div", tag("div", *cards, class_="cards"), rest)


def fold_card(fold: FoldSeen, bias: FoldSeen | None = None) -> Markup:
    """One layer: ranges before and after on one scale, and the bits that each channel lost."""
    lost = fold.bits_lost
    chip = (
        f"{lost} bits lost"
        if lost > 1
        else "1 bit lost"
        if lost == 1
        else f"{-lost} bits gained"
        if lost < 0
        else "no bit lost"
    )
    worst = ""
    if fold.worst_channel is not None:
        worst = f"Largest factor ×{fold.worst_scale:.3g}, in channel {fold.worst_channel}."
    return tag(
        "section",
        tag(
            "div",
            tag("strong", label(fold.layer, 48)),
            " ",
            tag("span", chip, class_="chip" + (" bad" if lost > 1 else "")),
            class_="head",
        ),
        tag("p", "took in ", _listed(fold.sources), class_="muted"),
        range_bars(fold.before, fold.after),
        tag("p", sentence(fold.text, 300), ". ", label(f"{bias.text}. ", 200) if bias is not None else None, worst),
        channel_loss(fold.channel_bits_lost),
        class_="card fold",
        data_layer=printable(fold.layer, TOLD),
    )


def _listed(names: Sequence[str]) -> Markup:
    parts: list[Content] = []
    for k, name in enumerate(names[:4]):
        parts += [", " if k else "", label(name, 40)]
    if len(names) > 4:
        parts.append(f" and {len(names) - 4} more")
    return tag("span", *parts)


def range_bars(before: tuple[float, float], after: tuple[float, float]) -> Markup:
    """Two ranges above each other on one linear scale, with zero marked."""
    low, high = min(before[0], after[0], 0.0), max(before[1], after[1], 0.0)
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return 50 + (SCALE - 52) * (value - low) / span

    parts: list[Content] = []
    for y, name, (left, right), token in ((0, "before", before, "in2"), (BAR + 8, "after", after, "in4")):
        parts += [words(0, y + BAR, name, size=10), rect(at(left), y + 1, max(2.0, at(right) - at(left)), BAR, token)]
    parts.append(line([(at(0.0), 0), (at(0.0), 2 * BAR + 10)], "text", 1))
    told = f"before {number(before[0])} to {number(before[1])}, after {number(after[0])} to {number(after[1])}"
    return tag("figure", svg(SCALE, 2 * BAR + 12, *parts, label=told), tag("figcaption", told, class_="muted"))


def channel_loss(lost: Sequence[int], most: int = 256) -> Markup | None:
    """A bar for each channel: down for bits lost, up for bits gained, the worst first."""
    if not any(lost):
        return None
    shown = sorted(lost, reverse=True)[:most]
    high, low = max(0, *shown), max(0, *(-n for n in shown))
    wide = min(8.0, SCALE / len(shown))
    unit = 36 / max(high + low, 1)
    bars_down = [(k * wide, low * unit, max(wide - 0.5, 0.5), n * unit) for k, n in enumerate(shown) if n > 0]
    bars_up = [(k * wide, (low + n) * unit, max(wide - 0.5, 0.5), -n * unit) for k, n in enumerate(shown) if n < 0]
    parts = [block(bars_down, "over3") if bars_down else None, block(bars_up, "in4") if bars_up else None]
    parts.append(line([(0, low * unit), (SCALE, low * unit)], "text", 1))
    harmed = sum(n > 0 for n in lost)
    told = f"{harmed} of {len(lost)} channels lose bits, up to {max(0, *lost)}"
    return tag("figure", svg(SCALE, 38, *parts, label=told), tag("figcaption", told, class_="muted"))


def glossary() -> Markup:
    """The words that the page uses."""
    return pairs_list(GLOSSARY, "facts glossary")
