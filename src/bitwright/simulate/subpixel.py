"""A transposed convolution as an ordinary one: every output position modulo the spread is a channel of its own.

With ``p = m * spread + r``, tap ``k`` of output position ``p`` reads input position
``m + (r + k * dilation - before) / spread`` where that is whole: for each phase ``r``, an ordinary window over ``m``.
Reference: Shi et al., *Is the deconvolution layer the same as a convolutional layer?*, 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.program.forms import Axis


@dataclass(frozen=True, kw_only=True)
class Subpixel:
    """The ordinary convolution.

    Attributes:
        weights: ``[phases * out, in, *taps]``: all channels of the first phase, then those of the next; the phase of
            the last axis changes first.
        axes: Its windows.
        spreads: Phases per axis.
        positions: Outputs of the ordinary convolution per axis.
        sizes: Outputs of the transposed convolution per axis; the rest is cut off.
    """

    weights: NDArray[np.integer[Any]]
    axes: tuple[Axis, ...]
    spreads: tuple[int, ...]
    positions: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def phases(self) -> int:
        """Channels for each channel."""
        return prod(self.spreads)


def subpixel(weights: NDArray[np.integer[Any]], axes: Sequence[Axis], shape: Sequence[int]) -> Subpixel | None:
    """The convolution of a spread-out input as an ordinary one, or None where the window does not allow it.

    Args:
        weights: ``[out, in, *taps]``, one group.
        axes: Windows, of which at least one is spread.
        shape: Size of the input along each axis.
    """
    made: list[Axis] = []
    positions: list[int] = []
    sizes: list[int] = []
    for i, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        if axis.stride != 1:
            return None
        spread, out = axis.spread, axis.outputs(size)
        places = {
            (r, k): (r + k * axis.dilation - axis.before) // spread
            for r in range(spread)
            for k in range(axis.taps)
            if (r + k * axis.dilation - axis.before) % spread == 0
        }
        if not places or out < 1:
            return None
        first, last = min(places.values()), max(places.values())
        count = -(-out // spread)
        after = count - 1 + last - (size - 1)
        if first > 0 or after < 0:
            return None
        select = np.zeros((spread, last - first + 1, axis.taps), weights.dtype)
        for (r, k), place in places.items():
            select[r, place - first, k] = 1
        # [..., taps, ...] → [phase, ..., window, ...], each phase in front of those before it.
        moved = np.tensordot(select.astype(np.int64), weights.astype(np.int64), axes=([2], [2 + 2 * i]))
        weights = np.moveaxis(moved, 1, 3 + 2 * i).astype(weights.dtype)
        made.append(replace(axis, taps=last - first + 1, dilation=1, before=-first, after=after, spread=1))
        positions.append(count)
        sizes.append(out)
    count = len(made)
    ordered = weights.transpose(*range(count - 1, -1, -1), *range(count, weights.ndim))
    return Subpixel(
        weights=np.ascontiguousarray(ordered.reshape(-1, *ordered.shape[count + 1 :])),
        axes=tuple(made),
        spreads=tuple(a.spread for a in axes),
        positions=tuple(positions),
        sizes=tuple(sizes),
    )
