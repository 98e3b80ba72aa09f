"""How motions carry whole channels: which channel of the result is which channel of a source.

A motion is followed as long as every channel stays in one piece along one axis: transposing, flattening, joining,
taking and bordering do that, splitting the channel axis (a shuffle) does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from bitwright.program.forms import Fill, Join, Motion, Reshape, Take, Transpose

Shape = tuple[int, ...]
Flags = NDArray[np.bool_]
BORDER = -1


@dataclass(frozen=True)
class Carried:
    """A tensor whose channels are known by name.

    Attributes:
        shape: Of the tensor.
        axis: Where the channels are.
        labels: ``[places along axis, sources]``: channel of each source that the place holds, ``BORDER`` for none.
            More than one column only where sources were joined along another axis, so that their channels go
            together.
    """

    shape: Shape
    axis: int
    labels: NDArray[np.int64]


def carry(shapes: Sequence[Shape], motions: Sequence[Motion]) -> list[Carried] | None:
    """The tensor after each motion, or None where the channels of some motion's result are not in one piece.

    Channels are axis 1 of every source; those of source ``i`` are numbered after those of the sources before it.
    """
    if any(len(shape) < 2 for shape in shapes):
        return None
    starts = np.cumsum([0, *(shape[1] for shape in shapes)])
    sources = [np.arange(shape[1])[:, None] + start for shape, start in zip(shapes, starts, strict=False)]
    now = Carried(shapes[0], 1, sources[0])
    found = []
    for motion in motions:
        after = _joined(shapes, sources, motion) if isinstance(motion, Join) else _carried(now, motion)
        if after is None:
            return None
        now = after
        found.append(now)
    return found


def _joined(shapes: Sequence[Shape], sources: Sequence[NDArray[np.int64]], motion: Join) -> Carried:
    axis = motion.axis
    shape = (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
    return Carried(shape, 1, np.concatenate(sources, axis=0 if axis == 1 else 1))


def _carried(now: Carried, motion: Motion) -> Carried | None:
    shape, axis, labels = now.shape, now.axis, now.labels
    match motion:
        case Transpose(order):
            return Carried(tuple(shape[i] for i in order), order.index(axis), labels)
        case Take(along, indices):
            taken = labels[np.asarray(indices)] if along == axis else labels
            return Carried((*shape[:along], len(indices), *shape[along + 1 :]), axis, taken)
        case Fill(before, after, _):
            grown = tuple(b + n + a for b, n, a in zip(before, shape, after, strict=True))
            border = ((before[axis], after[axis]), (0, 0))
            return Carried(grown, axis, np.pad(labels, border, constant_values=BORDER))
        case Reshape(wanted):
            return _reshaped(now, wanted)
    return None


def _reshaped(now: Carried, wanted: Shape) -> Carried | None:
    """The channel axis stays as it is, or is merged with neighbors into one longer axis."""
    shape, axis = now.shape, now.axis
    for first in range(axis, -1, -1):
        for last in range(axis, len(shape)):
            for place in range(len(wanted)):
                merged = prod(shape[first : last + 1])
                if wanted[place] == merged > 1 and prod(wanted[:place]) == prod(shape[:first]):
                    inner, outer = prod(shape[axis + 1 : last + 1]), prod(shape[first:axis])
                    return Carried(wanted, place, np.tile(np.repeat(now.labels, inner, axis=0), (outer, 1)))
    return None


def is_gone(labels: NDArray[np.int64], gone: Flags) -> Flags:
    """Which places hold only channels that are gone; a border never is."""
    return np.asarray((np.append(gone, False)[labels]).all(axis=1))


def without(motions: Sequence[Motion], shapes: Sequence[Shape], gone: Flags) -> tuple[Motion, ...]:
    """The motions for sources whose ``gone`` channels have been taken out.

    Args:
        motions: Motions that :func:`carry` can follow.
        shapes: Of the sources, before.
        gone: Over the channels of all sources, one source after the other; a place holds either only channels that
            are gone or only channels that stay.
    """
    tensors = carry(shapes, motions)
    if tensors is None:
        raise ValueError("these motions take channels apart")
    first = Carried(shapes[0], 1, np.arange(shapes[0][1])[:, None])
    changed: list[Motion] = []
    for before, after, motion in zip([first, *tensors], tensors, motions, strict=False):
        match motion:
            case Reshape(wanted):
                kept = int((~is_gone(after.labels, gone)).sum())
                changed.append(Reshape((*wanted[: after.axis], kept, *wanted[after.axis + 1 :])))
            case Take(axis, indices) if axis == before.axis:
                stays = ~is_gone(before.labels, gone)
                place = np.cumsum(stays) - 1
                changed.append(Take(axis, tuple(int(place[i]) for i in indices if stays[i])))
            case _:
                changed.append(motion)
    return tuple(changed)
