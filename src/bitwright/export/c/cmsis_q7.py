"""Calls of the legacy q7 functions of CMSIS-NN (CMSIS 5.9.0 and older), whose numbers are powers of two.

Source: ARM-software/CMSIS_5 tag 5.9.0, ``CMSIS/NN/Include/arm_nnfunctions.h`` and ``CMSIS/NN/Source``.  Their sums start at
``(bias << bias_shift) + half`` and end in one shift to the right, which is the half-up rounding of ``mcu-q7``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.export.c.clamps import clamps_of, only_clamps
from bitwright.export.c.cmsis_s8 import FAILED, require_bytes, require_solid
from bitwright.export.c.contract import UINT16, Geometry, geometry_of
from bitwright.export.c.fast import bounds
from bitwright.export.c.library import LibraryCall, NotCovered, Question
from bitwright.export.c.requant import recognize
from bitwright.mcu.arm import dsp
from bitwright.mcu.runtime import pack_conv, pack_depthwise
from bitwright.number.expr import Expr, Op, divide, saturate, to_rows
from bitwright.number.format import Rounding
from bitwright.program.forms import Axis, Contract, Reduce

BYTE, FOUR = 128, 4


def call(question: Question) -> LibraryCall:
    """The call for a step.

    Raises:
        NotCovered: the library computes something else, or nothing of the kind.
    """
    form = question.step.form
    if isinstance(form, Contract):
        return _contract(question, form)
    if isinstance(form, Reduce):
        return _pool(question, form)
    raise NotCovered("the q7 functions have nothing for it")


def split_bias(bias: NDArray[np.int64]) -> tuple[NDArray[np.int8], int]:
    """Biases in accumulator steps as bytes and the left shift that all of them share.

    Raises:
        NotCovered: they have no such form.
    """
    low = int(np.bitwise_or.reduce(bias, initial=0))
    most = (low & -low).bit_length() - 1 if low else 0  # zeros at the end of all of them
    for shift in range(most + 1):
        codes = bias >> shift
        if codes.min(initial=0) >= -BYTE and codes.max(initial=0) < BYTE:
            return codes.astype(np.int8), shift
    raise NotCovered("its biases are no bytes with one shift")


def _contract(question: Question, form: Contract) -> LibraryCall:
    scene, step = question.scene, question.step
    require_bytes(question)
    geometry = geometry_of(scene, step)
    if geometry is None:
        raise NotCovered("its tensors do not lie channels last, or its accumulator needs more than 32 bits")
    require_solid(geometry)
    weights = np.asarray(scene.program.tensors[form.weight])
    params = {k: np.asarray(scene.program.tensors[t], np.int64) for k, t in form.epilogue.params.items()}
    requant = recognize(form.epilogue.expr, params, len(weights))
    if requant is None or requant.kind != "shift":
        raise NotCovered("its requantizer is not one shift to the right, rounded half-up")
    if requant.shift.size != 1 or int(requant.shift[0]) < 0:
        raise NotCovered("its channels have shifts of their own")
    if form.input_zero or requant.zero:
        raise NotCovered("it has a zero point, which q7 numbers have not")
    lo, hi = bounds(form.epilogue.expr, requant, -BYTE, BYTE - 1)
    if (lo, hi) not in ((-BYTE, BYTE - 1), (0, BYTE - 1)):
        raise NotCovered("its outputs are cut at other bounds than 0 and 127")
    bias = (
        np.zeros(len(weights), np.int64)
        if form.bias is None
        else np.asarray(scene.program.tensors[form.bias], np.int64)
    )
    codes, left = split_bias(bias)
    layout = scene.layouts[step.inputs[0]]
    if layout.order is None:
        weights = weights[:, layout.positions]
    function, arguments, packed, scratch = _function(geometry, form, weights, left, int(requant.shift[0]))
    text = ", ".join(arguments)
    lines = [f"if ({function}({text}) != ARM_MATH_SUCCESS) {{{{", f"    {FAILED}", "}}"]
    count = scene.buffer(step.outputs[0]).size
    if lo == 0:
        if count >= UINT16:
            raise NotCovered("arm_relu_q7 takes fewer elements")
        lines.append(f"arm_relu_q7({{y}}, {count});")
    tables: Mapping[str, tuple[str, NDArray[Any]]] = {"w": ("weights", packed), "b": ("bias", codes)}
    return LibraryCall(function=function, lines=tuple(lines), tables=tables, scratch_bytes=scratch)


def _function(
    geometry: Geometry, form: Contract, weights: NDArray[Any], left: int, right: int
) -> tuple[str, list[str], NDArray[Any], int]:
    """The function, its arguments, the weights as it wants them, and the bytes of its buffer."""
    square = weights.reshape(*weights.shape[:2], *geometry.taps)
    rows, columns = geometry.axes
    if max(geometry.in_c, geometry.out_c) >= UINT16:
        raise NotCovered("it has more channels than the q7 functions count")
    if geometry.taps == (1, 1) and geometry.in_size == geometry.out_size == (1, 1) and form.groups == 1:
        arguments = ["{x0}", "{w}", str(geometry.in_c), str(geometry.out_c), str(left), str(right), "{b}", "{y}", Q15]
        return "arm_fully_connected_q7", arguments, pack_conv(square), 2 * geometry.in_c + 2
    if (rows.dilation, columns.dilation) != (1, 1) or min(rows.before, columns.before) < 0:
        raise NotCovered("the q7 functions know no dilation, and leave out no rows or columns")
    depthwise = form.groups == geometry.in_c == geometry.out_c and form.groups > 1
    if form.groups > 1 and not depthwise:
        raise NotCovered("the q7 functions know no groups but one channel each")
    shape = [geometry.in_size[1], geometry.in_size[0], geometry.in_c]
    window = [
        geometry.out_c,
        geometry.taps[1],
        geometry.taps[0],
        columns.before,
        rows.before,
        columns.stride,
        rows.stride,
    ]
    arguments = ["{x0}", *map(str, shape), "{w}", *map(str, window), "{b}", str(left), str(right), "{y}"]
    arguments += [str(geometry.out_size[1]), str(geometry.out_size[0]), Q15, "NULL"]
    column = geometry.taps[0] * geometry.taps[1] * geometry.in_c
    if depthwise:
        return "arm_depthwise_separable_conv_HWC_q7_nonsquare", arguments, pack_depthwise(square), 2 * column + 2
    return f"{_convolution(geometry)}_nonsquare", arguments, pack_conv(square), FOUR * column


Q15 = "(q15_t *){scratch}"


def _convolution(geometry: Geometry) -> str:
    """The fastest variant whose conditions hold."""
    even = geometry.in_c % FOUR == 0 and geometry.out_c % 2 == 0
    plain = all(a == Axis() for a in geometry.axes)
    if even and plain:
        return "arm_convolve_1x1_HWC_q7_fast"
    inside = all(
        # Between the paddings the fast variant does not look whether a row is there.
        (outputs - 1 - axis.before) * axis.stride - axis.before + axis.taps <= inputs
        for axis, inputs, outputs in zip(geometry.axes, geometry.in_size, geometry.out_size, strict=True)
    )
    return "arm_convolve_HWC_q7_fast" if even and inside else "arm_convolve_HWC_q7_basic"


def _pool(question: Question, form: Reduce) -> LibraryCall:
    scene, step = question.scene, question.step
    require_bytes(question)
    source, result = scene.buffer(step.inputs[0]), scene.buffer(step.outputs[0])
    expr, average = form.epilogue.expr, form.combine == "sum"
    acc = next((node for node in expr.walk() if node.op is Op.VAR and node.name == "acc"), None)
    count = next((node for node in expr.walk() if node.op is Op.VAR and node.name == "count"), None)
    taps = int(np.prod([axis.taps for axis in form.axes]))
    if acc is None or form.combine == "argmax":
        raise NotCovered("the q7 functions have nothing for it")
    plain: Expr = acc
    if average:
        plain = divide(acc, taps if count is None else count, Rounding.TOWARD_ZERO)
        if question.core is None or question.core in dsp.CORES:
            raise NotCovered("with DSP instructions arm_avepool_q7_HWC cuts off twice, along rows and along columns")
    limits = clamps_of(expr)
    same = to_rows(saturate(plain, *limits)) == to_rows(expr) if average else only_clamps(expr, acc, *limits)
    if form.input_zero or not same or limits != (-BYTE, BYTE - 1):
        raise NotCovered("it rounds, rescales or cuts in another way")
    windows = form.axes[1:]
    if len(source.shape) != FOUR or len(set(windows)) != 1 or windows[0].dilation != 1 or form.axes[0].taps != 1:
        raise NotCovered("the q7 pools know square windows only")
    window = windows[0]
    if source.shape[2] != source.shape[3] or result.shape[2] != result.shape[3]:
        raise NotCovered("the q7 pools know square pictures only")
    for buffer in (source, result):
        if scene.layouts[buffer.name].order != (0, 2, 3, 1) or not scene.views[buffer.name].solid:
            raise NotCovered("its tensors do not lie channels last, without gaps")
    if window.before < 0:
        raise NotCovered("it leaves out rows or columns of its input")
    if not average and not question.destroyable:
        raise NotCovered("arm_maxpool_q7_HWC destroys its input, which is still needed")
    channels = source.shape[1]
    numbers = [source.shape[2], channels, window.taps, window.before, window.stride, result.shape[2]]
    function = "arm_avepool_q7_HWC" if average else "arm_maxpool_q7_HWC"
    arguments = ["(q7_t *){x0}", *map(str, numbers), "(q7_t *){scratch}", "{y}"]
    scratch = 2 * result.shape[2] * channels if average else 0
    return LibraryCall(function=function, lines=(f"{function}({', '.join(arguments)});",), scratch_bytes=scratch)
