"""The reference: every form in plain NumPy integers, slow and obviously right.

Sums of products go through float64 matrix products where the proven bound of the accumulator is below 2^53, because
then every partial sum, in any order, is an integer that float64 holds exactly; above it they are summed in int64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.number.render import numpy_value
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
from bitwright.program.program import Program, Step

Values = NDArray[np.integer[Any]]
FLOAT64_EXACT = 1 << 53


def run(program: Program, inputs: Mapping[str, Values], *, keep: bool = False) -> dict[str, Values]:
    """Run a program.

    Args:
        program: What to run.
        inputs: Input buffer → integers ``[n, ...]``.
        keep: Return every buffer, not only the outputs.

    Returns:
        Buffer → integers ``[n, ...]`` in the smallest type of its format.
    """
    values: dict[str, Values] = {name: np.asarray(inputs[name]) for name in program.inputs}
    last_use = {name: i for i, step in enumerate(program.steps) for name in step.inputs}
    for i, step in enumerate(program.steps):
        results = run_step(program, step, [values[name] for name in step.inputs])
        for name, result in zip(step.outputs, results, strict=True):
            values[name] = result
        if not keep:
            for name in step.inputs:
                if last_use[name] == i and name not in program.outputs:
                    values.pop(name, None)
    return values if keep else {name: values[name] for name in program.outputs}


def run_step(program: Program, step: Step, inputs: Sequence[Values]) -> list[Values]:
    """One step on integers ``[n, ...]``; results have the storage type of their buffer."""
    handler: Callable[..., list[Values]] = HANDLERS[type(step.form)]
    results = handler(program, step, step.form, [np.asarray(x) for x in inputs])
    return [r.astype(program.buffers[name].format.dtype) for r, name in zip(results, step.outputs, strict=True)]


def along_channels(values: Values, ndim: int) -> Values:
    """A constant, 0-d or ``[channels]``, shaped to broadcast along axis 1."""
    return values.reshape((1, -1) + (1,) * (ndim - 2)) if values.ndim == 1 else values


def apply_epilogue(program: Program, epilogue: Epilogue, acc: Values, count: Values | None = None) -> Values:
    """The epilogue of accumulators ``[n, channels, ...]``."""
    values: dict[str, Values] = {"acc": acc}
    if count is not None:
        values["count"] = count
    for name, tensor in epilogue.params.items():
        values[name] = along_channels(program.tensors[tensor], acc.ndim)
    return np.broadcast_to(numpy_value(epilogue.expr, values), acc.shape)


def placed(x: Values, axes: Sequence[Axis], value: int) -> Values:
    """``x`` spread out and padded along its last ``len(axes)`` axes, empty places filled with ``value``."""
    first = x.ndim - len(axes)
    shape = list(x.shape)
    where: list[slice] = [slice(None)] * x.ndim
    for i, axis in enumerate(axes, first):
        reach = (shape[i] - 1) * axis.spread + 1
        # Negative padding cuts what has been placed.
        where[i] = slice(max(axis.before, 0), max(axis.before, 0) + reach, axis.spread)
        shape[i] = max(axis.before, 0) + reach + max(axis.after, 0)
    out = np.full(shape, value, np.int64)
    out[tuple(where)] = x
    cut: list[slice] = [slice(None)] * x.ndim
    for i, axis in enumerate(axes, first):
        cut[i] = slice(max(-axis.before, 0), shape[i] - max(-axis.after, 0))
    return out[tuple(cut)]


def tap(x: Values, axes: Sequence[Axis], sizes: Sequence[int], index: Sequence[int]) -> Values:
    """What tap ``index`` of each window sees, for every output position."""
    where: list[slice] = [slice(None)] * (x.ndim - len(axes))
    for axis, size, k in zip(axes, sizes, index, strict=True):
        start = k * axis.dilation
        where.append(slice(start, start + (size - 1) * axis.stride + 1, axis.stride))
    return x[tuple(where)]


def accumulate(form: Contract, weights: Values, bias: Values | None, x: Values) -> Values:
    """The accumulators of a contraction, int64 ``[n, out, ...]``."""
    groups, outputs = form.groups, len(weights)
    sizes = [axis.outputs(n) for axis, n in zip(form.axes, x.shape[2:], strict=True)]
    # A missing tap adds nothing because the value put in its place is taken off again as the zero point.
    padded = placed(x, form.axes, form.input_zero) - form.input_zero
    exact = max(abs(form.acc_lo), abs(form.acc_hi)) < FLOAT64_EXACT // 4
    kind = np.float64 if exact else np.int64
    total = np.zeros((len(x), groups, outputs // groups, int(np.prod(sizes, dtype=np.int64))), kind)
    w = weights.reshape(groups, outputs // groups, *weights.shape[1:])
    for index in np.ndindex(*(axis.taps for axis in form.axes)):
        seen = tap(padded, form.axes, sizes, index).reshape(len(x), groups, -1, total.shape[-1]).astype(kind)
        total += np.matmul(w[(..., *index)].astype(kind), seen)
    acc = total.astype(np.int64).reshape(len(x), outputs, *sizes)
    return acc if bias is None else acc + along_channels(bias.astype(np.int64), acc.ndim)


def run_contract(program: Program, _: Step, form: Contract, inputs: list[Values]) -> list[Values]:
    """Sums of products and their epilogue."""
    bias = None if form.bias is None else program.tensors[form.bias]
    acc = accumulate(form, program.tensors[form.weight], bias, inputs[0])
    return [apply_epilogue(program, form.epilogue, acc)]


def run_reduce(program: Program, step: Step, form: Reduce, inputs: list[Values]) -> list[Values]:
    """Windows, tap by tap."""
    x = inputs[0].astype(np.int64)
    buffer = program.buffers[step.inputs[0]]
    sizes = [axis.outputs(n) for axis, n in zip(form.axes, x.shape[1:], strict=True)]
    missing = form.input_zero if form.combine == "sum" else buffer.format.lo - 1
    padded = placed(x, form.axes, missing)
    taps = list(np.ndindex(*(axis.taps for axis in form.axes)))
    first = tap(padded, form.axes, sizes, taps[0])
    match form.combine:
        case "sum":
            acc = first - form.input_zero
            for index in taps[1:]:
                acc = acc + (tap(padded, form.axes, sizes, index) - form.input_zero)
        case "max":
            acc = first
            for index in taps[1:]:
                acc = np.maximum(acc, tap(padded, form.axes, sizes, index))
        case "argmax":
            best, acc = first, np.zeros_like(first)
            for place, index in enumerate(taps):
                seen = tap(padded, form.axes, sizes, index)
                acc = np.where(seen > best, place, acc)
                best = np.maximum(best, seen)
    count = None
    if "count" in form.epilogue.expr.variables():
        ones = placed(np.ones((1, *x.shape[1:]), np.int64), form.axes, 0)
        count = sum((tap(ones, form.axes, sizes, index) for index in taps), np.zeros((), np.int64))
    return [apply_epilogue(program, form.epilogue, acc, count)]


def run_map(program: Program, _: Step, form: Map, inputs: list[Values]) -> list[Values]:
    """One expression over arrays that broadcast."""
    values: dict[str, Values] = {f"x{i}": x for i, x in enumerate(inputs)}
    values |= {name: program.tensors[tensor] for name, tensor in form.params.items()}
    shape = np.broadcast_shapes(*(v.shape for v in values.values()))
    return [np.broadcast_to(numpy_value(form.expr, values), shape)]


def run_table(program: Program, step: Step, form: Table, inputs: list[Values]) -> list[Values]:
    """One entry per code."""
    lowest = program.buffers[step.inputs[0]].format.lo
    return [program.tensors[form.table][inputs[0].astype(np.int64) - lowest]]


def apply_motion(sources: Sequence[Values], motion: Motion) -> Values:
    """One motion; only :class:`Join` takes several sources."""
    x = sources[0]
    match motion:
        case Join(axis):
            return np.concatenate(sources, axis)
        case Reshape(shape):
            # Shapes are for one sample; the batch rides along where the shape keeps it in front.
            return x.reshape((len(x), *shape[1:]) if shape and shape[0] == 1 else shape)
        case Transpose(order):
            return x.transpose(order)
        case Take(axis, indices):
            return np.take(x, np.asarray(indices), axis)
        case Fill(before, after, value):
            return np.pad(x, list(zip(before, after, strict=True)), constant_values=value)


def run_move(_: Program, __: Step, form: Move, inputs: list[Values]) -> list[Values]:
    """The motions in order."""
    values = list(inputs)
    for motion in form.motions:
        values = [apply_motion(values, motion)]
    return values


def run_island(program: Program, step: Step, form: Island, inputs: list[Values]) -> list[Values]:
    """Dequantize, run the piece of the network, quantize."""
    from bitwright.simulate.island import run_float

    feeds = {
        feed: program.buffers[name].format.dequantize(x)
        for feed, name, x in zip(form.feeds, step.inputs, inputs, strict=True)
    }
    results = run_float(program.tensors[form.model].tobytes(), feeds, form.fetches)
    formats = [program.buffers[name].format for name in step.outputs]
    return [f.quantize(r, form.rounding) for f, r in zip(formats, results, strict=True)]


HANDLERS: Mapping[type[Form], Callable[..., list[Values]]] = {
    Contract: run_contract,
    Reduce: run_reduce,
    Map: run_map,
    Table: run_table,
    Move: run_move,
    Island: run_island,
}
