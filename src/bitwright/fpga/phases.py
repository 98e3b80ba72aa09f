"""Windows that are more than one: the phases of transposed convolutions and of repeated or skipped rows and columns.

Output positions of one phase lie ``step`` apart and all see the same taps, so that each phase is an ordinary window
whose results are stored apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from bitwright.program.forms import Axis

MOST_PHASES = 16


@dataclass(frozen=True)
class Phase:
    """Some of the positions along one axis.

    Attributes:
        first: First position.
        step: Positions from one to the next.
        count: How many.
        axis: The window that each sees.
        taps: Which taps of the whole window these are.
    """

    first: int
    step: int
    count: int
    axis: Axis
    taps: tuple[int, ...] = (0,)


def transposed(axis: Axis, outputs: int) -> list[Phase]:
    """The phases of an axis whose inputs are spread; one phase where they are not.

    Position ``first + q * step``, tap ``k`` reads ``(position * stride + k * dilation - before) / spread`` where that is
    a whole number, which depends on ``q`` no more.
    """
    step = axis.spread // gcd(axis.stride, axis.spread)
    every = axis.spread // gcd(axis.dilation, axis.spread)
    found: list[Phase] = []
    for first in range(min(step, outputs)):
        start = first * axis.stride - axis.before
        taps = tuple(k for k in range(axis.taps) if (start + k * axis.dilation) % axis.spread == 0)
        at = (start + taps[0] * axis.dilation) // axis.spread if taps else 0
        window = Axis(
            taps=max(len(taps), 1),
            stride=step * axis.stride // axis.spread,
            dilation=every * axis.dilation // axis.spread if len(taps) > 1 else 1,
            before=-at,
        )
        found.append(Phase(first, step, -(-(outputs - first) // step), window, taps))
    return found


def walked(line: NDArray[np.int64], total: int) -> list[Phase] | None:
    """The phases of positions ``line`` that are read along an axis of ``total``, -1 where nothing is; None if there are
    none that are few.

    ``0, 0, 1, 1, 2, 2`` are two phases, each ``0, 1, 2``; ``0, 2, 4`` is one.
    """
    for step in range(1, min(len(line), MOST_PHASES) + 1):
        found = [_straight(line[first::step], total) for first in range(step)]
        if all(one is not None for one in found):
            return [Phase(at, step, len(line[at::step]), one) for at, one in enumerate(found) if one is not None]
    return None


def _straight(line: NDArray[np.int64], total: int) -> Axis | None:
    """The window of one tap that reads ``line``."""
    real = np.flatnonzero(line >= 0)
    if not len(real):
        return None
    stride = int(line[real[1]] - line[real[0]]) if len(real) > 1 else 1
    if stride < 1:
        return None
    start = int(line[real[0]]) - int(real[0]) * stride
    meant = start + np.arange(len(line)) * stride
    inside = (meant >= 0) & (meant < total)
    return Axis(stride=stride, before=-start) if np.array_equal(np.where(inside, meant, -1), line) else None
