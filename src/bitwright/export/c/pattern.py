"""Regular copies: lists of (to, from) positions as loop nests.

A move is first written down element by element, which is right by construction, and then folded into loops: runs with
one step each way become a loop, equal runs at regular distances another loop around it, and so on.  Where starts are
irregular a table of starts remains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Loop:
    """Repeat ``count`` times, going on by ``to`` and ``source`` elements each time."""

    count: int
    to: int
    source: int


@dataclass(frozen=True, eq=False)
class Copy:
    """A regular copy.

    Attributes:
        loops: From the outermost to the innermost.
        to: First position written.
        source: First position read.
        starts: Further starts ``[n, 2]`` (to, from) relative to the first, around all loops; None for one start at 0.
    """

    loops: tuple[Loop, ...]
    to: int
    source: int
    starts: Indices | None = None

    @property
    def count(self) -> int:
        """Elements copied."""
        total = 1 if self.starts is None else len(self.starts)
        for loop in self.loops:
            total *= loop.count
        return total


def fold(to: Indices, source: Indices) -> Copy:
    """The loop nest that copies ``source[i]`` to ``to[i]`` for all ``i``, in this order.

    Args:
        to: Positions written.
        source: Positions read, as many, at least one.
    """
    pairs = np.stack([to, source], 1).astype(np.int64)
    loops: list[Loop] = []
    while len(pairs) > 1:
        run = _run(pairs)
        if run == 1:
            break
        step = pairs[1] - pairs[0]
        loops.insert(0, Loop(run, int(step[0]), int(step[1])))
        pairs = pairs[::run]
    first = pairs[0]
    starts = pairs - first if len(pairs) > 1 else None
    return Copy(tuple(loops), int(first[0]), int(first[1]), starts)


def _run(pairs: Indices) -> int:
    """The longest run, a divisor of the length, such that all runs of that length go by one and the same step."""
    steps = np.diff(pairs, axis=0)
    breaks = np.flatnonzero((steps != steps[0]).any(1))
    if not len(breaks):
        return len(pairs)
    # A run may end only where the step changes; it must end at every such place, so try what divides the first.
    longest = int(breaks[0]) + 1
    for run in range(longest, 1, -1):
        if len(pairs) % run == 0 and longest % run == 0 and bool(((breaks + 1) % run == 0).all()):
            return run
    return 1


def expand(copy: Copy) -> tuple[Indices, Indices]:
    """The inverse of :func:`fold`: all positions written and read, in order."""
    to, source = np.array([copy.to]), np.array([copy.source])
    if copy.starts is not None:
        to, source = to + copy.starts[:, 0], source + copy.starts[:, 1]
    for loop in copy.loops:
        steps = np.arange(loop.count)
        to = (to[:, None] + steps * loop.to).ravel()
        source = (source[:, None] + steps * loop.source).ravel()
    return to.astype(np.int64), source.astype(np.int64)


def two_level(positions: Indices) -> tuple[int, int, int] | None:
    """``(start, run, pitch)`` with ``positions[p] == start + p // run * pitch + p % run``, or None.

    For an unbroken stretch run and pitch are its length.
    """
    size = len(positions)
    steps = np.diff(positions)
    breaks = np.flatnonzero(steps != 1)
    if not len(breaks):
        return int(positions[0]), size, size
    run = int(breaks[0]) + 1
    if size % run:
        return None
    pitch = int(positions[run] - positions[0])
    places = np.arange(size)
    found = positions[0] + places // run * pitch + places % run
    return (int(positions[0]), run, pitch) if pitch >= run and np.array_equal(found, positions) else None
