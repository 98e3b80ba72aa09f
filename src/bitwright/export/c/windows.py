"""Reductions, and contractions that no kernel does, as C functions: loops over outputs and over the taps of a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from bitwright.export.c.loops import Dimension, index, nest
from bitwright.export.c.names import c_int, type_of
from bitwright.export.c.scene import Function, Scene, channel_parameter, parameters, value_names
from bitwright.number.render import c_statements, c_type
from bitwright.program.forms import Axis, Contract, Reduce
from bitwright.program.program import Step

INT32 = 1 << 31


@dataclass(frozen=True)
class _Taps:
    """Loops over the taps of a window, with the bounds that they need.

    Attributes:
        lines: Opening lines, to be indented one level more each.
        place: Terms of the input index.
        depth: Braces opened.
    """

    lines: tuple[str, ...]
    place: tuple[str, ...]
    depth: int


def tap_loops(axes: Sequence[Axis], sizes: Sequence[int], strides: Sequence[int], outputs: Sequence[str]) -> _Taps:
    """Loops over all taps of the window at output position ``outputs``, leaving out those outside the input.

    Args:
        axes: The windows.
        sizes: Input length along each.
        strides: Input elements from one position to the next.
        outputs: C expression of the output position along each axis.
    """
    lines: list[str] = []
    place: list[str] = []
    depth = 0
    for n, (axis, size, stride, at) in enumerate(zip(axes, sizes, strides, outputs, strict=True)):
        position = f"p{n}"
        tap = "0"
        if axis.taps > 1:
            lines.append(f"for (int32_t k{n} = 0; k{n} < {axis.taps}; k{n}++) {{")
            depth += 1
            tap = f"k{n}"
        terms = [t for t in (_times(at, axis.stride), _times(tap, axis.dilation)) if t != "0"]
        if axis.before:
            terms.append(str(-axis.before))
        text = " + ".join(terms or ["0"]).replace("+ -", "- ")
        highest = (axis.outputs(size) - 1) * axis.stride + (axis.taps - 1) * axis.dilation - axis.before
        reach = (size - 1) * axis.spread
        tests = []
        if axis.before > 0:
            tests.append(f"{position} >= 0")
        if highest > reach:
            tests.append(f"{position} <= {reach}")
        if axis.spread > 1:
            # A negative position is refused by the first test, so the remainder is that of a non-negative number.
            tests.append(f"{position} % {axis.spread} == 0")
        if tests or (stride and text != "0"):
            lines.append(f"const int32_t {position} = {text};")
        if tests:
            lines.append(f"if ({' && '.join(tests)}) {{")
            depth += 1
        if not tests and text == "0":
            continue
        where = position if axis.spread == 1 else f"{position} / {axis.spread}"
        place.append(_times(where, stride))
    return _Taps(tuple(lines), tuple(p for p in place if p != "0"), depth)


def _times(text: str, factor: int) -> str:
    if factor == 0 or text == "0":
        return "0"
    if factor == 1:
        return text
    return f"{text} * {factor}" if text.replace("_", "").isalnum() else f"({text}) * {factor}"


def _braced(taps: _Taps, body: Sequence[str]) -> list[str]:
    out, pad = [], ""
    for line in taps.lines:
        out.append(pad + line)
        if line.endswith("{"):
            pad += "    "
    out += [pad + line for line in body]
    for level in range(taps.depth - 1, -1, -1):
        out.append("    " * level + "}")
    return out


def output_loops(scene: Scene, result: str) -> tuple[list[Dimension], list[str], str]:
    """Loops over an output in storage order, the counter of each of its axes, and the index written."""
    shape, order, strides = scene.buffer(result).shape, scene.layouts[result].order, scene.strides(result)
    assert order is not None and strides is not None  # noqa: PT018
    loops: list[Dimension] = []
    counters = ["0"] * len(shape)
    for axis in order:
        if shape[axis] > 1:
            counters[axis] = f"i{len(loops)}"
            loops.append(Dimension(shape[axis], (strides[axis],)))
    return loops, counters, index([f"i{n}" for n in range(len(loops))], [d.strides[0] for d in loops])


def reduce_function(scene: Scene, step: Step) -> Function:
    """A :class:`Reduce`: windows along every axis after the batch."""
    form = step.form
    assert isinstance(form, Reduce)
    (source,), (result,) = step.inputs, step.outputs
    buffer, strides = scene.buffer(source), scene.strides(source)
    assert strides is not None
    loops, counters, to = output_loops(scene, result)
    axes, sizes = (Axis(), *form.axes), buffer.shape
    taps = tap_loops(axes, sizes, strides, counters)
    at = " + ".join(taps.place) or "0"
    expr = form.epilogue.expr
    counted = "count" in expr.variables()
    missing = buffer.format.lo - 1
    reach = prod(a.taps for a in axes) * max(
        abs(buffer.format.lo - form.input_zero), abs(buffer.format.hi - form.input_zero)
    )
    wide = "int64_t" if reach >= INT32 or missing < -INT32 or buffer.format.dtype.itemsize > 4 else "int32_t"
    start: list[str]
    match form.combine:
        case "sum":
            zero = f" - ({form.input_zero})" if form.input_zero else ""
            start, body = [f"{wide} acc = 0;"], [f"acc += ({wide})x0[{at}]{zero};"]
        case "max":
            start = [f"{wide} acc = {c_int(missing)};"]
            body = [f"const {wide} seen = x0[{at}];", "if (seen > acc) {", "    acc = seen;", "}"]
        case "argmax":
            tap = "0"
            for n, axis in enumerate(axes):
                if axis.taps > 1:
                    tap = f"k{n}" if tap == "0" else f"({tap}) * {axis.taps} + k{n}"
            start = [f"{wide} best = {c_int(missing)};", "int32_t acc = 0;"]
            body = [
                f"const {wide} seen = x0[{at}];",
                "if (seen > best) {",
                "    best = seen;",
                f"    acc = {tap};",
                "}",
            ]
    if counted:
        start.append("int32_t count = 0;")
        body.append("count++;")
    given = {"acc": "acc", "count": "count"}
    channel = counters[1] if len(counters) > 1 else "0"
    for name, tensor in form.epilogue.params.items():
        given[name] = channel_parameter(scene, step, tensor, channel)
    loads, name_of = value_names(expr, given)
    if "acc" not in expr.variables():
        loads.append("(void)acc;")
    kind = scene.c_type(result)
    inner = [*start, *_braced(taps, body), *loads, *c_statements(expr, name_of), f"y[{to}] = ({kind})result;"]
    return Function(parameters(scene, step), tuple(nest(loops, inner)))


def contract_function(scene: Scene, step: Step, wide: bool) -> Function:
    """A :class:`Contract` that no kernel does: transposed, of other ranks, or with wide accumulators.

    Args:
        scene: The scene.
        step: The step.
        wide: Sum in 64 bits.
    """
    form = step.form
    assert isinstance(form, Contract)
    (source,), (result,) = step.inputs, step.outputs
    weights = scene.program.tensors[form.weight]
    inputs, outputs = weights.shape[1], len(weights) // form.groups
    strides = scene.strides(source)
    loops, counters, to = output_loops(scene, result)
    if strides is None or scene.layouts[source].order is None:
        # A flat buffer in an order of its own: the columns of the weights follow it.
        weights, strides = weights[:, scene.layouts[source].positions], (0, 1)
    taps_shape = weights.shape[2:]
    # The channel of the input is innermost in memory, so it is in the weights.
    symbol = scene.constants.add(step.layer, "weights", "weights", np.moveaxis(weights, 1, -1))
    channel, depth = counters[1], prod(taps_shape) * inputs
    group = "0" if form.groups == 1 else f"{channel} / {outputs}"
    taps = tap_loops(form.axes, scene.buffer(source).shape[2:], strides[2:], counters[2:])
    tap = "0"
    for n, axis in enumerate(form.axes):
        if axis.taps > 1:
            tap = f"k{n}" if tap == "0" else f"({tap}) * {axis.taps} + k{n}"
    kind = "int64_t" if wide else "int32_t"
    first = [t for t in (_times(counters[0], strides[0]), _times(group, inputs * strides[1])) if t != "0"]
    base = " + ".join([*first, *taps.place]) or "0"
    row = " + ".join(t for t in (_times(channel, depth), _times(tap, inputs)) if t != "0") or "0"
    zero = f" - ({form.input_zero})" if form.input_zero else ""
    # `const` pointers into both rows; the loop over channels is the one that runs along memory.
    body = [
        f"const {scene.c_type(source)} *from = x0 + ({base});",
        f"const {type_of(weights.dtype)} *w = {symbol} + ({row});",
        f"for (int32_t c = 0; c < {inputs}; c++) {{",
        f"    acc += (({kind})from[{_times('c', strides[1])}]{zero}) * w[c];",
        "}",
    ]
    bias = "0"
    if form.bias is not None:
        bias = f"{scene.constants.add(step.layer, 'bias', 'bias', scene.program.tensors[form.bias])}[{channel}]"
    expr = form.epilogue.expr
    given = {"acc": "acc"}
    for name, tensor in form.epilogue.params.items():
        given[name] = channel_parameter(scene, step, tensor, channel)
    loads, name_of = value_names(expr, given)
    if "acc" not in expr.variables():
        loads.append("(void)acc;")
    out = scene.c_type(result)
    inner = [f"{kind} acc = {bias};", *_braced(taps, body), *loads, *c_statements(expr, name_of)]
    return Function(parameters(scene, step), tuple(nest(loops, [*inner, f"y[{to}] = ({out})result;"])))


def epilogue_function(scene: Scene, step: Step, name: str) -> str:
    """An epilogue as a C function that kernels call in place of a requantizer they know."""
    form = step.form
    assert isinstance(form, Contract)
    expr = form.epilogue.expr
    given = {"acc": "acc"}
    for variable, tensor in form.epilogue.params.items():
        given[variable] = channel_parameter(scene, step, tensor, "channel")
    loads, name_of = value_names(expr, given)
    body = [*loads, *c_statements(expr, name_of), "return result;"]
    unused = ["(void)k;"] + ([] if any("channel" in line for line in loads) else ["(void)channel;"])
    if "acc" not in expr.variables():
        unused.append("(void)acc;")
    head = f"static inline {c_type(expr.lo, expr.hi)} {name}(int32_t acc, const bw_conv_t *k, int32_t channel)"
    return "\n".join([head, "{", *(f"    {line}" for line in (*unused, *body)), "}"])
