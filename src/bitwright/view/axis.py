"""The axis of powers of two that all strips share, and how dark a cell is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bitwright.view.seen import BitsSeen, TensorSeen

WIDEST = 40
BELOW = 4
"""So many columns below the finest step are shown; what is lower is gathered in the last one."""

SHARES = (0.005, 0.05, 0.2, 0.5)
"""Shares of the fullest column above which a cell is one level darker; a log scale would make everything dark."""

POOR = (15.0, 22.0, 28.0, 34.0)
"""Signal to noise, in decibel, above which a color is one level better."""


@dataclass(frozen=True)
class Axis:
    """Columns from ``2^top`` down to ``2^bottom``.

    Attributes:
        top: The power of the first column.
        bottom: The power of the last.
    """

    top: int
    bottom: int

    @property
    def columns(self) -> int:
        """How many."""
        return self.top - self.bottom + 1

    def column(self, power: int) -> int:
        """The column of ``2^power``; beyond the ends the first or the last one."""
        return min(max(self.top - power, 0), self.columns - 1)

    def powers(self, every: int = 4) -> tuple[int, ...]:
        """The powers that are labelled: those that ``every`` divides."""
        return tuple(p for p in range(self.top, self.bottom - 1, -1) if p % every == 0)


def shared_axis(tensors: Iterable[TensorSeen]) -> Axis:
    """The axis on which all of ``tensors`` are shown: empty columns at both ends are left out."""
    tops, bottoms, steps = [], [], []
    for tensor in tensors:
        totals = () if tensor.bits is None else tensor.bits.totals
        filled = [k for k, n in enumerate(totals) if n]
        if tensor.bits is None or not filled:
            continue
        tops.append(tensor.bits.top - filled[0])
        bottoms.append(tensor.bits.top - filled[-1])
        if tensor.kind != "Bias":  # a bias is held at the step of the sum, far below what shows
            steps.append(tensor.type.bottom)
    if not tops:
        return Axis(3, -4)
    top = max(tops)
    lowest = max(min(bottoms), min(steps, default=min(bottoms)) - BELOW, top - WIDEST + 1)
    return Axis(top, min(lowest, top))


@dataclass(frozen=True)
class Cell:
    """One column of a strip.

    Attributes:
        column: Its place, 0 at the left.
        inside: Values that the format holds.
        over: Values beyond its range.
        under: Values below its step.
    """

    column: int
    inside: int
    over: int
    under: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.inside + self.over + self.under


def cells(bits: BitsSeen, axis: Axis) -> tuple[Cell, ...]:
    """The columns of ``axis`` that hold values; what lies beyond an end is counted in the last column there."""
    found: dict[int, list[int]] = {}
    for k, parts in enumerate(bits.columns):
        if any(parts):
            sums = found.setdefault(axis.column(bits.top - k), [0, 0, 0])
            for j, part in enumerate(parts):
                sums[j] += part
    return tuple(Cell(column, *sums) for column, sums in sorted(found.items()))


def level(count: int, most: int) -> int:
    """How dark a cell is, 1 to 5, 0 if it is empty: by its share of the fullest one."""
    if count <= 0 or most <= 0:
        return 0
    return 1 + sum(count > share * most for share in SHARES)


def quality(decibel: float | None) -> int:
    """How good a signal to noise is, 1 to 5; 0 if it is not known."""
    return 0 if decibel is None else 1 + sum(decibel >= limit for limit in POOR)


def lane(tensor: TensorSeen, axis: Axis) -> tuple[int, int] | None:
    """First and last column that the format holds; None if it lies off the axis."""
    kind = tensor.type
    if kind.top < axis.bottom or kind.bottom > axis.top:
        return None
    return axis.column(kind.top), axis.column(kind.bottom)
