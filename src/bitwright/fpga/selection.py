"""Weights that are mostly zeros: grouped convolutions, and moves of channels as convolutions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga.layout import HOLE
from bitwright.program.forms import Axis
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


def selection(
    program: Program, step: Step, shape: tuple[int, int, int], out_shape: tuple[int, int, int]
) -> tuple[list[int], Axis, Axis] | None:
    """Channel of each output channel, and how rows and columns are walked; None if it is something else.

    Found by moving the positions themselves.
    """
    index = np.arange(1, int(np.prod(shape)) + 1).reshape(1, *shape)
    wide = Program(
        name="positions",
        target="",
        buffers={
            n: replace(program.buffers[n], format=_wide(program.buffers[n])) for n in (*step.inputs, *step.outputs)
        },
        tensors={},
        steps=(step,),
        inputs=step.inputs,
        outputs=step.outputs,
    )
    moved = run_step(wide, step, [index])[0][0] - 1  # -1: filled
    found = np.stack(np.unravel_index(np.maximum(moved, 0), shape))
    channels: list[int] = []
    for at in range(out_shape[0]):
        here = moved[at]
        if (here < 0).all():
            channels.append(HOLE)
        elif (here < 0).any() or (found[0, at] != found[0, at, 0, 0]).any():
            return None
        else:
            channels.append(int(found[0, at, 0, 0]))
    kept = [at for at, channel in enumerate(channels) if channel != HOLE]
    if not kept:
        return None
    axes: list[Axis] = []
    for axis, size, total in ((1, out_shape[1], shape[1]), (2, out_shape[2], shape[2])):
        lines = np.moveaxis(found[axis, kept], axis, 0).reshape(size, -1)
        line = lines[:, 0]
        if (lines != line[:, None]).any():
            return None
        stride = int(line[1] - line[0]) if size > 1 else 1
        if stride < 1 or (np.diff(line) != stride).any():
            return None
        start = int(line[0])
        last = start + (size - 1) * stride
        axes.append(Axis(stride=stride, before=-start, after=last + 1 - total))
    return channels, axes[0], axes[1]


def _wide(buffer: Buffer) -> Any:
    """A format that holds positions."""
    return replace(buffer.format, bits=63, signed=True)
