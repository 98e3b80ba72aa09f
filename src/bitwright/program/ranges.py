"""What every channel of every buffer can hold: interval arithmetic over the forms.

It proves the ranges that a program states, and it finds channels that hold one value whatever the input: a network
computes them for nothing (``program/prune.py`` removes them).  The channel is axis 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import printable
from bitwright.program.forms import (
    Axis,
    Contract,
    Epilogue,
    Fill,
    Form,
    Island,
    Join,
    Map,
    Motion,
    Move,
    Reduce,
    Reshape,
    Table,
    Take,
    Transpose,
)
from bitwright.program.intervals import Interval, Ints, Unproven, bound
from bitwright.program.program import Buffer, Program, Step

__all__ = ["Interval", "Unproven", "prove"]

LARGEST_SPREAD_OUT = 1 << 22
"""Elements up to which moved tensors are followed element by element; above it all channels get one interval."""
MOST_WINDOW_PLACES = 1 << 24


@dataclass(frozen=True)
class _Witness:
    """In every line along ``axes`` (whole axes of the buffer) at least one element lies in ``bounds``."""

    axes: tuple[Axis, ...]
    bounds: Interval


@dataclass
class _State:
    """What is proven so far.

    ``peaks`` says of a buffer that it is the maximum of another along whole axes.  With it, and the witnesses that
    follow, a softmax's divisor is known to be no smaller than the exponential of zero.
    """

    program: Program
    bounds: dict[str, Interval] = field(default_factory=dict)
    peaks: dict[str, tuple[str, tuple[Axis, ...]]] = field(default_factory=dict)
    witnesses: dict[str, _Witness] = field(default_factory=dict)


def prove(program: Program) -> dict[str, Interval]:
    """Prove every range that the program states, and bound every channel of every buffer.

    Args:
        program: Of valid structure (``program/check.py``).

    Returns:
        Buffer → lowest and highest integer, ``[channels]`` each; ``[1]`` for buffers with one axis.  Every value that
        any back end can compute from inputs of the inputs' formats lies in it.

    Raises:
        Unproven: a range that a buffer, an accumulator or an expression states does not follow.
    """
    state = _State(program)
    for name in program.inputs:
        buffer = program.buffers[name]
        state.bounds[name] = whole_format(buffer)
        if (buffer.lo, buffer.hi) != (buffer.format.lo, buffer.format.hi):
            raise Unproven(
                f"input '{printable(name)}' may hold every code of its format, not [{buffer.lo}, {buffer.hi}]"
            )
    for step in program.steps:
        try:
            results = FORMS[type(step.form)](state, step, step.form)
        except Unproven as why:
            raise Unproven(f"in step '{printable(step.name)}': {why}") from None
        for name, found in zip(step.outputs, results, strict=True):
            buffer = program.buffers[name]
            if not found.within(buffer.lo, buffer.hi):
                raise Unproven(
                    f"step '{printable(step.name)}' may write [{found.lo.min()}, {found.hi.max()}] to a buffer of "
                    f"[{buffer.lo}, {buffer.hi}]"
                )
            state.bounds[name] = Interval.of(*(np.broadcast_to(v, (channels(buffer),)) for v in found))
    return state.bounds


def channels(buffer: Buffer) -> int:
    """Length of axis 1, or 1 where there is none."""
    return buffer.shape[1] if len(buffer.shape) > 1 else 1


def whole_format(buffer: Buffer) -> Interval:
    """Every channel may hold every code."""
    ones = np.ones(channels(buffer), np.int64)
    return Interval.of(ones * buffer.format.lo, ones * buffer.format.hi)


def taps_inside(axis: Axis, size: int) -> Ints:
    """The input position that each tap of each window reads, ``[outputs, taps]``; -1 where there is none.

    Raises:
        Unproven: there are too many to look at.
    """
    count = axis.outputs(size)
    if count * axis.taps > MOST_WINDOW_PLACES:
        raise Unproven(f"{count} windows of {axis.taps} taps are too many to follow")
    at = np.arange(count)[:, None] * axis.stride + np.arange(axis.taps) * axis.dilation - axis.before
    inside = (at >= 0) & (at % axis.spread == 0) & (at // axis.spread < size)
    return np.where(inside, at // axis.spread, -1)


def tap_counts(axes: Sequence[Axis], sizes: Sequence[int]) -> tuple[int, int]:
    """Fewest and most taps of a window that fall inside the tensor."""
    fewest = most = 1
    for axis, size in zip(axes, sizes, strict=True):
        if axis.taps == size and axis.stride == 1 and axis.outputs(size) == 1 and not axis.before:
            counts = np.array([size])  # a whole axis
        else:
            counts = (taps_inside(axis, size) >= 0).sum(1)
        fewest, most = fewest * int(counts.min()), most * int(counts.max())
    return fewest, most


def parameter(values: NDArray[np.integer[Any]], rank: int) -> Interval:
    """The interval per channel of constants that broadcast against a tensor of ``rank`` axes."""
    at = values.ndim - (rank - 1)  # where the channel axis is
    if not 0 <= at < values.ndim:
        return Interval.of(values.min(), values.max())
    rest = tuple(i for i in range(values.ndim) if i != at)
    return Interval.of(values.min(axis=rest), values.max(axis=rest))


def _epilogue(program: Program, epilogue: Epilogue, values: Mapping[str, Interval]) -> Interval:
    constants = {name: Interval.of(t := program.tensors[tensor], t) for name, tensor in epilogue.params.items()}
    return bound(epilogue.expr, {**values, **constants})


def accumulators(form: Contract, weight: NDArray[np.integer[Any]], bias: Any, source: Interval) -> Interval:
    """The accumulator of each output channel.

    Args:
        form: The contraction.
        weight: ``[O, I/groups, *taps]``.
        bias: ``[O]`` or None.
        source: Per input channel, ``[I]``.

    Raises:
        Unproven: sums may leave 62 bits.
    """
    lo, hi = source.lo.astype(np.float64) - form.input_zero, source.hi.astype(np.float64) - form.input_zero
    reach = np.abs(weight.astype(np.float64)).reshape(len(weight), -1).sum(1).max() * max(-lo.min(), hi.max(), 1)
    if reach + (0 if bias is None else np.abs(bias.astype(np.float64)).max()) >= 2.0**62:
        raise Unproven("the accumulator may leave 62 bits")
    low, high = source.lo - form.input_zero, source.hi - form.input_zero
    if any(a.before > 0 or a.after > 0 or a.spread > 1 for a in form.axes):  # taps may be missing: they add nothing
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    flat = weight.astype(np.int64).reshape(form.groups, len(weight) // form.groups, weight.shape[1], -1)
    up, down = np.maximum(flat, 0).sum(3), np.minimum(flat, 0).sum(3)
    low, high = (v.reshape(form.groups, -1, 1) for v in (low, high))
    start = np.zeros(len(weight), np.int64) if bias is None else bias.astype(np.int64)
    return Interval(
        start + (up @ low + down @ high).reshape(-1),
        start + (up @ high + down @ low).reshape(-1),
    )


def _contract(state: _State, step: Step, form: Contract) -> list[Interval]:
    tensors = state.program.tensors
    bias = None if form.bias is None else tensors[form.bias]
    acc = accumulators(form, tensors[form.weight], bias, state.bounds[step.inputs[0]])
    if not acc.within(form.acc_lo, form.acc_hi):
        raise Unproven(
            f"the accumulator reaches [{acc.lo.min()}, {acc.hi.max()}] and is stated as [{form.acc_lo}, {form.acc_hi}]"
        )
    return [_epilogue(state.program, form.epilogue, {"acc": acc})]


def _reduce(state: _State, step: Step, form: Reduce) -> list[Interval]:
    name = step.inputs[0]
    buffer, source = state.program.buffers[name], state.bounds[name]
    first, rest = form.axes[:1], form.axes[1:]
    fewest, most = tap_counts(rest, buffer.shape[2:])
    along = taps_inside(first[0], buffer.shape[1]) if first else np.zeros((1, 1), np.int64)
    inside = along >= 0
    valid = inside.sum(1)
    lo, hi = source.lo[along], source.hi[along]  # [channels, taps]; -1 picks something that is then masked
    match form.combine:
        case "sum":
            reach = max(abs(int(lo.min())), abs(int(hi.max()))) + abs(form.input_zero)
            if reach * most * along.shape[1] >= 1 << 62:
                raise Unproven("the sum may leave 62 bits")
            low = np.where(inside, lo - form.input_zero, 0).sum(1)
            high = np.where(inside, hi - form.input_zero, 0).sum(1)
            acc = Interval(np.minimum(low * fewest, low * most), np.maximum(high * fewest, high * most))
            acc = _with_witness(state, name, form, acc, source)
        case "max":
            nothing = buffer.format.lo - 1
            low, high = (np.where(inside, v, nothing).max(1) for v in (lo, hi))
            acc = Interval(np.minimum(low, nothing) if fewest == 0 else low, high)
            if _whole_axes(form.axes, buffer.shape[1:]) and form.epilogue.expr.name == "acc":
                state.peaks[step.outputs[0]] = (name, form.axes)
        case "argmax":
            acc = Interval.of(np.zeros(len(valid)), max(prod(a.taps for a in form.axes) - 1, 0))
    count = Interval.of(valid * fewest, valid * most)
    return [_epilogue(state.program, form.epilogue, {"acc": acc, "count": count})]


def _whole_axes(axes: Sequence[Axis], sizes: Sequence[int]) -> bool:
    """Whether every window is a whole axis, or one element."""
    return all(axis in (Axis(), Axis(taps=size)) for axis, size in zip(axes, sizes, strict=True))


def _with_witness(state: _State, name: str, form: Reduce, acc: Interval, source: Interval) -> Interval:
    """A sum in which at least one term is known better than the others."""
    witness = state.witnesses.get(name)
    if witness is None or witness.axes != form.axes:
        return acc
    others = prod(axis.taps for axis in form.axes) - 1
    lowest, highest = int(source.lo.min()) - form.input_zero, int(source.hi.max()) - form.input_zero
    lo = int(witness.bounds.lo.min()) - form.input_zero + others * lowest
    hi = int(witness.bounds.hi.max()) - form.input_zero + others * highest
    return Interval(np.maximum(acc.lo, lo), np.minimum(acc.hi, hi))


def _map(state: _State, step: Step, form: Map) -> list[Interval]:
    program, rank = state.program, len(state.program.buffers[step.outputs[0]].shape)
    values = {f"x{i}": state.bounds[name] for i, name in enumerate(step.inputs)}
    values |= {name: parameter(program.tensors[tensor], rank) for name, tensor in form.params.items()}
    same = {name: f"x{step.inputs.index(buffer)}" for name, buffer in zip(values, step.inputs, strict=False)}
    found = bound(form.expr, values, same)
    for i, name in enumerate(step.inputs):
        source, axes = state.peaks.get(name, ("", ()))
        if source in step.inputs:
            # Somewhere along these axes x is its own maximum: there the two variables are one.
            equal = {**same, f"x{i}": f"x{step.inputs.index(source)}"}
            state.witnesses[step.outputs[0]] = _Witness(axes, bound(form.expr, values, equal))
    return [found]


def _looked_up(program: Program, form: Table, source: Interval, lowest: int) -> Interval:
    table = program.tensors[form.table].astype(np.int64)
    pairs, where = np.unique(np.stack([source.lo, source.hi]) - lowest, axis=1, return_inverse=True)
    seen = [table[a : b + 1] for a, b in pairs.T]
    lo, hi = (np.array([f(entries) for entries in seen], np.int64) for f in (np.min, np.max))
    return Interval(lo[where.ravel()], hi[where.ravel()])


def _table(state: _State, step: Step, form: Table) -> list[Interval]:
    name = step.inputs[0]
    lowest = state.program.buffers[name].format.lo
    if name in state.witnesses:
        seen = state.witnesses[name]
        state.witnesses[step.outputs[0]] = _Witness(seen.axes, _looked_up(state.program, form, seen.bounds, lowest))
    return [_looked_up(state.program, form, state.bounds[name], lowest)]


def _move(state: _State, step: Step, form: Move) -> list[Interval]:
    buffers = [state.program.buffers[name] for name in step.inputs]
    found = [state.bounds[name] for name in step.inputs]
    lo = moved([v.lo for v in found], [b.shape for b in buffers], form.motions, np.minimum)
    hi = moved([v.hi for v in found], [b.shape for b in buffers], form.motions, np.maximum)
    return [Interval(lo, hi)]


def moved(values: Sequence[Ints], shapes: Sequence[tuple[int, ...]], motions: Sequence[Motion], pick: np.ufunc) -> Ints:
    """Numbers per channel, carried through motions.

    Args:
        values: Per channel of each source.
        shapes: Of the sources.
        motions: Applied in order.
        pick: ``np.minimum`` or ``np.maximum``: what stands for several elements.

    Returns:
        Per channel of the result.
    """
    # Axes along which nothing differs have length 1 in these arrays and their true length in `shape`.
    parts = [v.reshape((1, -1) + (1,) * (len(s) - 2)) if len(s) > 1 else v for v, s in zip(values, shapes, strict=True)]
    shape, part = shapes[0], parts[0]
    for motion in motions:
        part, shape = _moved_once(motion, part, shape, (parts, shapes), pick)
    if len(shape) < 2:
        return np.array(pick.reduce(part, axis=None, keepdims=True), np.int64).reshape(1)
    rest = tuple(i for i in range(len(shape)) if i != 1)
    return np.array(np.broadcast_to(pick.reduce(part, axis=rest), (shape[1],)), np.int64)


def _moved_once(
    motion: Motion,
    part: Ints,
    shape: tuple[int, ...],
    sources: tuple[Sequence[Ints], Sequence[tuple[int, ...]]],
    pick: np.ufunc,
) -> tuple[Ints, tuple[int, ...]]:
    match motion:
        case Reshape(wanted):
            if part.size == 1:
                return part.reshape((1,) * len(wanted)), wanted
            if wanted[:2] == shape[:2] and part.size == part.shape[1]:
                return part.reshape((1, -1) + (1,) * (len(wanted) - 2)), wanted
            if prod(shape) > LARGEST_SPREAD_OUT:
                return pick.reduce(part, axis=None).reshape((1,) * len(wanted)), wanted
            return np.broadcast_to(part, shape).reshape(wanted), wanted
        case Transpose(order):
            return part.transpose(order), tuple(shape[i] for i in order)
        case Take(axis, indices):
            taken = part if part.shape[axis] == 1 else part.take(indices, axis)
            return taken, (*shape[:axis], len(indices), *shape[axis + 1 :])
        case Fill(before, after, value):
            grown = tuple(b + n + a for b, n, a in zip(before, shape, after, strict=True))
            for axis, (b, a) in enumerate(zip(before, after, strict=True)):
                if (b or a) and (axis == 1 or part.shape[axis] != 1):
                    whole = np.broadcast_to(part, (*part.shape[:axis], shape[axis], *part.shape[axis + 1 :]))
                    widths = [(b, a) if i == axis else (0, 0) for i in range(part.ndim)]
                    part = np.pad(whole, widths, constant_values=value)
                elif b or a:
                    part = pick(part, np.int64(value))
            return part, grown
        case Join(axis):
            parts, shapes = sources
            wide = [
                np.broadcast_to(p, (*p.shape[:axis], s[axis], *p.shape[axis + 1 :]))
                for p, s in zip(parts, shapes, strict=True)
            ]
            common = [max(p.shape[i] for p in wide) for i in range(len(shape))]
            level = [np.broadcast_to(p, (*common[:axis], p.shape[axis], *common[axis + 1 :])) for p in wide]
            return np.concatenate(level, axis), (*shape[:axis], sum(s[axis] for s in shapes), *shape[axis + 1 :])


def _island(state: _State, step: Step, _: Island) -> list[Interval]:
    return [whole_format(state.program.buffers[name]) for name in step.outputs]


FORMS: Mapping[type[Form], Callable[..., list[Interval]]] = {
    Contract: _contract,
    Reduce: _reduce,
    Map: _map,
    Table: _table,
    Move: _move,
    Island: _island,
}
