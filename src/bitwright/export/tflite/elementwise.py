"""Maps, tables and pools of a program as operators of TFLite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.export.tflite.canvas import (
    HI,
    LO,
    RELU,
    RELU6,
    VALID,
    Canvas,
    bounds,
    fused,
    moved_by,
    quantization,
    refusal,
)
from bitwright.export.tflite.flat import Quantization
from bitwright.export.tflite.linear import padding_mode, with_padding
from bitwright.number.format import Format
from bitwright.program.forms import Axis, Map, Reduce, Table
from bitwright.program.program import Buffer, Step

LARGEST_INT32 = (1 << 31) - 1
TWO_OPERANDS = {"Add": "ADD", "Sum": "ADD", "Sub": "SUB", "Mul": "MUL"}
OPTIONS = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}


def emit_map(canvas: Canvas, step: Step, form: Map) -> None:
    """One element from elements at the same place.

    Raises:
        ExportError: if TFLite has no such operator.
    """
    spec = canvas.spec(step)
    for name in (*step.inputs, *step.outputs):
        canvas.check(step, canvas.buffer(name))
    operands = len(spec.tensors) if spec.op in TWO_OPERANDS else 0
    if spec.op in TWO_OPERANDS and operands == 2 and len(spec.inputs) == 2:
        two_operands(canvas, step, form, TWO_OPERANDS[spec.op])
    elif spec.op in {"Add", "Sum", "Sub", "Mul", "Div"} and operands <= 1 and len(step.inputs) == 1:
        with_constants(canvas, step, form)
    elif spec.op in {"Min", "Max"}:
        extreme(canvas, step, form)
    elif spec.op == "PRelu":
        prelu(canvas, step, form)
    elif len(step.inputs) == 1 and len(form.expr.variables()) <= 1 + len(form.params):
        requantize(canvas, step, form)
    else:
        raise refusal(step, f"it combines {len(step.inputs)} tensors in a way that no operator does")


def aligned(canvas: Canvas, step: Step) -> tuple[list[int], tuple[int, ...]]:
    """The inputs of a step in one order of axes: that of the input that is not broadcast."""
    out = canvas.buffer(step.outputs[0])
    whole = next((n for n in step.inputs if canvas.buffer(n).shape == out.shape), step.inputs[0])
    _, order = canvas.any_order(whole)
    return [canvas.get(name, order) for name in step.inputs], order


def two_operands(canvas: Canvas, step: Step, form: Map, code: str) -> None:
    """ADD, SUB and MUL; an operand may be both."""
    out = canvas.buffer(step.outputs[0])
    tensors, order = aligned(canvas, step)
    tensors = tensors * 2 if len(tensors) == 1 else tensors
    limits = bounds(form.expr, out.format)
    shape = [out.shape[i] for i in order]
    canvas.put(out.name, canvas.finished(code, tensors, out, shape, limits, OPTIONS[code]), order)


def requantize(canvas: Canvas, step: Step, form: Map) -> None:
    """Another format, and the limits of an activation: RELU and its kin, or QUANTIZE, MAXIMUM and MINIMUM."""
    source, out = canvas.buffer(step.inputs[0]), canvas.buffer(step.outputs[0])
    tensor, order = canvas.any_order(source.name)
    limits = bounds(form.expr, out.format)
    kind = fused(limits, out.format)
    name = out.tensor or out.name
    if kind in {RELU, RELU6}:
        made = canvas.new(out, canvas.shape(tensor))
        tensor = canvas.graph.op("RELU" if kind == RELU else "RELU6", [tensor], [made])
    else:
        tensor = canvas.limited(canvas.requantized(tensor, out.format, name), limits, name)
    canvas.put(out.name, tensor, order)


def with_constants(canvas: Canvas, step: Step, form: Map) -> None:
    """A tensor times and plus constants.

    Constants that vary along one axis are a depthwise convolution of one tap: its weights are 127 steps of a scale of
    their own each, and its bias has 32 bits, so nothing of the constants is lost.  Others are tensors of 8 bits.
    """
    spec = canvas.spec(step)
    source, out = canvas.buffer(step.inputs[0]), canvas.buffer(step.outputs[0])
    rank = len(out.shape)
    gain, offset = constants_of(spec.op, spec.inputs, rank)
    varying = [i for i in range(rank) if gain.shape[i] > 1 or offset.shape[i] > 1]
    limits = bounds(form.expr, out.format)
    if len(varying) > 1 or source.shape != out.shape or not gain.all() or rank < 2:
        constant_operand(canvas, step, source, out, limits)
        return
    axis = varying[0] if varying else (1 if rank in {3, 4} else rank - 1)
    order = (*(i for i in range(rank) if i != axis), axis)
    tensor = canvas.get(source.name, order)
    channels = source.shape[axis]
    gains = np.broadcast_to(gain.reshape(-1), (channels,)).astype(np.float64)
    offsets = np.broadcast_to(offset.reshape(-1), (channels,)).astype(np.float64)
    scale = (np.abs(gains) / 127).astype(np.float32)
    steps = np.float32(source.format.scale) * scale
    codes = np.rint(offsets / steps.astype(np.float64))
    if (np.abs(codes) > LARGEST_INT32).any():
        raise refusal(step, "its constants do not fit 32 bits beside its input")
    shape = canvas.shape(tensor)
    flat = canvas.reshaped(tensor, (1, int(np.prod(shape[1:-1])), 1, channels))
    weights = canvas.graph.constant(
        f"{step.layer}/factors",
        np.where(gains < 0, -127, 127).astype(np.int8).reshape(1, 1, 1, channels),
        Quantization(scale=scale, zero_point=np.zeros(channels, np.int64), axis=3),
    )
    bias = canvas.graph.constant(
        f"{step.layer}/terms",
        codes.astype(np.int32),
        Quantization(scale=steps.astype(np.float32), zero_point=np.zeros(channels, np.int64), axis=0),
    )
    fields = {"Padding": VALID, "StrideH": 1, "StrideW": 1, "DepthMultiplier": 1}
    fields |= {"DilationHFactor": 1, "DilationWFactor": 1}
    made = canvas.finished(
        "DEPTHWISE_CONV_2D", [flat, weights, bias], out, canvas.shape(flat), limits, "DepthwiseConv2DOptions", **fields
    )
    canvas.put(out.name, canvas.reshaped(made, shape), order)


def constants_of(
    op: str, inputs: Sequence[str | NDArray[Any] | None], rank: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factor and term, each with ``rank`` axes, of an operator on a tensor and constants."""
    gain, offset = np.ones((1,) * rank), np.zeros((1,) * rank)
    for place, value in enumerate(inputs):
        constant = None if isinstance(value, str) or value is None else np.asarray(value, np.float64)
        sign = -1.0 if op == "Sub" and place else 1.0
        if constant is None:
            gain = gain * sign
            continue
        constant = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
        match op:
            case "Mul":
                gain = gain * constant
            case "Div":
                gain = gain / constant
            case _:
                offset = offset + sign * constant
    return gain, offset


def constant_operand(canvas: Canvas, step: Step, source: Buffer, out: Buffer, limits: tuple[int, int]) -> None:
    """An operator with a constant tensor of 8 bits beside its input."""
    spec = canvas.spec(step)
    rank = len(out.shape)
    values = next(np.asarray(v, np.float64) for v in spec.inputs if v is not None and not isinstance(v, str))
    if spec.op == "Div":
        values = 1 / values
    values = values.reshape((1,) * (rank - values.ndim) + values.shape)
    lo, hi = min(0.0, float(values.min())), max(0.0, float(values.max()))
    format = Format(8, True, np.asarray(max(hi - lo, 1e-30) / 255))
    zero = int(np.clip(np.rint(LO - lo / float(format.scale)), LO, HI))
    format = Format(8, True, format.scale, np.asarray(zero))
    _, order = canvas.any_order(source.name)
    codes = format.quantize(values).astype(np.int8).transpose(order)
    constant = canvas.graph.constant(f"{step.layer}/constant", np.ascontiguousarray(codes), quantization(format))
    code = "MUL" if spec.op == "Div" else TWO_OPERANDS[spec.op]
    tensor = canvas.get(source.name, order)
    first = spec.inputs[0] is not None and isinstance(spec.inputs[0], str)
    operands = [tensor, constant] if first else [constant, tensor]
    shape = [out.shape[i] for i in order]
    canvas.put(out.name, canvas.finished(code, operands, out, shape, limits, OPTIONS[code]), order)
    canvas.notes[f"The constant of layer '{step.layer}' has 8 bits in TFLite and 16 in the program."] = None


def extreme(canvas: Canvas, step: Step, form: Map) -> None:
    """MINIMUM and MAXIMUM of tensors and constants, all in the output's format."""
    spec, out = canvas.spec(step), canvas.buffer(step.outputs[0])
    tensors, order = aligned(canvas, step)
    operands = [canvas.requantized(t, out.format, f"{out.name}_in{i}") for i, t in enumerate(tensors)]
    shape = [out.shape[i] for i in order]
    for value in spec.inputs:
        if value is not None and not isinstance(value, str):
            ends = out.format.real_range
            real = np.clip(np.asarray(value, np.float64), float(ends[0]), float(ends[1]))
            codes = (out.format.quantize(real).astype(np.int64) - moved_by(out.format)).astype(np.int8)
            codes = codes.reshape((1,) * (len(order) - codes.ndim) + codes.shape).transpose(order)
            operands.append(
                canvas.graph.constant(f"{step.layer}/constant", np.ascontiguousarray(codes), quantization(out.format))
            )
    code = "MINIMUM" if spec.op == "Min" else "MAXIMUM"
    total = operands[0]
    for other in operands[1:]:
        total = canvas.graph.op(code, [total, other], [canvas.new(out, shape)], "MaximumMinimumOptions")
    canvas.put(out.name, canvas.limited(total, bounds(form.expr, out.format), out.tensor or out.name), order)


def prelu(canvas: Canvas, step: Step, form: Map) -> None:
    """PRELU with slopes of 8 bits."""
    spec = canvas.spec(step)
    source, out = canvas.buffer(step.inputs[0]), canvas.buffer(step.outputs[0])
    slope = np.asarray(spec.inputs[1], np.float64)
    rank = len(out.shape)
    slope = slope.reshape((1,) * (rank - slope.ndim) + slope.shape)
    order = (0, 2, 3, 1) if rank == 4 else tuple(range(rank))
    scale = np.float32(max(float(np.abs(slope).max()), 1e-30) / 127)
    codes = np.rint(slope / scale).astype(np.int8).transpose(order)[0]
    found = Quantization(scale=np.asarray([scale]), zero_point=np.zeros(1, np.int64))
    alpha = canvas.graph.constant(f"{step.layer}/slopes", np.ascontiguousarray(codes), found)
    made = canvas.new(out, [out.shape[i] for i in order])
    canvas.graph.op("PRELU", [canvas.get(source.name, order), alpha], [made])
    canvas.put(out.name, canvas.limited(made, bounds(form.expr, out.format), out.tensor or out.name), order)


# ---------------------------------------------------------------- tables

Fixed = tuple[float, int] | None
# Operator → TFLite's, the output format that its kernel insists on, its options, and the attributes that it means.
KERNELS: Mapping[str, tuple[str, Fixed, str | None, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "Sigmoid": ("LOGISTIC", (1 / 256, -128), None, lambda a: {}),
    "Tanh": ("TANH", (1 / 128, 0), None, lambda a: {}),
    "HardSwish": ("HARD_SWISH", None, "HardSwishOptions", lambda a: {}),
    "LeakyRelu": ("LEAKY_RELU", None, "LeakyReluOptions", lambda a: {"Alpha": float(a.get("alpha", 0.01))}),
}


def emit_table(canvas: Canvas, step: Step, form: Table, *, lookups: bool) -> None:
    """A function of one element: TFLite's own kernel where it has one for these formats, else a look-up.

    Args:
        canvas: The graph.
        step: The step.
        form: Its table.
        lookups: Look up everything, which gives the program's integers.
    """
    spec = canvas.spec(step)
    source, out = canvas.buffer(step.inputs[0]), canvas.buffer(step.outputs[0])
    for buffer in (source, out):
        canvas.check(step, buffer)
    tensor, order = canvas.any_order(source.name)
    shape = canvas.shape(tensor)
    kernel = KERNELS.get(spec.op)
    if kernel is not None and not lookups and spec.clamp is None and spec.rule.method != "dpu":
        code, fixed, options, meaning = kernel
        found = quantization(out.format)
        fits = fixed is None or (float(found.scale[0]) == fixed[0] and int(found.zero_point[0]) == fixed[1])
        fields = meaning(spec.attributes)
        if fits:
            made = canvas.new(out, shape)
            canvas.put(out.name, canvas.graph.op(code, [tensor], [made], options, **fields), order)
            canvas.notes[
                f"{code} is computed by the runtime's own kernel, whose integers can differ from the program's table; "
                "--option lookups=yes writes the table."
            ] = None
            return
    entries = canvas.program.tensors[form.table].astype(np.int64) - moved_by(out.format)
    below = source.format.lo - moved_by(source.format) - LO  # codes that a narrow format does not use
    table = np.zeros(256, np.int64)
    table[below : below + len(entries)] = entries
    constant = canvas.graph.constant(f"{step.layer}/table", table.astype(np.int8), quantization(out.format))
    wide = canvas.graph.tensor(f"{out.name}_code", shape, "int32")
    kinds = {"InDataType": KIND_INT8, "OutDataType": KIND_INT32}
    canvas.graph.op("CAST", [tensor], [wide], "CastOptions", **kinds)
    place = canvas.graph.tensor(f"{out.name}_place", shape, "int32")
    offset = canvas.graph.constant("offset", np.asarray([-LO], np.int32))
    canvas.graph.op("ADD", [wide, offset], [place], "AddOptions", FusedActivationFunction=0)
    made = canvas.new(out, shape)
    canvas.put(out.name, canvas.graph.op("GATHER", [constant, place], [made], "GatherOptions", Axis=0), order)


KIND_INT8, KIND_INT32, KIND_INT64 = 9, 2, 4
"""Numbers of types in the schema."""


# ---------------------------------------------------------------- windows


def emit_reduce(canvas: Canvas, step: Step, form: Reduce) -> None:
    """Pools, means, sums and maxima.

    Raises:
        ExportError: if the windows are none that TFLite has.
    """
    source, out = canvas.buffer(step.inputs[0]), canvas.buffer(step.outputs[0])
    canvas.check(step, source)
    if form.combine == "argmax":
        arg_max(canvas, step, form)
        return
    canvas.check(step, out)
    whole = [i + 1 for i, a in enumerate(form.axes) if is_whole(a, source.shape[i + 1])]
    windows = [i + 1 for i, a in enumerate(form.axes) if not a.trivial and i + 1 not in whole]
    op = canvas.spec(step).op
    # A mean over everything that changes its format is MEAN, which rounds once; pools keep the format of their input.
    kept = op != "GlobalAveragePool" or source.format == out.format
    pools = op in {"MaxPool", "AveragePool", "GlobalAveragePool"} and 1 not in whole and kept
    if windows or (pools and len(source.shape) in {3, 4}):
        pool(canvas, step, form)
        return
    code = "REDUCE_MAX" if form.combine == "max" else "SUM" if op == "ReduceSum" else "MEAN"
    tensor, order = canvas.any_order(source.name)
    places = sorted(order.index(i) for i in whole)
    axes = canvas.graph.constant("axes", np.asarray(places, np.int32))
    shape = [1 if i in places else n for i, n in enumerate(canvas.shape(tensor))]
    same = source.format if code == "REDUCE_MAX" else out.format
    made = canvas.new(out, shape, format=same)
    canvas.graph.op(code, [tensor, axes], [made], "ReducerOptions", KeepDims=True)
    if code != "REDUCE_MAX":
        canvas.notes[f"{code} is computed by the runtime's own kernel, which can differ by a step."] = None
    name = out.tensor or out.name
    made = canvas.requantized(made, out.format, name)
    canvas.put(out.name, canvas.limited(made, bounds(form.epilogue.expr, out.format), name), order)


def is_whole(axis: Axis, size: int) -> bool:
    """Whether a window covers its axis."""
    return axis.taps == size and axis.taps > 1 and not axis.before and not axis.after


def pool(canvas: Canvas, step: Step, form: Reduce) -> None:
    """MAX_POOL_2D and AVERAGE_POOL_2D, which keep the format of their input."""
    source, out = canvas.buffer(step.inputs[0]), canvas.buffer(step.outputs[0])
    if len(source.shape) not in {3, 4} or not form.axes[0].trivial:
        raise refusal(step, "its window is not over height and width")
    if any(a.dilation != 1 for a in form.axes):
        raise refusal(step, "its window has gaps")
    one = len(source.shape) == 3
    order = (0, 2, 1) if one else (0, 2, 3, 1)
    tensor = canvas.get(source.name, order)
    axes = (*form.axes[1:], Axis())[:2]
    if one:
        n, length, channels = canvas.shape(tensor)
        tensor = canvas.reshaped(tensor, (n, length, 1, channels))
    sizes = canvas.shape(tensor)[1:3]
    if form.combine == "max":
        tensor, padding = with_padding(canvas, tensor, axes, LO)
    else:
        mode = padding_mode(axes, sizes)
        if mode is None:
            raise refusal(step, "its padding is not TFLite's SAME, and averages must not count a border")
        padding = mode
    shape = [1, *(a.outputs(n) for a, n in zip(axes, sizes, strict=True)), source.shape[1]]
    fields = {
        "Padding": padding,
        "StrideH": axes[0].stride,
        "StrideW": axes[1].stride,
        "FilterHeight": axes[0].taps,
        "FilterWidth": axes[1].taps,
    }
    code = "MAX_POOL_2D" if form.combine == "max" else "AVERAGE_POOL_2D"
    limits = bounds(form.epilogue.expr, out.format)
    if source.format == out.format:
        made = canvas.finished(code, [tensor], out, shape, limits, "Pool2DOptions", **fields)
    else:
        inner = canvas.new(out, shape, name=f"{out.name}_pooled", format=source.format)
        canvas.graph.op(code, [tensor], [inner], "Pool2DOptions", FusedActivationFunction=0, **fields)
        name = out.tensor or out.name
        made = canvas.limited(canvas.requantized(inner, out.format, name), limits, name)
        canvas.notes[f"{code} keeps its input's format in TFLite, so layer '{step.layer}' is rounded twice there."] = (
            None
        )
    if one:
        made = canvas.reshaped(made, (1, shape[1], source.shape[1]))
    canvas.put(out.name, made, order)


def arg_max(canvas: Canvas, step: Step, form: Reduce) -> None:
    """ARG_MAX, whose result has no format."""
    source, out = canvas.buffer(step.inputs[0]), canvas.buffer(step.outputs[0])
    axis = next(i + 1 for i, a in enumerate(form.axes) if a.taps > 1)
    tensor, order = canvas.any_order(source.name)
    place = order.index(axis)
    shape = [n for i, n in enumerate(canvas.shape(tensor)) if i != place]
    dimension = canvas.graph.constant("axis", np.asarray([place], np.int32))
    made = canvas.graph.tensor(f"{out.name}_index", shape, "int64")
    canvas.graph.op("ARG_MAX", [tensor, dimension], [made], "ArgMaxOptions", OutputType=KIND_INT64)
    kept = canvas.shape(tensor)
    canvas.put(out.name, canvas.reshaped(made, [1 if i == place else n for i, n in enumerate(kept)]), order)
