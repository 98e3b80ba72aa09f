"""Sums that may leave the accumulator, and what it would cost if the device let them wrap round.

The program's own integers never wrap: where the proven range of a sum is wider than the target's accumulator, it is
noted.  Here the sums themselves are computed, wrapped as two's complement wraps, and sent through the same epilogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.explain.split import Piece
from bitwright.explain.subject import Subject
from bitwright.number.expr import signed_bits
from bitwright.program.forms import Contract, Move
from bitwright.program.program import Step
from bitwright.simulate.reference import accumulate, apply_epilogue, run_move

SAMPLES = 2
"""Sums are computed in plain NumPy, so only for so many samples of a batch."""


@dataclass(frozen=True, kw_only=True)
class Tight:
    """A layer whose sums may need more bits than there are.

    Attributes:
        layer: Its name.
        step: The step that sums.
        need: Bits that the proven range needs.
        have: Bits of the target's accumulator.
    """

    layer: str
    step: Step
    need: int
    have: int


def tight_layers(subject: Subject) -> tuple[Tight, ...]:
    """The layers that could leave the accumulator, in order."""
    have = subject.target.arithmetic.accumulator_bits
    found = []
    for step, form in subject.program.contracts():
        need = signed_bits(form.acc_lo, form.acc_hi)
        if need > have:
            found.append(Tight(layer=step.layer, step=step, need=need, have=have))
    return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Wrapped:
    """What wrapping does to one layer on a few samples.

    Attributes:
        error: Real error of the layer's output, ``[n, ...]``.
        beyond: Sums that leave the accumulator.
        count: Sums in all.
        lowest: Smallest sum.
        highest: Largest sum.
    """

    error: NDArray[Any]
    beyond: int
    count: int
    lowest: int
    highest: int


def wrapped(subject: Subject, tight: Tight, piece: Piece, values: Mapping[str, NDArray[Any]]) -> Wrapped:
    """Let the sums of a layer wrap.

    Args:
        subject: The network.
        tight: The layer.
        piece: The same layer's steps.
        values: Buffer → integers ``[n, ...]`` of all buffers, already cut to a few samples.
    """
    program, form = subject.program, tight.step.form
    assert isinstance(form, Contract)  # only those sum products
    bias = None if form.bias is None else program.tensors[form.bias]
    acc = accumulate(form, program.tensors[form.weight], bias, values[tight.step.inputs[0]]).astype(np.int64)
    half = 1 << (tight.have - 1)
    round_trip = ((acc + half) % (2 * half)) - half
    made = apply_epilogue(program, form.epilogue, round_trip)
    for step in piece.steps[piece.steps.index(tight.step) + 1 :]:
        if isinstance(step.form, Move):
            made = run_move(program, step, step.form, [made])[0]
    format = program.buffers[piece.buffer].format
    error = format.dequantize(made) - format.dequantize(values[piece.buffer])
    return Wrapped(
        error=error,
        beyond=int((acc != round_trip).sum()),
        count=int(acc.size),
        lowest=int(acc.min(initial=0)),
        highest=int(acc.max(initial=0)),
    )
