"""The profile over the network, memory maps, cycles and lanes."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

from bitwright.errors import printable
from bitwright.view.drawing import line, rect, short, svg, words
from bitwright.view.markup import Content, Markup, cut, label, tag
from bitwright.view.palette import light
from bitwright.view.seen import CyclesSeen, LaneSeen, MemorySeen, PointSeen, RegionSeen

WIDE, TALL, LEFT, FOOT = 720, 110, 30, 18
DROPS = 3
DROP_DB = 1.5
LETTER = 6.2
SHADES = ("in3", "db3", "in2", "db2", "under2", "in4", "table", "under3")


def profile(points: Sequence[PointSeen], what: str, *, width: int = WIDE) -> Markup | None:
    """Signal to noise in the order of execution, with the largest drops named."""
    if len(points) < 2:
        return None
    values = [p.sqnr_db for p in points]
    low, high = 10 * floor(min(values) / 10), 10 * ceil(max(values) / 10)
    high += 10 * (high == low)
    step = 10 * max(1, ceil((high - low) / 50))

    def at(k: int, value: float) -> tuple[float, float]:
        return LEFT + (width - LEFT - 8) * k / (len(points) - 1), 8 + (TALL - 8) * (high - value) / (high - low)

    parts: list[Content] = []
    for mark in range(low, high + 1, step):
        y = at(0, mark)[1]
        parts += [line([(LEFT, y), (width, y)], "rule"), words(LEFT - 5, y + 3, str(mark), size=9, text_anchor="end")]
    parts.append(line([at(k, v) for k, v in enumerate(values)], "accent", 1.5, stroke_linejoin="round"))
    drops = sorted(range(1, len(values)), key=lambda k: values[k] - values[k - 1])[:DROPS]
    taken: list[tuple[float, float]] = []
    for k in drops:
        fall = values[k - 1] - values[k]
        if fall < DROP_DB:
            continue
        x, y = at(k, values[k])
        parts.append(tag("circle", cx=short(x), cy=short(y), r=3, fill=light("bad"), class_="f-bad"))
        told = f"{cut(printable(points[k].layer, 400), 22)} −{fall:.1f} dB"
        left = x - 6 - LETTER * len(told) if x > width - 190 else x + 6
        span = (left, left + LETTER * len(told))
        if all(span[1] < start or span[0] > end for start, end in taken):
            taken.append(span)
            ends = "end" if left < x else "start"
            parts.append(words(x - 6 if left < x else x + 6, y - 6, told, "bad", 10, text_anchor=ends))
    parts.append(words(width, TALL + 14, "layers in order of execution →", size=9, text_anchor="end"))
    told = f"{what}: from {values[0]:.1f} to {values[-1]:.1f} dB over {len(values)} layers"
    drawing = svg(width, TALL + FOOT, *parts, label=told, class_="profile")
    return tag("figure", tag("figcaption", what, ", dB", class_="muted"), drawing, tabindex=0)


def memory_map(memory: MemorySeen, *, width: int = WIDE) -> Markup:
    """Bytes upward, steps to the right: which tensor lies where and when; a single bar where nothing ever leaves."""
    timed = memory.steps > 0 and any(r.first is not None for r in memory.regions)
    drawing = _timed(memory, width) if timed else _bar(memory, width)
    head = tag("figcaption", tag("strong", memory.name), f"  {memory.size:,} bytes. {memory.note}")
    return tag("figure", head, drawing, _regions(memory), class_="memory", tabindex=0)


def _timed(memory: MemorySeen, width: int) -> Markup:
    tall, size = 180, max(memory.size, 1)
    across = (width - 2) / (memory.steps + 1)
    parts: list[Content] = [rect(0, 0, width, tall, "none")]
    for k, region in enumerate(memory.regions):
        first, last = region.first or 0, memory.steps if region.last is None else region.last
        x, w = (first + 1) * across, (last - first + 1) * across
        y, h = tall * (1 - (region.offset + region.size) / size), tall * region.size / size
        parts.append(_region(region, k, x, y, min(w, width - x) - 1, max(h - 1, 0.5)))
    parts.append(words(width, tall + 12, "steps of the program →", size=9, text_anchor="end"))
    told = f"{memory.name}: {len(memory.regions)} tensors in {memory.size:,} bytes over {memory.steps} steps"
    return svg(width, tall + 16, *parts, label=told)


def _bar(memory: MemorySeen, width: int) -> Markup:
    size = max(memory.size, 1)
    parts: list[Content] = [rect(0, 0, width, 34, "none")]
    for k, region in enumerate(memory.regions):
        x, w = width * region.offset / size, width * region.size / size
        parts.append(_region(region, k, x, 0, max(w - 0.5, 0.25), 34))
    return svg(width, 34, *parts, label=f"{memory.name}: {len(memory.regions)} parts in {memory.size:,} bytes")


def _region(region: RegionSeen, k: int, x: float, y: float, w: float, h: float) -> Markup:
    told = f"{printable(region.name, 400)}: {region.size:,} bytes at {region.offset:#x}"
    name = None
    if w > 60 and h > 13:
        name = words(x + 4, y + 12, cut(printable(region.name, 400), int(w / 6.5)), "text", 10)
    return tag("g", rect(x, y, w, h, SHADES[k % len(SHADES)], fill_opacity="0.55"), name, tag("title", told))


def _regions(memory: MemorySeen) -> Markup:
    rows = [
        tag(
            "tr",
            tag("th", label(r.name, 60), scope="row"),
            tag("td", f"{r.offset:#010x}", class_="number"),
            tag("td", f"{r.size:,}", class_="number"),
            tag("td", "always" if r.first is None else f"{max(r.first, 0)} … {r.last}", class_="number"),
        )
        for r in memory.regions
    ]
    heads = ("Region", "Offset", "Bytes", "Steps")
    head = tag(
        "thead", tag("tr", *(tag("th", t, scope="col", class_="number" if k else None) for k, t in enumerate(heads)))
    )
    return tag(
        "details", tag("summary", f"{len(rows)} regions"), tag("table", head, tag("tbody", *rows), class_="plain")
    )


def cycles(items: Sequence[CyclesSeen], *, width: int = 260) -> Markup | None:
    """A bar from zero for each layer."""
    if not items:
        return None
    most = max(item.cycles for item in items) or 1
    rows = [
        tag(
            "tr",
            tag("th", label(item.layer, 60), scope="row"),
            tag("td", svg(width, 12, rect(0, 1, max(1.0, width * item.cycles / most), 10, "in4"))),
            tag("td", f"{item.cycles:,}", class_="number"),
            tag("td", f"{100 * item.share:.1f} %", class_="number"),
            tag("td", label(item.note, 200), class_="muted"),
        )
        for item in items
    ]
    heads = ("Layer", "", "Cycles", "Share", "Held up by")
    head = tag("thead", tag("tr", *(tag("th", t, scope="col") for t in heads)))
    return tag("table", head, tag("tbody", *rows), class_="plain cycles")


def lanes(items: Sequence[LaneSeen], *, width: int = WIDE) -> Markup | None:
    """What each unit does when, a lane for each: what overlaps and what waits."""
    if not items:
        return None
    units = list(dict.fromkeys(item.unit for item in items))
    layers = list(dict.fromkeys(item.layer for item in items))
    end = max(item.end for item in items) or 1
    parts: list[Content] = []
    for row, unit in enumerate(units):
        parts.append(rect(80, row * 22, width - 80, 18, "none"))
        parts.append(words(0, row * 22 + 13, cut(printable(unit, 60), 12), "text", 10))
    for item in items:
        x, w = 80 + (width - 80) * item.start / end, (width - 80) * (item.end - item.start) / end
        told = tag(
            "title", f"{printable(item.layer, 200)}, {printable(item.unit, 60)}: cycles {item.start:,} to {item.end:,}"
        )
        shade = SHADES[layers.index(item.layer) % len(SHADES)]
        parts.append(tag("g", rect(x, units.index(item.unit) * 22, max(w, 0.5), 18, shade), told))
    return svg(width, 22 * len(units), *parts, label=f"What {len(units)} units do over {end:,} cycles", class_="lanes")
