"""Weights that are mostly zeros: grouped convolutions, and moves of channels as convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga.layout import HOLE, spatial
from bitwright.fpga.phases import Phase, walked
from bitwright.program.forms import Fill, Motion, Move
from bitwright.program.program import Buffer, Program, Step
from bitwright.simulate.reference import run_step


def dense_weights(weight: NDArray[Any], groups: int, inputs: int) -> NDArray[Any]:
    """Weights of a grouped convolution as ``[O, C, kh, kw]``, zeros between the groups."""
    outputs, per = weight.shape[:2]
    full = np.zeros((outputs, inputs, *weight.shape[2:]), weight.dtype)
    for o in range(outputs):
        first = o // (outputs // groups) * per
        full[o, first : first + per] = weight[o]
    return full


@dataclass(frozen=True)
class Selection:
    """Which element of a tensor ``[channels, rows, columns]`` each element of another is.

    Attributes:
        channels: Channel of each output channel; ``HOLE`` where it is filled.
        rows: How rows are walked.
        columns: How columns are walked.
        fill: What is where nothing is read.
        filled: Whether that happens.
    """

    channels: tuple[int, ...]
    rows: tuple[Phase, ...]
    columns: tuple[Phase, ...]
    fill: int
    filled: bool


def selection(program: Program, source: str, target: str, motions: Sequence[Motion]) -> Selection | None:
    """What ``motions`` do from one buffer to another, if channels, rows and columns are chosen each for itself.

    Found by moving the positions themselves.
    """
    shape, out_shape = (spatial(program.buffers[name].shape) for name in (source, target))
    fills = {m.value for m in motions if isinstance(m, Fill)}
    if len(fills) > 1:
        return None
    moved = _positions(program, source, target, motions).reshape(out_shape) - 1  # -1: filled
    found = np.stack(np.unravel_index(np.maximum(moved, 0), shape))
    read = moved >= 0
    if not read.any():
        return None
    lines: list[NDArray[np.int64]] = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        line = np.where(read, found[axis], -1).max(axis=others)
        along = line.reshape([-1 if a == axis else 1 for a in range(3)])
        if (np.where(read, found[axis], along) != along).any():
            return None
        lines.append(line)
    # An element is read exactly where its channel, its row and its column are.
    chosen = (lines[0] >= 0)[:, None, None] & (lines[1] >= 0)[:, None] & (lines[2] >= 0)
    if not np.array_equal(chosen, read):
        return None
    rows, columns = walked(lines[1], shape[1]), walked(lines[2], shape[2])
    if rows is None or columns is None:
        return None
    channels = tuple(HOLE if c < 0 else int(c) for c in lines[0])
    return Selection(channels, tuple(rows), tuple(columns), fills.pop() if fills else 0, not read.all())


def _positions(program: Program, source: str, target: str, motions: Sequence[Motion]) -> NDArray[np.int64]:
    """The number of each element of ``source``, from 1 on, moved; 0 where something is filled in."""
    plain = tuple(replace(m, value=0) if isinstance(m, Fill) else m for m in motions)
    step = Step(name="positions", layer="", op="", sources=(), form=Move(plain), inputs=(source,), outputs=(target,))
    wide = Program(
        name="positions",
        target="",
        buffers={n: replace(program.buffers[n], format=_wide(program.buffers[n])) for n in (source, target)},
        tensors={},
        steps=(step,),
        inputs=(source,),
        outputs=(target,),
    )
    shape = program.buffers[source].shape
    index = np.arange(1, int(np.prod(shape)) + 1).reshape(shape)
    return np.asarray(run_step(wide, step, [index])[0][0], np.int64)


def _wide(buffer: Buffer) -> Any:
    """A format that holds positions."""
    return replace(buffer.format, bits=63, signed=True)
