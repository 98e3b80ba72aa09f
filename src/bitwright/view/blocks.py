"""Large graphs in blocks: stretches of the execution order, cut where one tensor passes and where names change."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bitwright.view.seen import BoxSeen, GraphSeen, State

MOST = 60
"""Boxes that a graph may have before it is shown in blocks."""

PART = re.compile(r"[/._:-]+")
WORST: tuple[State, ...] = ("float", "table", "integer", "input", "output", "removed")


@dataclass(frozen=True)
class Block:
    """A stretch of a graph.

    Attributes:
        name: What its layers' names have in common, or the first and the last.
        first: Index of its first box.
        end: Index after its last box.
    """

    name: str
    first: int
    end: int


def blocks(graph: GraphSeen, most: int = MOST) -> tuple[Block, ...]:
    """At most about ``most`` stretches that cover the graph in order; one for each box where there are not more.

    Any division of an order of execution into stretches leaves a graph without circles.
    """
    count = len(graph.boxes)
    if count <= most:
        return tuple(Block(box.name, k, k + 1) for k, box in enumerate(graph.boxes))
    live = _live(graph)
    size = -(-count // most)
    names = [PART.split(box.name) for box in graph.boxes]
    found, first = [], 0
    while first < count:
        if count - first <= size * 3 // 2:
            found.append(_named(graph, first, count))
            break
        ends = range(first + max(size // 2, 1), min(first + 2 * size, count) + 1)
        end = min(ends, key=lambda e: (_cost(live, names, first, e, size), e))
        found.append(_named(graph, first, end))
        first = end
    return tuple(found)


def _live(graph: GraphSeen) -> list[int]:
    """How many boxes' outputs pass each cut; ``[k]`` is the cut before box ``k``."""
    last = list(range(len(graph.boxes)))
    for a, b in graph.edges:
        last[a] = max(last[a], b)
    change = [0] * (len(last) + 2)
    for a, b in enumerate(last):
        if b > a:
            change[a + 1] += 1
            change[b + 1] -= 1
    live, total = [], 0
    for step in change:
        total += step
        live.append(total)
    return live


def _cost(live: list[int], names: list[list[str]], first: int, end: int, size: int) -> float:
    """How bad a cut before ``end`` is: tensors that pass it, names that go on, and an unlike size."""
    goes_on = end < len(names) and names[end - 1][:-1] == names[end][:-1] and len(names[end]) > 1
    return 2.0 * (live[end] if end < len(names) else 0) + goes_on + abs(end - first - size) / size


def _named(graph: GraphSeen, first: int, end: int) -> Block:
    inner = [box.name for box in graph.boxes[first:end]]
    if len(inner) == 1:
        return Block(inner[0], first, end)
    low, high = min(inner), max(inner)
    same = next((k for k, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    common = re.sub(r"[/._:\-]+$", "", low[:same])
    return Block(common if len(common) > 2 else f"{inner[0]} … {inner[-1]}", first, end)


def collapsed(graph: GraphSeen, parts: tuple[Block, ...]) -> GraphSeen:
    """The graph of the blocks: each shows the worst that is in it."""
    home = [k for k, part in enumerate(parts) for _ in range(part.end - part.first)]
    boxes = tuple(_whole(graph.boxes[part.first : part.end], part) for part in parts)
    edges = sorted({(home[a], home[b]) for a, b in graph.edges if home[a] != home[b]})
    return GraphSeen(boxes=boxes, edges=tuple(edges))


def _whole(inner: tuple[BoxSeen, ...], part: Block) -> BoxSeen:
    if len(inner) == 1:
        return inner[0]
    known = [box.sqnr_db for box in inner if box.sqnr_db is not None]
    lost = [box.bits_lost for box in inner if box.bits_lost is not None]
    floats = sum(box.state == "float" for box in inner)
    return BoxSeen(
        name=part.name,
        op=f"{len(inner)} layers",
        shape=inner[-1].shape,
        state=min((box.state for box in inner), key=WORST.index),
        reason=f"{floats} of {len(inner)} layers stay in float" if floats else "",
        sqnr_db=min(known, default=None),
        bits_lost=max(lost, default=None),
        layer=inner[0].layer,
        macs=sum(box.macs for box in inner),
    )


def inside(graph: GraphSeen, part: Block) -> GraphSeen:
    """The graph of what is in one block."""
    edges = tuple(
        (a - part.first, b - part.first) for a, b in graph.edges if part.first <= a and b < part.end and a < part.end
    )
    return GraphSeen(boxes=graph.boxes[part.first : part.end], edges=edges)
