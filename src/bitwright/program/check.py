"""Whether a program is one: every buffer written before it is read, every shape, constant and index fitting its form.

Run on what lowering made and on what a file claims.  That no arithmetic overflows and every stated range holds is
proven in ``program/ranges.py``; :func:`check` does both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import BadModelFile, printable
from bitwright.number.expr import Expr
from bitwright.number.format import Format
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
from bitwright.program.program import Buffer, Program, Step
from bitwright.program.ranges import Unproven, prove

LARGEST_BUFFER = 1 << 31
"""Elements of one buffer, borders included."""

Shape = tuple[int, ...]


class _Invalid(Exception):
    """Becomes a BadModelFile that names the step."""


def check(program: Program) -> None:
    """Check the structure of a program and prove all ranges that it states.

    Raises:
        BadModelFile: with the first step, buffer or constant that is wrong, and why.
    """
    try:
        _check_buffers(program)
        _check_order(program)
        _check_learnables(program)
    except _Invalid as why:
        _bad(f"The program is not valid: {why}")
    for step in program.steps:
        try:
            _check_step(program, step)
        except _Invalid as why:
            _bad(f"Step '{printable(step.name)}' of the program is not valid: {why}")
    try:
        prove(program)
    except Unproven as why:
        _bad(f"The ranges that the program states do not hold: {why}")


def _bad(why: str) -> NoReturn:
    raise BadModelFile(f"{why}. It is damaged or was not made by bitwright; quantize the network again.")


def _refuse(why: str) -> NoReturn:
    raise _Invalid(why)


def _check_buffers(program: Program) -> None:
    for key, buffer in program.buffers.items():
        name = printable(key)
        if key != buffer.name:
            _refuse(f"buffer '{name}' is called '{printable(buffer.name)}'")
        if not buffer.shape or min(buffer.shape) < 1 or prod(buffer.shape) > LARGEST_BUFFER:
            _refuse(f"buffer '{name}' has the shape {list(buffer.shape)[:8]}")
        if not buffer.format.lo <= buffer.lo <= buffer.hi <= buffer.format.hi:
            _refuse(f"buffer '{name}' states [{buffer.lo}, {buffer.hi}], which is not inside its format")
        _check_axis(buffer.format, buffer.shape, f"buffer '{name}'")


def _check_axis(chosen: Format, shape: Shape, what: str) -> None:
    if chosen.axis is not None and not (0 <= chosen.axis < len(shape) and chosen.scale.size == shape[chosen.axis]):
        _refuse(f"the format of {what} has {chosen.scale.size} scales along axis {chosen.axis} of {list(shape)[:8]}")


def _check_order(program: Program) -> None:
    """Every buffer is written once, before it is read."""
    written: dict[str, None] = {}

    def write(name: str, who: str) -> None:
        if name not in program.buffers:
            _refuse(f"{who} writes '{printable(name)}', which is no buffer")
        if name in written:
            _refuse(f"{who} writes '{printable(name)}', which has a value already")
        written[name] = None

    if not program.inputs or not program.outputs:
        _refuse("it has no input or no output")
    for name in program.inputs:
        write(name, "the caller")
    names: set[str] = set()
    for step in program.steps:
        who = f"step '{printable(step.name)}'"
        if step.name in names:
            _refuse(f"{who} stands in it twice")
        names.add(step.name)
        for name in step.inputs:
            if name not in written:
                _refuse(f"{who} reads '{printable(name)}', which nothing has written before")
        for name in step.outputs:
            write(name, who)
    for name in program.outputs:
        if name not in written:
            _refuse(f"output '{printable(name)}' is written by no step")


def _check_learnables(program: Program) -> None:
    for item in program.learnables:
        tensor = program.tensors.get(item.tensor)
        what = f"{item.parameter} of layer '{printable(item.layer)}'"
        if tensor is None or tensor.shape != item.shape:
            _refuse(f"{what} are not the constants '{printable(item.tensor)}' of shape {list(item.shape)[:8]}")
        if not 2 <= item.format.bits <= 64:
            _refuse(f"{what} have {item.format.bits} bits")
        _check_axis(item.format, item.shape, what)
    for layer, macs in program.macs.items():
        if macs < 0:
            _refuse(f"layer '{printable(layer)}' counts {macs} multiplications")


def constant(program: Program, name: str) -> NDArray[np.integer[Any]]:
    """A constant that arithmetic uses; bytes (islands) are none."""
    tensor = program.tensors.get(name)
    if tensor is None:
        _refuse(f"it uses the constants '{printable(name)}', which do not exist")
    if tensor.dtype == np.uint8 or tensor.size == 0:
        _refuse(f"the constants '{printable(name)}' are not integers to compute with")
    return tensor


def _check_step(program: Program, step: Step) -> None:
    inputs = [program.buffers[name] for name in step.inputs]
    outputs = [program.buffers[name] for name in step.outputs]
    form = step.form
    if not isinstance(form, Island):
        if len(outputs) != 1:
            _refuse(f"it writes {len(outputs)} buffers; its form writes one")
        if not inputs or (len(inputs) != 1 and not isinstance(form, Map | Move)):
            _refuse(f"it reads {len(inputs)} buffers")
    CHECKS[type(form)](program, form, inputs, outputs)


def _same_shape(found: Sequence[int], buffer: Buffer) -> None:
    if tuple(found) != buffer.shape:
        _refuse(f"its result has the shape {list(found)[:8]}, its buffer {list(buffer.shape)[:8]}")


def _windows(axes: Sequence[Axis], sizes: Sequence[int]) -> list[int]:
    """Output sizes of windows over ``sizes``."""
    if len(axes) != len(sizes):
        _refuse(f"it has windows along {len(axes)} axes, its input has {len(sizes)}")
    bordered = 1
    for axis, size in zip(axes, sizes, strict=True):
        if min(axis.taps, axis.stride, axis.dilation, axis.spread) < 1:
            _refuse("a window has no taps, or a step below 1")
        if axis.outputs(size) < 1:
            _refuse("a window is larger than its input")
        bordered *= (size - 1) * axis.spread + 1 + max(axis.before, 0) + max(axis.after, 0)
    if bordered > LARGEST_BUFFER:
        _refuse("its borders are larger than any network needs")
    return [axis.outputs(size) for axis, size in zip(axes, sizes, strict=True)]


def _check_contract(program: Program, form: Contract, inputs: list[Buffer], outputs: list[Buffer]) -> None:
    source, result = inputs[0], outputs[0]
    weight = constant(program, form.weight)
    if len(source.shape) < 2 or weight.ndim != 2 + len(form.axes):
        _refuse(f"weights of shape {list(weight.shape)} do not fit an input of shape {list(source.shape)[:8]}")
    count, depth, *taps = weight.shape
    if form.groups < 1 or count % form.groups or depth * form.groups != source.shape[1]:
        _refuse(f"weights {list(weight.shape)} in {form.groups} groups do not fit {source.shape[1]} channels")
    if taps != [axis.taps for axis in form.axes]:
        _refuse(f"weights {list(weight.shape)} do not have the taps of its windows")
    _same_shape((source.shape[0], count, *_windows(form.axes, source.shape[2:])), result)
    if form.bias is not None and constant(program, form.bias).shape != (count,):
        _refuse(f"its bias has the shape {list(constant(program, form.bias).shape)}, not [{count}]")
    _check_epilogue(program, form.epilogue, {"acc"}, result)


def _check_epilogue(program: Program, epilogue: Epilogue, known: set[str], result: Buffer) -> None:
    channels = result.shape[1] if len(result.shape) > 1 else None
    for name, tensor in epilogue.params.items():
        shape = constant(program, tensor).shape
        if shape not in {(), (1,), (channels,)}:
            _refuse(f"constant '{printable(name)}' has the shape {list(shape)}; there are {channels} channels")
    _check_variables(epilogue.expr, known, epilogue.params)


def _check_variables(expr: Expr, known: set[str], params: Mapping[str, str]) -> None:
    clash = sorted(known & params.keys())
    missing = sorted(set(expr.variables()) - known - params.keys())
    if clash or missing:
        _refuse(
            f"its expression uses '{printable((clash or missing)[0])}', which {'is two things' if clash else 'is nothing'}"
        )


def _check_reduce(program: Program, form: Reduce, inputs: list[Buffer], outputs: list[Buffer]) -> None:
    source, result = inputs[0], outputs[0]
    _same_shape((source.shape[0], *_windows(form.axes, source.shape[1:])), result)
    if form.combine == "argmax" and sum(axis.taps > 1 for axis in form.axes) > 1:
        _refuse("the position of a maximum is asked for along more than one axis")
    _check_epilogue(program, form.epilogue, {"acc", "count"}, result)


def _check_map(program: Program, form: Map, inputs: list[Buffer], outputs: list[Buffer]) -> None:
    params = [constant(program, tensor).shape for tensor in form.params.values()]
    batch = inputs[0].shape[0]
    for buffer in inputs:
        if buffer.shape[0] != batch or len(buffer.shape) != len(outputs[0].shape):
            _refuse("its inputs do not have the same batch and number of axes")
    for shape in params:
        if len(shape) == len(outputs[0].shape) and shape[0] != 1:
            _refuse("one of its constants differs from sample to sample")
    try:
        shape = np.broadcast_shapes(*(b.shape for b in inputs), *params)
    except ValueError:
        _refuse("the shapes of its operands do not go together")
    _same_shape(shape, outputs[0])
    _check_variables(form.expr, {f"x{i}" for i in range(len(inputs))}, form.params)


def _check_table(program: Program, form: Table, inputs: list[Buffer], outputs: list[Buffer]) -> None:
    table, source = constant(program, form.table), inputs[0]
    if table.ndim != 1 or len(table) <= source.hi - source.format.lo:
        _refuse(f"its table has {table.size} entries; codes reach {source.hi - source.format.lo}")
    _same_shape(source.shape, outputs[0])


def _check_move(_: Program, form: Move, inputs: list[Buffer], outputs: list[Buffer]) -> None:
    if any(buffer.format != outputs[0].format for buffer in inputs):
        _refuse("it moves elements between buffers of different formats")
    if len(inputs) > 1 and not (form.motions and isinstance(form.motions[0], Join)):
        _refuse("it reads several buffers and does not join them")
    shape = inputs[0].shape
    for i, motion in enumerate(form.motions):
        shape = _moved(motion, [b.shape for b in inputs] if i == 0 else [shape], outputs[0].format)
        if prod(shape) > LARGEST_BUFFER:
            _refuse("what it moves grows beyond what any network needs")
    _same_shape(shape, outputs[0])


def _moved(motion: Motion, shapes: list[Shape], chosen: Format) -> Shape:
    shape, rank = shapes[0], len(shapes[0])
    match motion:
        case Reshape(wanted):
            if not wanted or min(wanted) < 1 or prod(wanted) != prod(shape):
                _refuse(f"{list(shape)[:8]} cannot take the shape {list(wanted)[:8]}")
            return wanted
        case Transpose(order):
            if sorted(order) != list(range(rank)):
                _refuse(f"{list(order)[:8]} is no order of {rank} axes")
            return tuple(shape[i] for i in order)
        case Take(axis, indices):
            if not 0 <= axis < rank or not indices or not 0 <= min(indices) <= max(indices) < shape[axis]:
                _refuse(f"it takes elements along axis {axis} of {list(shape)[:8]} that are not there")
            return (*shape[:axis], len(indices), *shape[axis + 1 :])
        case Fill(before, after, value):
            if not len(before) == len(after) == rank or min(*before, *after) < 0 or before[0] or after[0]:
                _refuse(f"its border does not fit {list(shape)[:8]}")
            if not chosen.lo <= value <= chosen.hi:
                _refuse(f"it fills with {value}, which its format cannot hold")
            return tuple(b + n + a for b, n, a in zip(before, shape, after, strict=True))
        case Join(axis):
            if not 0 < axis < rank or any(len(s) != rank for s in shapes):
                _refuse(f"it joins along axis {axis}")
            rests = [(*s[:axis], *s[axis + 1 :]) for s in shapes]
            if any(a != b for a, b in pairwise(rests)):
                _refuse("the shapes that it joins do not go together")
            return (*shape[:axis], sum(s[axis] for s in shapes), *shape[axis + 1 :])


def _check_island(program: Program, form: Island, inputs: list[Buffer], outputs: list[Buffer]) -> None:
    model = program.tensors.get(form.model)
    if model is None or model.dtype != np.uint8 or model.ndim != 1:
        _refuse(f"'{printable(form.model)}' is no stored piece of a network")
    if len(form.feeds) != len(inputs) or len(form.fetches) != len(outputs):
        _refuse("its piece of the network has other inputs or outputs than it")


CHECKS: Mapping[type[Form], Callable[..., None]] = {
    Contract: _check_contract,
    Reduce: _check_reduce,
    Map: _check_map,
    Table: _check_table,
    Move: _check_move,
    Island: _check_island,
}
