"""Calls of CMSIS-NN's int8 functions (release 4 and later), whose integers are those of TensorFlow Lite.

Source: ARM-software/CMSIS-NN, ``Include/arm_nnfunctions.h`` (prototypes, buffer sizes) and
``Include/arm_nnsupportfunctions.h`` (``arm_nn_requantize``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bitwright.export.c.clamps import clamps_of, only_clamps
from bitwright.export.c.contract import INT32, Geometry, geometry_of
from bitwright.export.c.fast import bounds
from bitwright.export.c.fast_sum import alike, replaced, split_sum
from bitwright.export.c.library import LibraryCall, NotCovered, Question
from bitwright.export.c.requant import Requant, recognize
from bitwright.mcu.arm import mve
from bitwright.mcu.runtime import pack_conv, pack_depthwise
from bitwright.number.arithmetic import SEMANTICS, Arithmetic
from bitwright.number.expr import Expr, Op, divide, saturate, to_rows, var
from bitwright.number.format import Rounding
from bitwright.number.requantize import rescale
from bitwright.program.forms import Contract, Map, Reduce

LEFT_SHIFT = 20
MVE_BLOCK = 124  # channels of one block of the depthwise kernel with vectors
REFUSED, FAILED = "return -2;", "return -3;"


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
    if isinstance(form, Map):
        return _elementwise(question, form)
    raise NotCovered("CMSIS-NN has no function for it")


@dataclass(frozen=True)
class Scales:
    """Multipliers and left shifts as the library wants them."""

    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    rounding: Literal["single", "double"]


def scales(requant: Requant | None, core: str | None) -> Scales:
    """The requantizer in the library's numbers.

    Raises:
        NotCovered: it is of another kind.
    """
    if requant is None or requant.kind not in ("single", "double"):
        raise NotCovered("its requantizer is not one of CMSIS-NN's multipliers")
    shift = -requant.shift if requant.kind == "double" else 31 - requant.shift
    if requant.kind == "single" and core in mve.CORES:
        raise NotCovered("on cores with vectors CMSIS-NN's single rounding is another one")
    if requant.largest >= INT32 or (shift > 30).any() or (shift < -31).any():
        raise NotCovered("its multiplier is out of CMSIS-NN's range")
    if requant.kind == "single" and (shift > 0).any():
        raise NotCovered("its multiplier is out of CMSIS-NN's range")
    kind: Literal["single", "double"] = "single" if requant.kind == "single" else "double"
    return Scales(requant.multiplier.astype(np.int32), shift.astype(np.int32), kind)


def require_bytes(question: Question) -> None:
    """All tensors must be int8.

    Raises:
        NotCovered: one is not.
    """
    step, scene = question.step, question.scene
    for name in (*step.inputs, *step.outputs):
        kind = scene.buffer(name).format.dtype.name
        if kind != "int8":
            raise NotCovered(f"CMSIS-NN's functions take int8, and one of its tensors is {kind}")


def require_solid(geometry: Geometry) -> None:
    """Pixels must lie without gaps.

    Raises:
        NotCovered: they do not.
    """
    if geometry.in_pitch != geometry.in_c or geometry.out_pitch != geometry.out_c:
        raise NotCovered("its tensor lies inside another one, with gaps, and CMSIS-NN wants pixels side by side")


def _contract(question: Question, form: Contract) -> LibraryCall:
    scene, step = question.scene, question.step
    require_bytes(question)
    geometry = geometry_of(scene, step)
    if geometry is None:
        raise NotCovered("its tensors do not lie channels last, or its accumulator needs more than 32 bits")
    require_solid(geometry)
    weights = np.asarray(scene.program.tensors[form.weight])
    channels = len(weights)
    params = {k: np.asarray(scene.program.tensors[t], np.int64) for k, t in form.epilogue.params.items()}
    requant = recognize(form.epilogue.expr, params, channels)
    numbers = scales(requant, question.core)
    assert requant is not None
    bias = np.zeros(channels, np.int64) if form.bias is None else np.asarray(scene.program.tensors[form.bias], np.int64)
    if int(np.abs(bias).max(initial=0)) >= INT32:
        raise NotCovered("its bias needs more than 32 bits")
    layout = scene.layouts[step.inputs[0]]
    if layout.order is None:
        weights = weights[:, layout.positions]
    rows, columns = geometry.axes
    if min(rows.before, columns.before) < 0:
        raise NotCovered("it leaves out rows or columns of its input")
    lo, hi = bounds(form.epilogue.expr, requant, -128, 127)
    zero = -form.input_zero, requant.zero
    spread = [np.broadcast_to(values, (channels,)) for values in (numbers.multiplier, numbers.shift)]
    square = weights.reshape(*weights.shape[:2], *geometry.taps)
    dense = geometry.taps == (1, 1) and geometry.in_size == geometry.out_size == (1, 1) and form.groups == 1
    tables = {"w": ("weights", pack_conv(square)), "b": ("bias", bias.astype(np.int32))}
    if dense and numbers.multiplier.size == numbers.shift.size == 1:
        return _dense(question, geometry, zero, (lo, hi), numbers, tables)
    tables["m"] = ("requantization", np.ascontiguousarray(spread[0]))
    tables["s"] = ("requantization", np.ascontiguousarray(spread[1]))
    depthwise = form.groups == geometry.in_c and weights.shape[1] == 1 and form.groups > 1
    if form.groups > 1 and not depthwise:
        raise NotCovered("CMSIS-NN's releases do not agree on convolutions with groups")
    if depthwise:
        tables["w"] = ("weights", pack_depthwise(square))
    name = "arm_depthwise_conv_wrapper_s8" if depthwise else "arm_convolve_wrapper_s8"
    kind = "cmsis_nn_dw_conv_params" if depthwise else "cmsis_nn_conv_params"
    multiple = [str(channels // geometry.in_c)] if depthwise else []
    fields = [*map(str, zero), *multiple, f"{{{columns.stride}, {rows.stride}}}", f"{{{columns.before}, {rows.before}}}",
              f"{{{columns.dilation}, {rows.dilation}}}", f"{{{lo}, {hi}}}"]  # fmt: skip
    filters = (1 if depthwise else channels, *geometry.taps, channels if depthwise else geometry.in_c)
    scratch = scratch_bytes(geometry, depthwise, question.core)
    dims = [
        _dims("x", (1, *geometry.in_size, geometry.in_c)),
        _dims("f", filters),
        _dims("n", (1, 1, 1, channels)),
        _dims("y", (1, *geometry.out_size, channels)),
    ]
    lines = [
        f"static const {kind} params = {{{{{_doubled(', '.join(fields))}}}}};",
        *dims,
        "const cmsis_nn_per_channel_quant_params quant = {{(int32_t *){m}, (int32_t *){s}}};",
        f"const cmsis_nn_context context = {{{{{{scratch}}, {scratch}}}}};",
        f"if ({name}_get_buffer_size(&params, &dims_x, &dims_f, &dims_y) > {scratch}) {{{{",
        f"    {REFUSED}",
        "}}",
        (
            f"if ({name}(&context, &params, &quant, &dims_x, {{x0}}, &dims_f, {{w}}, &dims_n, {{b}}, &dims_y, {{y}})"
            " != ARM_CMSIS_NN_SUCCESS) {{"
        ),
        f"    {FAILED}",
        "}}",
    ]
    return LibraryCall(
        function=name, lines=tuple(lines), tables=tables, scratch_bytes=scratch, rounding=numbers.rounding
    )


def _dense(
    question: Question,
    geometry: Geometry,
    zero: tuple[int, int],
    limits: tuple[int, int],
    numbers: Scales,
    tables: dict[str, tuple[str, NDArray[Any]]],
) -> LibraryCall:
    outputs, inputs = geometry.out_c, geometry.in_c
    scratch = 4 * outputs if question.core in mve.CORES else 0
    m, s = int(numbers.multiplier[0]), int(numbers.shift[0])
    lines = [
        f"static const cmsis_nn_fc_params params = {{{{{zero[0]}, 0, {zero[1]}, {{{{{limits[0]}, {limits[1]}}}}}}}}};",
        f"static const cmsis_nn_per_tensor_quant_params quant = {{{{{m}, {s}}}}};",
        _dims("x", (1, 1, 1, inputs)),
        _dims("f", (inputs, 1, 1, outputs)),
        _dims("n", (1, 1, 1, outputs)),
        _dims("y", (1, 1, 1, outputs)),
        f"const cmsis_nn_context context = {{{{{{scratch}}, {scratch}}}}};",
        f"if (arm_fully_connected_s8_get_buffer_size(&dims_f) > {scratch}) {{{{",
        f"    {REFUSED}",
        "}}",
        "#if defined(__ARM_FEATURE_MVE)",
        f"arm_vector_sum_s8((int32_t *)context.buf, {inputs}, {outputs}, {{w}}, {zero[0]}, 0, {{b}});",
        "#endif",
        (
            "if (arm_fully_connected_s8(&context, &params, &quant, &dims_x, {x0}, &dims_f, {w}, &dims_n, {b}, &dims_y, {y})"
            " != ARM_CMSIS_NN_SUCCESS) {{"
        ),
        f"    {FAILED}",
        "}}",
    ]
    return LibraryCall(
        function="arm_fully_connected_s8",
        lines=tuple(lines),
        tables=tables,
        scratch_bytes=scratch,
        rounding=numbers.rounding,
    )


def scratch_bytes(geometry: Geometry, depthwise: bool, core: str | None) -> int:
    """The most that the library's ``get_buffer_size`` asks for such a layer, on the core, with any of its compilers."""
    taps = geometry.taps[0] * geometry.taps[1]
    vectors = core in mve.CORES
    column = taps * geometry.in_c
    conv = 64 * -(-column // 16) if vectors else 4 * (-(-column // 4) * 4)
    if not depthwise:
        return conv
    if any(axis.dilation != 1 for axis in geometry.axes):
        return 0
    if vectors:
        return max(4 * MVE_BLOCK * taps, conv + taps * geometry.out_c if geometry.in_c == 1 else 0)
    plain = geometry.taps == (3, 3) and max(axis.before for axis in geometry.axes) <= 1
    return 0 if plain or geometry.in_c != geometry.out_c else -(-2 * column // 4) * 4


def _dims(name: str, sizes: Sequence[int]) -> str:
    return f"static const cmsis_nn_dims dims_{name} = {{{{{', '.join(map(str, sizes))}}}}};"


def _doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _pool(question: Question, form: Reduce) -> LibraryCall:
    scene, step = question.scene, question.step
    require_bytes(question)
    source, result = scene.buffer(step.inputs[0]), scene.buffer(step.outputs[0])
    average = form.combine == "sum"
    expr, name = form.epilogue.expr, "arm_avgpool_s8" if average else "arm_max_pool_s8"
    lo, hi = clamps_of(expr)
    acc = next((node for node in expr.walk() if node.op is Op.VAR and node.name == "acc"), None)
    count = next((node for node in expr.walk() if node.op is Op.VAR and node.name == "count"), None)
    taps = int(np.prod([axis.taps for axis in form.axes]))
    if acc is None or form.combine == "argmax":
        raise NotCovered("CMSIS-NN has no function for it")
    plain: Expr = acc
    if average:
        plain = divide(acc, taps if count is None else count, Rounding.HALF_AWAY)
        if form.input_zero:
            raise NotCovered("it takes the zero point off before it averages, which arm_avgpool_s8 does not")
    same = to_rows(saturate(plain, lo, hi)) == to_rows(expr) if average else only_clamps(expr, acc, lo, hi)
    if not same:
        what = "rounds or rescales its mean in another way" if average else "rescales its maximum"
        raise NotCovered(f"it {what}")
    if len(source.shape) not in (3, 4) or form.axes[0].taps != 1 or any(a.dilation != 1 for a in form.axes):
        raise NotCovered("its window is not one over rows and columns")
    for buffer in (source, result):
        order = scene.layouts[buffer.name].order
        wide = [a for a in order or () if buffer.shape[a] > 1]
        ordered = [a for a in (*range(2, len(buffer.shape)), 1) if buffer.shape[a] > 1]
        if wide != ordered or not scene.views[buffer.name].solid:
            raise NotCovered("its tensors do not lie channels last, without gaps")
    missing = 4 - len(source.shape)
    windows = [*form.axes[1:]]
    stride = [1] * missing + [a.stride for a in windows]
    taps_of = [1] * missing + [a.taps for a in windows]
    before = [0] * missing + [a.before for a in windows]
    if min(before) < 0:
        raise NotCovered("it leaves out rows or columns of its input")
    in_size, out_size = (1,) * missing + source.shape[2:], (1,) * missing + result.shape[2:]
    channels = source.shape[1]
    scratch = 4 * channels if average else 0
    lines = [
        (
            f"static const cmsis_nn_pool_params params = {{{{{{{{{stride[1]}, {stride[0]}}}}}, {{{{{before[1]}, {before[0]}}}}}, "
            f"{{{{{lo}, {hi}}}}}}}}};"
        ),
        _dims("x", (1, *in_size, channels)),
        _dims("f", (1, *taps_of, 1)),
        _dims("y", (1, *out_size, channels)),
        f"const cmsis_nn_context context = {{{{{{scratch}}, {scratch}}}}};",
        *(
            [f"if (arm_avgpool_s8_get_buffer_size(dims_y.w, {channels}) > {scratch}) {{{{", f"    {REFUSED}", "}}"]
            if average
            else []
        ),
        f"if ({name}(&context, &params, &dims_x, {{x0}}, &dims_f, &dims_y, {{y}}) != ARM_CMSIS_NN_SUCCESS) {{{{",
        f"    {FAILED}",
        "}}",
    ]
    return LibraryCall(function=name, lines=tuple(lines), scratch_bytes=scratch)


def _elementwise(question: Question, form: Map) -> LibraryCall:
    scene, step = question.scene, question.step
    require_bytes(question)
    if len(step.inputs) != 2 or form.params or not alike(scene, step):
        raise NotCovered(
            "CMSIS-NN computes sums and products of two tensors that lie alike, and nothing else of this kind"
        )
    zeros = [int(scene.buffer(name).format.zero_point) for name in step.inputs]
    found = split_sum(form.expr)
    if found is None:
        return _product(question, form, zeros)
    total, parts = found
    acc = var("acc", total.lo, total.hi)
    try:
        requant = recognize(replaced(form.expr, total, acc), {}, 1)
    except ValueError as error:
        raise NotCovered("its sum is not the one of arm_elementwise_add_s8") from error
    numbers = scales(requant, question.core)
    assert requant is not None
    lo, hi = bounds(form.expr, requant, -128, 127)
    operands = [_operand(part, f"x{i}", zeros[i], numbers.rounding) for i, part in enumerate(parts)]
    count = scene.buffer(step.outputs[0]).size
    arguments = [
        "{x0}",
        "{x1}",
        *(f"{-z}, {m}, {s}" for z, (m, s) in zip(zeros, operands, strict=True)),
        str(LEFT_SHIFT),
    ]
    arguments += [
        "{y}",
        str(requant.zero),
        str(int(numbers.multiplier[0])),
        str(int(numbers.shift[0])),
        str(lo),
        str(hi),
    ]
    lines = [f"if (arm_elementwise_add_s8({', '.join([*arguments, str(count)])}) != ARM_CMSIS_NN_SUCCESS) {{{{"]
    return LibraryCall(
        function="arm_elementwise_add_s8", lines=(*lines, f"    {FAILED}", "}}"), rounding=numbers.rounding
    )


def _operand(part: Expr, name: str, zero: int, rounding: Literal["single", "double"]) -> tuple[int, int]:
    """Multiplier and shift of an operand that is shifted left by 20 and requantized."""
    semantics = f"tflite-{rounding}"
    requantize, how = SEMANTICS[semantics]
    arithmetic = Arithmetic(requantize=requantize, rounding=how, semantics=semantics)
    source = next(node for node in part.walk() if node.op is Op.VAR and node.name == name)
    rows = to_rows(part)
    for node in part.walk():
        if node.op is Op.MUL and node.args[1].op is Op.CONST and node.args[1].value >= INT32 >> 1:
            for right in range(32):
                ratio = np.asarray(node.args[1].value * 2.0 ** -(31 + right))
                if to_rows(rescale((source - zero) << LEFT_SHIFT, ratio, arithmetic, "p_").expr) == rows:
                    return node.args[1].value, -right
    raise NotCovered("its operands are not rescaled as arm_elementwise_add_s8 rescales them")


def _product(question: Question, form: Map, zeros: Sequence[int]) -> LibraryCall:
    """``x0 * x1`` requantized."""
    for node in form.expr.walk():
        if node.op is not Op.MUL or {v for side in node.args for v in side.variables()} != {"x0", "x1"}:
            continue
        sides = [next(n for n in form.expr.walk() if n.op is Op.VAR and n.name == f"x{i}") - zeros[i] for i in range(2)]
        if to_rows(node) != to_rows(sides[0] * sides[1]):
            continue
        requant = recognize(replaced(form.expr, node, var("acc", node.lo, node.hi)), {}, 1)
        numbers = scales(requant, question.core)
        assert requant is not None
        lo, hi = bounds(form.expr, requant, -128, 127)
        count = question.scene.buffer(question.step.outputs[0]).size
        arguments = ["{x0}", "{x1}", str(-zeros[0]), str(-zeros[1]), "{y}", str(requant.zero)]
        arguments += [str(int(numbers.multiplier[0])), str(int(numbers.shift[0])), str(lo), str(hi), str(count)]
        lines = [
            f"if (arm_elementwise_mul_s8({', '.join(arguments)}) != ARM_CMSIS_NN_SUCCESS) {{{{",
            f"    {FAILED}",
            "}}",
        ]
        return LibraryCall(function="arm_elementwise_mul_s8", lines=tuple(lines), rounding=numbers.rounding)
    raise NotCovered("CMSIS-NN computes sums and products of two tensors that lie alike, and nothing else of this kind")
