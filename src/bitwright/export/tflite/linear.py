"""Contractions as CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED and TRANSPOSE_CONV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.export.tflite.canvas import SAME, VALID, Canvas, bounds, moved_by, refusal
from bitwright.export.tflite.flat import Quantization
from bitwright.number.format import Format
from bitwright.program.forms import Axis, Contract
from bitwright.program.program import Step

INT32 = 1 << 31
NARROWEST = -127


def emit_contract(canvas: Canvas, step: Step, form: Contract) -> None:
    """A layer with weights.

    Raises:
        ExportError: if TFLite cannot hold or compute it.
    """
    source, out = canvas.buffer(step.inputs[0]), canvas.buffer(step.outputs[0])
    canvas.check(step, source)
    canvas.check(step, out)
    stored = next(x.format for x in canvas.program.learnables if x.tensor == form.weight)
    weights = canvas.program.tensors[form.weight].astype(np.int64)
    if int(weights.min(initial=0)) < NARROWEST or int(weights.max(initial=0)) > 127:
        raise refusal(step, f"its weights reach {int(weights.min())}..{int(weights.max())}, and -127..127 is allowed")
    limits = bounds(form.epilogue.expr, out.format)
    axes = form.axes
    if len(axes) > 2:
        raise refusal(step, f"it slides along {len(axes)} axes, and two are the most")
    if not axes or (len(axes) == 1 and axes[0].trivial and form.groups == 1):
        dense(canvas, step, form, weights, stored, limits)
        return
    if any(axis.spread > 1 for axis in axes):
        transposed(canvas, step, form, weights, stored, limits)
        return
    # One axis is two of which the second has one element.
    order = (0, 2, 3, 1) if len(axes) == 2 else (0, 2, 1)
    tensor = canvas.get(step.inputs[0], order)
    both = (*axes, Axis())[:2]
    if len(axes) == 1:
        n, length, channels = canvas.shape(tensor)
        tensor = canvas.reshaped(tensor, (n, length, 1, channels))
        weights = weights[..., None]
    zero = int(source.format.zero_point) - moved_by(source.format)
    tensor, padding = with_padding(canvas, tensor, both, zero)
    depthwise = form.groups > 1 and weights.shape[1] == 1
    outputs = len(weights)
    if depthwise:
        kernel, axis = weights.transpose(1, 2, 3, 0), 3
    else:
        kernel, axis = weights.transpose(0, 2, 3, 1), 0
    filters = constant_weights(canvas, step, kernel, stored, axis)
    inputs = [tensor, filters, constant_bias(canvas, step, form, source.format, stored)]
    result = [1, *(a.outputs(n) for a, n in zip(both, (*source.shape[2:], 1), strict=False)), outputs]
    fields: dict[str, Any] = {
        "Padding": padding,
        "StrideH": both[0].stride,
        "StrideW": both[1].stride,
        "DilationHFactor": both[0].dilation,
        "DilationWFactor": both[1].dilation,
    }
    if depthwise:
        fields["DepthMultiplier"] = outputs // form.groups
    code, options = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
    made = canvas.finished(code, inputs, out, result, limits, options, **fields)
    if len(axes) == 1:
        made = canvas.reshaped(made, (1, result[1], outputs))
    canvas.put(out.name, made, order)


def with_padding(canvas: Canvas, tensor: int, axes: Sequence[Axis], code: int) -> tuple[int, int]:
    """The padding mode of TFLite that means ``axes``, with a border of ``code`` of our own where none does.

    Args:
        canvas: The graph.
        tensor: Channels last, ``[1, h, w, c]``.
        axes: Of height and width.
        code: As stored.
    """
    mode = padding_mode(axes, canvas.shape(tensor)[1:3])
    if mode is not None:
        return tensor, mode
    pads = [(0, 0), *(needed_pads(a, n) for a, n in zip(axes, canvas.shape(tensor)[1:3], strict=True)), (0, 0)]
    return canvas.padded(tensor, pads, code), VALID


def reach(axis: Axis) -> int:
    """Elements from a window's first tap to its last."""
    return (axis.taps - 1) * axis.dilation + 1


def needed_pads(axis: Axis, size: int) -> tuple[int, int]:
    """(before, after), without what no window reaches."""
    last = (axis.outputs(size) - 1) * axis.stride + reach(axis) - axis.before
    return axis.before, max(0, last - size)


def padding_mode(axes: Sequence[Axis], sizes: Sequence[int]) -> int | None:
    """SAME or VALID where one of them means just these windows, else None."""
    pads = [needed_pads(axis, n) for axis, n in zip(axes, sizes, strict=True)]
    if not any(b or a for b, a in pads):
        return VALID
    for axis, n, (before, _) in zip(axes, sizes, pads, strict=True):
        outputs = -(-n // axis.stride)
        total = max(0, (outputs - 1) * axis.stride + reach(axis) - n)
        if axis.outputs(n) != outputs or before != total // 2:
            return None
    return SAME


def constant_weights(canvas: Canvas, step: Step, kernel: NDArray[np.int64], stored: Format, axis: int) -> int:
    """Weights of a layer in TFLite's layout."""
    scale = np.asarray(stored.scale, np.float32).reshape(-1)
    found = Quantization(scale=scale, zero_point=np.zeros(scale.shape, np.int64), axis=axis)
    return canvas.graph.constant(f"{step.layer}/weights", kernel.astype(np.int8), found)


def constant_bias(canvas: Canvas, step: Step, form: Contract, source: Format, stored: Format) -> int:
    """The bias in accumulator steps; zeros where there is none, because not all kernels take a missing one."""
    outputs = len(canvas.program.tensors[form.weight])
    codes = np.zeros(outputs, np.int64)
    if form.bias is not None:
        codes = canvas.program.tensors[form.bias].astype(np.int64)
    if (np.abs(codes) >= INT32).any():
        raise refusal(step, "its bias does not fit 32 bits")
    scale = (np.float32(source.scale) * np.asarray(stored.scale, np.float32)).reshape(-1).astype(np.float32)
    found = Quantization(scale=scale, zero_point=np.zeros(scale.shape, np.int64), axis=0)
    return canvas.graph.constant(f"{step.layer}/bias", codes.astype(np.int32), found)


def dense(
    canvas: Canvas, step: Step, form: Contract, weights: NDArray[np.int64], stored: Format, limits: tuple[int, int]
) -> None:
    """FULLY_CONNECTED over the last axis."""
    source, out = canvas.buffer(step.inputs[0]), canvas.buffer(step.outputs[0])
    order = (0, 1) if len(source.shape) == 2 else (0, 2, 1)
    tensor = canvas.get(source.name, order)
    filters = constant_weights(canvas, step, weights.reshape(len(weights), -1), stored, 0)
    inputs = [tensor, filters, constant_bias(canvas, step, form, source.format, stored)]
    shape = [out.shape[i] for i in order]
    made = canvas.finished(
        "FULLY_CONNECTED", inputs, out, shape, limits, "FullyConnectedOptions", KeepNumDims=len(order) > 2
    )
    canvas.put(out.name, made, order)


def transposed(
    canvas: Canvas, step: Step, form: Contract, weights: NDArray[np.int64], stored: Format, limits: tuple[int, int]
) -> None:
    """TRANSPOSE_CONV without padding, and what lies in the padding cut off afterwards."""
    source, out = canvas.buffer(step.inputs[0]), canvas.buffer(step.outputs[0])
    if any(axis.dilation != 1 or axis.stride != 1 for axis in form.axes):
        raise refusal(step, "it is a transposed convolution with dilation")
    if form.groups > 1:
        weights = ungrouped(weights, form.groups)
    one = len(form.axes) == 1
    order = (0, 2, 1) if one else (0, 2, 3, 1)
    tensor = canvas.get(source.name, order)
    axes = (*form.axes, Axis())[:2]
    sizes = (*source.shape[2:], 1)[:2]
    if one:
        tensor = canvas.reshaped(tensor, (1, sizes[0], 1, source.shape[1]))
        weights = weights[..., None]
    kernel = np.flip(weights, axis=(2, 3)).transpose(0, 2, 3, 1)
    whole = [(n - 1) * axis.spread + axis.taps for axis, n in zip(axes, sizes, strict=True)]
    # A tap of ours at output p is theirs at p + before'; what output_padding adds lies beyond the whole result.
    first = [axis.taps - 1 - axis.before for axis in axes]
    wanted = [axis.outputs(n) for axis, n in zip(axes, sizes, strict=True)]
    beyond = [max(0, f + w - n) for f, w, n in zip(first, wanted, whole, strict=True)]
    if any(f < 0 for f in first) or any(beyond):
        # A border of zero points makes the result grow at both ends.
        extra = [
            (-(f // axis.spread) if f < 0 else 0, -(-b // axis.spread))
            for f, b, axis in zip(first, beyond, axes, strict=True)
        ]
        zero = int(source.format.zero_point) - moved_by(source.format)
        tensor = canvas.padded(tensor, [(0, 0), *extra, (0, 0)], zero)
        whole = [n + (b + a) * axis.spread for n, (b, a), axis in zip(whole, extra, axes, strict=True)]
        first = [f + b * axis.spread for f, (b, _), axis in zip(first, extra, axes, strict=True)]
    filters = constant_weights(canvas, step, kernel, stored, 0)
    shape = [1, *whole, len(weights)]
    size = canvas.graph.constant("shape", np.asarray(shape, np.int32))
    inputs = [size, filters, tensor, constant_bias(canvas, step, form, source.format, stored)]
    strides = {"StrideH": axes[0].spread, "StrideW": axes[1].spread}
    made = canvas.finished(
        "TRANSPOSE_CONV", inputs, out, shape, limits, "TransposeConvOptions", Padding=VALID, **strides
    )
    made = cropped(canvas, made, first, wanted)
    if one:
        made = canvas.reshaped(made, (1, wanted[0], len(weights)))
    canvas.put(out.name, made, order)


def ungrouped(weights: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    """``[O, I/groups, ...]`` as ``[O, I, ...]`` with zeros where a group does not look."""
    outputs, inner, *taps = weights.shape
    whole = np.zeros((groups, outputs // groups, groups, inner, *taps), np.int64)
    for g, part in enumerate(weights.reshape(groups, outputs // groups, inner, *taps)):
        whole[g, :, g] = part
    return whole.reshape(outputs, groups * inner, *taps)


def cropped(canvas: Canvas, tensor: int, first: Sequence[int], wanted: Sequence[int]) -> int:
    """Rows and columns ``first .. first + wanted`` of ``[1, h, w, c]``."""
    n, height, width, channels = canvas.shape(tensor)
    if (height, width) == tuple(wanted):
        return tensor
    begin = canvas.graph.constant("begin", np.asarray([0, *first, 0], np.int32))
    ends = [f + w for f, w in zip(first, wanted, strict=True)]
    end = canvas.graph.constant("end", np.asarray([n, *ends, channels], np.int32))
    ones = canvas.graph.constant("strides", np.ones(4, np.int32))
    made = canvas.like(tensor, [n, *wanted, channels], "_cropped")
    return canvas.graph.op("STRIDED_SLICE", [tensor, begin, end, ones], [made], "StridedSliceOptions")
