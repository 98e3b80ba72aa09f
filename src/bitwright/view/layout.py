"""Where the boxes of a layer graph go: rows by the longest path, few crossings, straight lines.

A layered drawing in four steps after Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system
structures" (1981): rows, invisible boxes where an edge passes rows, the order within a row by medians of neighbors, and
places that are nearest to the neighbors' (least squares under a distance, by pool-adjacent-violators).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SWEEPS = 4
PASSES = 6


@dataclass(frozen=True)
class Layout:
    """Places in units of a box and a row.

    Attributes:
        x: Middle of each box, 0 at the left edge of the drawing.
        row: Row of each box.
        bends: For each edge the (x, row) that it passes between its ends.
        width: Width of the drawing in boxes.
        rows: Number of rows.
    """

    x: tuple[float, ...]
    row: tuple[int, ...]
    bends: tuple[tuple[tuple[float, int], ...], ...]
    width: float
    rows: int


def layout(count: int, edges: Sequence[tuple[int, int]], *, slim: float = 0.25) -> Layout:
    """Place ``count`` boxes.

    Args:
        count: Number of boxes.
        edges: (from, to) with from < to: boxes are numbered in the order of execution.
        slim: Width of a line that passes a row, in boxes.

    Raises:
        ValueError: if an edge goes backward.
    """
    if any(not 0 <= a < b < count for a, b in edges):
        raise ValueError("edges go from a box to a later one")
    if not count:
        return Layout((), (), tuple(() for _ in edges), 0.0, 0)
    row = _rows(count, edges)
    rows = max(row) + 1
    # Invisible boxes: every edge goes from one row to the next.
    at_row: list[list[int]] = [[] for _ in range(rows)]
    for box in range(count):
        at_row[row[box]].append(box)
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    widths = [1.0] * count
    chains: list[list[int]] = []
    for a, b in edges:
        chain, last = [], a
        for level in range(row[a] + 1, row[b]):
            new = len(widths)
            widths.append(slim)
            above.append([last])
            below.append([])
            below[last].append(new)
            at_row[level].append(new)
            chain.append(new)
            last = new
        below[last].append(b)
        above[b].append(last)
        chains.append(chain)
    _order(at_row, above, below)
    x = _places(at_row, above, below, widths)
    left = min(x[n] - widths[n] / 2 for n in range(len(widths)))
    right = max(x[n] + widths[n] / 2 for n in range(len(widths)))
    level_of = {n: k for k, names in enumerate(at_row) for n in names}
    bends = tuple(tuple((x[n] - left, level_of[n]) for n in chain) for chain in chains)
    return Layout(tuple(x[n] - left for n in range(count)), tuple(row), bends, right - left, rows)


def _rows(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest path from a start, then starts pulled down to just above who reads them."""
    row = [0] * count
    for a, b in sorted(edges, key=lambda e: e[1]):
        row[b] = max(row[b], row[a] + 1)
    readers: list[list[int]] = [[] for _ in range(count)]
    fed = [False] * count
    for a, b in edges:
        readers[a].append(b)
        fed[b] = True
    for box in range(count - 1, -1, -1):
        if not fed[box] and readers[box]:
            row[box] = max(row[box], min(row[b] for b in readers[box]) - 1)
    return row


def _order(at_row: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Sort each row by the medians of its neighbors', down and up again; stable, so that equal ones keep their order."""
    place = [0] * len(above)
    for names in at_row:
        for k, n in enumerate(names):
            place[n] = k

    def sweep(names: list[int], neighbors: list[list[int]]) -> None:
        keys = {n: _median([place[m] for m in neighbors[n]], place[n]) for n in names}
        names.sort(key=lambda n: keys[n])
        for k, n in enumerate(names):
            place[n] = k

    for _ in range(SWEEPS):
        for names in at_row[1:]:
            if len(names) > 1:
                sweep(names, above)
        for names in reversed(at_row[:-1]):
            if len(names) > 1:
                sweep(names, below)


def _median(values: list[int], otherwise: float) -> float:
    if not values:
        return otherwise
    values.sort()
    middle = len(values) // 2
    return float(values[middle]) if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def _places(
    at_row: list[list[int]], above: list[list[int]], below: list[list[int]], widths: list[float]
) -> list[float]:
    """Places that keep the order and the distances and come as near as they can to the neighbors' middle."""
    x = [0.0] * len(widths)
    offsets: list[float] = [0.0] * len(widths)
    for names in at_row:
        at = 0.0
        for k, n in enumerate(names):
            if k:
                at += (widths[names[k - 1]] + widths[n]) / 2
            offsets[n] = x[n] = at
        for n in names:
            x[n] -= at / 2
    for turn in range(PASSES):
        rows = at_row[1:] if turn % 2 == 0 else at_row[-2::-1]
        neighbors = above if turn % 2 == 0 else below
        for names in rows:
            wanted = [_mean([x[m] for m in neighbors[n]], x[n]) - offsets[n] for n in names]
            for n, place in zip(names, _pooled(wanted), strict=True):
                x[n] = place + offsets[n]
    return x


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _pooled(wanted: Sequence[float]) -> list[float]:
    """The ascending numbers nearest to ``wanted`` in least squares (pool adjacent violators)."""
    sums: list[tuple[float, int]] = []
    for value in wanted:
        total, count = value, 1
        while sums and sums[-1][0] / sums[-1][1] > total / count:
            before, number = sums.pop()
            total, count = total + before, count + number
        sums.append((total, count))
    return [total / count for total, count in sums for _ in range(count)]
