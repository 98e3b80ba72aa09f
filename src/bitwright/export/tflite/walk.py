"""A program as a graph of TFLite operators: form by form, and layer by layer where several forms are one operator."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np

from bitwright.errors import ExportError, printable
from bitwright.export.onnx_int import is_index
from bitwright.export.qdq import layer_specs
from bitwright.export.tflite.canvas import Canvas, moved_by, refusal
from bitwright.export.tflite.elementwise import emit_map, emit_reduce, emit_table
from bitwright.export.tflite.linear import emit_contract
from bitwright.number.format import Format
from bitwright.program.forms import (
    Contract,
    Fill,
    Island,
    Join,
    Map,
    Move,
    Reduce,
    Reshape,
    Table,
    Take,
    Transpose,
)  # fmt: skip
from bitwright.program.program import Step

if TYPE_CHECKING:
    from bitwright.quantized import Quantized

SOFTMAX_FORMAT = Format(8, True, np.asarray(1 / 256), np.asarray(-128))
LOG_SOFTMAX_FORMAT = Format(8, True, np.asarray(16 / 256), np.asarray(127))
SPATIAL = (0, 2, 3, 1)


def build(q: Quantized, *, lookups: bool) -> Canvas:
    """The whole program; inputs are tensors with their axes as they stand in the network, pictures channels last.

    Raises:
        ExportError: naming the first layer that TFLite's integers cannot express.
    """
    specs = {spec.name: spec for spec in layer_specs(q)}
    canvas = Canvas(q.program, specs)
    for name in q.program.inputs:
        buffer = canvas.buffer(name)
        if is_index(buffer.format) or buffer.format.bits != 8:
            raise ExportError(
                f"Input '{printable(buffer.tensor or name)}' is {buffer.format}; int8 TFLite takes numbers of 8 bits."
            )
        order = interface_order(buffer.shape)
        canvas.put(name, canvas.new(buffer, [buffer.shape[i] for i in order]), order)
    for layer, group in groupby(q.program.steps, key=lambda step: step.layer):
        steps = list(group)
        if layer in specs and composite(canvas, steps):
            continue
        for step in steps:
            emit_step(canvas, step, lookups=lookups)
    return canvas


def interface_order(shape: Sequence[int]) -> tuple[int, ...]:
    """How inputs and outputs lie: pictures with channels last, everything else as it is."""
    return SPATIAL if len(shape) == 4 else tuple(range(len(shape)))


def emit_step(canvas: Canvas, step: Step, *, lookups: bool) -> None:
    """One step.

    Raises:
        ExportError: if there is no operator for it.
    """
    match step.form:
        case Contract():
            emit_contract(canvas, step, step.form)
        case Reduce():
            emit_reduce(canvas, step, step.form)
        case Map():
            emit_map(canvas, step, step.form)
        case Table():
            emit_table(canvas, step, step.form, lookups=lookups)
        case Move():
            emit_move(canvas, step, step.form)
        case Island():
            raise refusal(step, f"it stays in float ({step.form.reason})")


# ---------------------------------------------------------------- several forms in one operator


def composite(canvas: Canvas, steps: Sequence[Step]) -> bool:
    """Emit a layer whose steps are one operator of TFLite; False if it is none of these."""
    if any(isinstance(step.form, Island) for step in steps):
        return False
    op = canvas.spec(steps[0]).op
    if op in {"Softmax", "LogSoftmax"}:
        softmax(canvas, steps, op)
        return True
    if op in {"Resize", "Upsample"}:
        return resize(canvas, steps)
    return False


def softmax(canvas: Canvas, steps: Sequence[Step], op: str) -> None:
    """SOFTMAX and LOG_SOFTMAX along the last axis, in the formats that their kernels insist on."""
    spec = canvas.spec(steps[0])
    source, out = canvas.buffer(steps[0].inputs[0]), canvas.buffer(steps[-1].outputs[0])
    canvas.check(steps[0], source)
    canvas.check(steps[-1], out)
    rank = len(source.shape)
    axis = int(spec.attributes.get("axis", -1)) % rank
    order = (*(i for i in range(rank) if i != axis), axis)
    tensor = canvas.get(source.name, order)
    shape = canvas.shape(tensor)
    fixed = SOFTMAX_FORMAT if op == "Softmax" else LOG_SOFTMAX_FORMAT
    made = canvas.new(out, shape, format=fixed, name=f"{out.name}_{op.lower()}")
    if op == "Softmax":
        canvas.graph.op("SOFTMAX", [tensor], [made], "SoftmaxOptions", Beta=1.0)
    else:
        canvas.graph.op("LOG_SOFTMAX", [tensor], [made], "LogSoftmaxOptions")
    canvas.put(out.name, canvas.requantized(made, out.format, out.tensor or out.name), order)
    canvas.notes[
        f"{op} is computed by the runtime's own fixed-point kernel, which can differ by a step or two from the program's."
    ] = None


def resize(canvas: Canvas, steps: Sequence[Step]) -> bool:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR of height and width; False where elements are only taken."""
    spec = canvas.spec(steps[0])
    source, out = canvas.buffer(steps[0].inputs[0]), canvas.buffer(steps[-1].outputs[0])
    mode = text(spec.attributes.get("mode"), "nearest")
    where = text(spec.attributes.get("coordinate_transformation_mode"), "half_pixel")
    spatial = len(source.shape) == 4 and source.shape[:2] == out.shape[:2]
    if mode == "nearest":
        last = steps[-1].form
        flags = nearest_flags(last, source.shape, out.shape) if spatial and isinstance(last, Move) else None
        if flags is None:
            return False
        for step in steps[:-1]:
            emit_step(canvas, step, lookups=False)
        source = canvas.buffer(steps[-1].inputs[0])
    else:
        flags = {
            "half_pixel": (False, True),
            "pytorch_half_pixel": (False, True),
            "align_corners": (True, False),
            "asymmetric": (False, False),
        }.get(where)
        if flags is None or not spatial:
            raise refusal(steps[0], f"it interpolates by {where} along these axes")
        canvas.notes[
            "RESIZE_BILINEAR is computed by the runtime's own fixed-point kernel, which can differ by a step."
        ] = None
    canvas.check(steps[0], source)
    canvas.check(steps[-1], out)
    tensor = canvas.get(source.name, SPATIAL)
    size = canvas.graph.constant("size", np.asarray(out.shape[2:], np.int32))
    shape = [out.shape[i] for i in SPATIAL]
    made = canvas.new(out, shape, format=source.format)
    code, options = (
        ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions")
        if mode == "nearest"
        else ("RESIZE_BILINEAR", "ResizeBilinearOptions")
    )
    canvas.graph.op(code, [tensor, size], [made], options, AlignCorners=flags[0], HalfPixelCenters=flags[1])
    canvas.put(out.name, canvas.requantized(made, out.format, out.tensor or out.name), SPATIAL)
    return True


def nearest_flags(form: Move, shape: Sequence[int], wanted: Sequence[int]) -> tuple[bool, bool] | None:
    """(align corners, half pixel centers) by which the kernel takes the elements that ``form`` takes, if any."""
    taken = {2: tuple(range(shape[2])), 3: tuple(range(shape[3]))}
    for motion in form.motions:
        if isinstance(motion, Take) and motion.axis in taken:
            taken[motion.axis] = motion.indices
        elif not isinstance(motion, Reshape):
            return None
    for half in (False, True):
        rows = {}
        for axis in (2, 3):
            ratio = np.float32(shape[axis]) / np.float32(wanted[axis])
            places = (np.arange(wanted[axis], dtype=np.float32) + np.float32(0.5 if half else 0)) * ratio
            rows[axis] = tuple(int(i) for i in np.minimum(np.floor(places), shape[axis] - 1))
        if rows == taken:
            return False, half
    return None


def text(value: object, default: str) -> str:
    """An attribute that is a string."""
    return value.decode() if isinstance(value, bytes) else str(value or default)


# ---------------------------------------------------------------- moves


def emit_move(canvas: Canvas, step: Step, form: Move) -> None:
    """Motions in order; transposing only changes what is known about the tensor until an operator asks."""
    motions = list(form.motions)
    out = canvas.buffer(step.outputs[0])
    first = canvas.buffer(step.inputs[0])
    for name in step.inputs:
        canvas.check(step, canvas.buffer(name))
    tensor, order = canvas.any_order(first.name)
    shape = first.shape
    if motions and isinstance(motions[0], Join):
        axis = motions.pop(0).axis  # type: ignore[union-attr]
        tensors = [canvas.get(name, order) for name in step.inputs]
        shape = (*shape[:axis], sum(canvas.buffer(n).shape[axis] for n in step.inputs), *shape[axis + 1 :])
        made = canvas.new(out, [shape[i] for i in order], name=None if not motions else f"{out.name}_joined")
        fields = {"Axis": order.index(axis), "FusedActivationFunction": 0}
        tensor = canvas.graph.op("CONCATENATION", tensors, [made], "ConcatenationOptions", **fields)
    for motion in motions:
        match motion:
            case Reshape():
                plain = canvas.permuted(tensor, [order.index(i) for i in range(len(shape))])
                shape, order = motion.shape, tuple(range(len(motion.shape)))
                tensor = canvas.reshaped(plain, shape)
            case Transpose():
                shape = tuple(shape[i] for i in motion.order)
                order = tuple(motion.order.index(axis) for axis in order)
            case Take():
                tensor = taken(canvas, tensor, order.index(motion.axis), motion.indices)
                shape = (*shape[: motion.axis], len(motion.indices), *shape[motion.axis + 1 :])
            case Fill():
                pads = [(motion.before[i], motion.after[i]) for i in order]
                tensor = canvas.padded(tensor, pads, motion.value - moved_by(first.format))
                shape = tuple(b + n + a for b, n, a in zip(motion.before, shape, motion.after, strict=True))
            case Join():
                raise refusal(step, "it joins tensors after moving them")
    canvas.put(out.name, tensor, order)


def taken(canvas: Canvas, tensor: int, axis: int, indices: tuple[int, ...]) -> int:
    """The elements at ``indices`` along an axis: a slice where they are evenly apart, else a gather."""
    shape = list(canvas.shape(tensor))
    if indices == tuple(range(shape[axis])):
        return tensor
    made = canvas.like(tensor, [*shape[:axis], len(indices), *shape[axis + 1 :]], "_taken")
    steps = {b - a for a, b in pairwise(indices)} or {1}
    stride = next(iter(steps))
    if len(steps) > 1 or stride <= 0:
        places = canvas.graph.constant("indices", np.asarray(indices, np.int32))
        return canvas.graph.op("GATHER", [tensor, places], [made], "GatherOptions", Axis=axis)
    begin, end, strides = [0] * len(shape), list(shape), [1] * len(shape)
    begin[axis], end[axis], strides[axis] = indices[0], indices[-1] + 1, stride
    names = [
        canvas.graph.constant(name, np.asarray(values, np.int32))
        for name, values in (("begin", begin), ("end", end), ("strides", strides))
    ]
    return canvas.graph.op("STRIDED_SLICE", [tensor, *names], [made], "StridedSliceOptions")
