"""The layer graph, drawn: a box for each layer, colored by what is asked, dashed where it stays float."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from bitwright.errors import printable
from bitwright.view.axis import POOR, quality
from bitwright.view.blocks import MOST, blocks, collapsed, inside
from bitwright.view.drawing import line, rect, short, svg, words
from bitwright.view.layout import layout
from bitwright.view.markup import TOLD, Content, Markup, cut, label, spaced, tag
from bitwright.view.palette import light
from bitwright.view.seen import BoxSeen, GraphSeen

BOX, TALL, ACROSS, DOWN, EDGE = 140, 38, 10, 22, 4
"""Width and height of a box, gaps between boxes and rows, and the margin, in pixels."""

NAME_LETTERS, LETTERS = 19, 21
LOST = (0, 1, 2, 3)
COLORINGS = ("sqnr", "bits", "where")
WHERE = {"integer": "in4", "table": "table", "float": "float", "input": "muted", "output": "muted", "removed": "none"}

Link = Callable[[int, BoxSeen], str | None]


def lost_level(bits: int | None) -> int:
    """How good a loss of bits by folding is: 5 none, 1 four or more; 0 where nothing was folded."""
    return 0 if bits is None else 5 - sum(bits > limit for limit in LOST)


def tag_token(box: BoxSeen, by: str) -> str:
    """The color of a box's tag: by ``sqnr``, ``bits`` or ``where``."""
    if by == "where":
        return WHERE[box.state]
    if box.state == "float":
        return "float"
    how = quality(box.sqnr_db) if by == "sqnr" else lost_level(box.bits_lost)
    return f"db{how}" if how else "none"


def draw_graph(graph: GraphSeen, *, link: Link | None = None, by: str = "sqnr", label: str = "Layers") -> Markup:
    """The graph as one drawing, without blocks.

    Each box is a group of class ``box`` with ``data-box`` (its index), ``data-layer`` (index of the layer that it is
    part of) and, in classes, its three colors: the stylesheet shows the one that ``data-color`` of an ancestor names.

    Args:
        graph: What to draw.
        link: Where a click on a box leads, or None.
        by: The color without a stylesheet.
        label: What the drawing is called for those who do not see it.
    """
    placed = layout(len(graph.boxes), graph.edges)
    step, down = BOX + ACROSS, TALL + DOWN
    middle = [x * step + EDGE - ACROSS / 2 for x in placed.x]
    wires = []
    for (a, b), bends in zip(graph.edges, placed.bends, strict=True):
        points: list[tuple[float, float]] = [(middle[a], placed.row[a] * down + EDGE + TALL)]
        points += [(x * step + EDGE - ACROSS / 2, row * down + EDGE + TALL / 2) for x, row in bends]
        points.append((middle[b], placed.row[b] * down + EDGE))
        wires.append(wire(points))
    shared = {box: group for group, members in enumerate(graph.shared) for box in members}
    boxes = [
        _box(k, box, middle[k] - BOX / 2, placed.row[k] * down + EDGE, link, by, shared.get(k))
        for k, box in enumerate(graph.boxes)
    ]
    width = max(placed.width * step - ACROSS, BOX) + 2 * EDGE
    return svg(
        width,
        placed.rows * down - DOWN + 2 * EDGE,
        tag("g", *wires, class_="wires"),
        *boxes,
        label=label,
        class_="graph",
    )


def wire(points: list[tuple[float, float]]) -> Markup:
    """A smooth line from box to box, straight where it goes straight down."""
    path = [f"M{short(points[0][0])} {short(points[0][1])}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        if abs(x0 - x1) < 0.5:
            path.append(f"V{short(y1)}")
        else:
            half = (y0 + y1) / 2
            path.append(f"C{short(x0)} {short(half)} {short(x1)} {short(half)} {short(x1)} {short(y1)}")
    return tag("path", d="".join(path), fill="none", stroke=light("float"), class_="l-float")


def _box(index: int, box: BoxSeen, x: float, y: float, link: Link | None, by: str, shared: int | None) -> Markup:
    dashed = box.state in {"float", "removed"}
    figure = "" if box.sqnr_db is None else f"{box.sqnr_db:.0f} dB"
    kind = _kind(box, LETTERS - len(figure))
    colors = " ".join(f"{how[0]}-{tag_token(box, how)}" for how in COLORINGS)
    parts: list[Content] = [
        rect(
            x,
            y,
            BOX,
            TALL,
            "card",
            edge="float" if dashed else "rule",
            rx=4,
            stroke_dasharray="4 3" if dashed else None,
        ),
        tag(
            "rect",
            x=short(x),
            y=short(y),
            width=6,
            height=TALL,
            rx=2,
            fill=light(tag_token(box, by)),
            class_=f"tag {colors}",
        ),
        words(x + 12, y + 15, cut(_plain(box.name), NAME_LETTERS - (3 if shared is not None else 0)), "text", 12),
        words(x + 12, y + 30, _plain(kind), "muted", 10),
        words(x + BOX - 6, y + 30, figure, "muted", 10, text_anchor="end") if figure else None,
        tag("title", _told(box)),
    ]
    if shared is not None:
        parts.append(_link_sign(x + BOX - 19, y + 7))
    group = tag(
        "g", *parts, class_=f"box is-{box.state}", data_box=index, data_layer=box.layer if box.layer >= 0 else None,
    )  # fmt: skip
    target = link(index, box) if link is not None else None
    return tag("a", group, href=target) if target else group


def _kind(box: BoxSeen, letters: int) -> str:
    """Operator and shape in so many letters; square images as a power: ``Conv · 64×55²``."""
    shape = re.sub(r"^(.+)×(\d+)×\2$", lambda m: m[1] if m[2] == "1" else f"{m[1]}×{m[2]}²", box.shape)
    op = cut(box.op, max(letters - len(shape) - 3, 6))
    return f"{op} · {shape}" if shape else op


def _link_sign(x: float, y: float) -> Markup:
    """Two links of a chain: the format of what the box makes is that of others."""
    links = [
        tag("rect", x=short(x + dx), y=short(y), width=8, height=5, rx=2.5, fill="none", stroke=light("muted"))
        for dx in (0, 5)
    ]
    return tag("g", *links, tag("title", "Must share its format with others"), class_="l-muted shared")


def _plain(name: str) -> str:
    return printable(name, TOLD)


def _told(box: BoxSeen) -> str:
    """The tip of a box: all that its picture is too small for."""
    lines = [_plain(box.name), " ".join(part for part in (box.op, box.shape) if part)]
    runs = {"integer": "in integers", "table": "by a table", "float": "stays in float", "removed": "taken out"}
    if box.state in runs:
        lines.append(runs[box.state] + (f": {_plain(box.reason)}" if box.reason else ""))
    if box.sqnr_db is not None:
        lines.append(f"{box.sqnr_db:.1f} dB signal to noise")
    if box.bits_lost:
        lines.append(f"{box.bits_lost} bits lost by folding")
    others = [s for s in box.sources if s != box.name]
    if others:
        lines.append("with " + ", ".join(_plain(s) for s in others[:6]) + (" …" if len(others) > 6 else ""))
    return cut("\n".join(part for part in lines if part), 2000)


def graph_section(
    graph: GraphSeen, *, link: Link | None = None, most: int = MOST, open_: bool = False, inner: bool = True
) -> Markup:
    """The graph, in blocks where it is large: the blocks as one drawing, and each of them to be opened below it.

    Args:
        graph: What to draw.
        link: Where a click on a box leads, or None.
        most: Boxes from which on blocks are shown.
        open_: All blocks are open.
        inner: Draw what is in the blocks too; an app draws a block when it is opened, with ``block_graph``.
    """
    parts = blocks(graph, most)
    if len(parts) == len(graph.boxes):
        return draw_graph(graph, link=link)
    whole = collapsed(graph, parts)
    drawing = draw_graph(whole, link=lambda k, _: f"#block-{k}", label="Blocks of layers")
    opened = [
        tag(
            "details",
            tag("summary", label(part.name), tag("span", f" {part.end - part.first} layers", class_="muted")),
            draw_graph(inside(graph, part), link=_shifted(link, part.first), label=f"Layers of block {k + 1}"),
            id=f"block-{k}",
            open=open_,
        )
        for k, part in enumerate(parts)
        if inner and part.end - part.first > 1
    ]
    return tag("div", drawing, *opened, class_="blocks")


def block_graph(graph: GraphSeen, block: int, *, link: Link | None = None, most: int = MOST) -> Markup:
    """What is in one block, for a page that draws it when it is opened.

    Raises:
        IndexError: if there is no such block.
    """
    part = blocks(graph, most)[block]
    return draw_graph(inside(graph, part), link=_shifted(link, part.first), label=f"Layers of block {block + 1}")


def _shifted(link: Link | None, first: int) -> Link | None:
    if link is None:
        return None
    return lambda k, box: link(k + first, box)


def graph_key(by: str = "sqnr") -> Markup:
    """What the colors of the tags mean."""
    keys = {
        "sqnr": [("db1", f"under {POOR[0]:.0f} dB"), *((f"db{k + 2}", f"from {v:.0f} dB") for k, v in enumerate(POOR))],
        "bits": [("db5", "no bit lost"), ("db4", "1 bit"), ("db3", "2"), ("db2", "3"), ("db1", "4 or more")],
        "where": [("in4", "integers"), ("table", "table"), ("float", "float")],
    }
    items: list[Content] = []
    for token, text in keys[by]:
        items += [tag("span", svg(12, 12, rect(0, 0, 12, 12, token, rx=2)), f" {text}", class_="key")]
    dashed = svg(22, 12, line([(0, 6), (22, 6)], "float", 1.5, stroke_dasharray="4 3"))
    items.append(tag("span", dashed, " stays in float", class_="key"))
    return tag("p", *spaced(*items), class_=f"keys by-{by}")
