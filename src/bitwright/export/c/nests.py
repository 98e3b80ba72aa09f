"""The forms as C functions of their own: everything that no shared kernel does.

Each function is written for one step, with its sizes as constants, from the form alone.  Where two steps come out the
same, they share one function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.export.c.constants import Constants, smallest_unsigned
from bitwright.export.c.layout import Layout, moved_indices
from bitwright.export.c.loops import Dimension, index, merged, nest
from bitwright.export.c.names import c_int, type_of
from bitwright.export.c.pattern import Copy, fold
from bitwright.export.c.storage import View, axis_strides, copies
from bitwright.number.expr import Expr, Op
from bitwright.number.render import c_statements, c_type
from bitwright.program.forms import Axis, Contract, Fill, Map, Move, Reduce, Table
from bitwright.program.program import Buffer, Program, Step
from bitwright.simulate.reference import apply_motion

INT32 = 1 << 31


@dataclass(frozen=True)
class Function:
    """A C function ``(inputs..., output)`` without its name.

    Attributes:
        parameters: Parameter list.
        body: Lines.
    """

    parameters: str
    body: tuple[str, ...]

    def text(self, name: str) -> str:
        """The definition."""
        return "\n".join([f"static void {name}({self.parameters})", "{", *self.body, "}"])


@dataclass(frozen=True)
class Scene:
    """What the writers of functions look things up in.

    Attributes:
        program: The program.
        layouts: Storage order of each buffer.
        views: Memory of each buffer.
        constants: Where constant arrays go.
    """

    program: Program
    layouts: Mapping[str, Layout]
    views: Mapping[str, View]
    constants: Constants

    def buffer(self, name: str) -> Buffer:
        """A buffer of the program."""
        return self.program.buffers[name]

    def c_type(self, name: str) -> str:
        """The C type of a buffer's elements."""
        return type_of(self.buffer(name).format.dtype)

    def strides(self, name: str) -> tuple[int, ...] | None:
        """Elements from one index to the next along each axis of a buffer, in its memory."""
        return axis_strides(self.layouts[name], self.views[name])


def parameters(scene: Scene, step: Step) -> str:
    """``const int8_t *x0, const int8_t *x1, int8_t *y``."""
    parts = [f"const {scene.c_type(name)} *x{i}" for i, name in enumerate(step.inputs)]
    return ", ".join([*parts, f"{scene.c_type(step.outputs[0])} *y"])


def value_names(expr: Expr, given: Mapping[str, str]) -> tuple[list[str], Callable[[str], str]]:
    """Declarations that load every variable of ``expr`` once, and the names they get.

    Args:
        expr: The expression.
        given: Variable → C expression for it.
    """
    loads, table = [], {}
    nodes = {node.name: node for node in expr.walk() if node.op is Op.VAR}
    for i, (name, node) in enumerate(nodes.items()):
        if given[name].lstrip("-").isdigit():
            table[name] = given[name]
            continue
        table[name] = f"v{i}"
        kind = c_type(node.lo, node.hi)
        loads.append(f"const {kind} v{i} = ({kind}){given[name]};")
    return loads, table.__getitem__


def parameter_source(
    scene: Scene, step: Step, tensor: str, dims: Sequence[int], order: Sequence[int]
) -> tuple[str, tuple[int, ...]]:
    """A constant that broadcasts against the output: its C array and stride along each output axis.

    Args:
        scene: For the constants.
        step: Whose constant.
        tensor: Its name.
        dims: Shape of the output.
        order: Storage order of the output, which the constant is put in too.
    """
    values = scene.program.tensors[tensor]
    if values.size == 1:
        return c_int(int(values.ravel()[0])), (0,) * len(dims)
    padded = values.reshape((1,) * (len(dims) - values.ndim) + values.shape)
    stored = np.ascontiguousarray(padded.transpose(order))
    strides, gap = [0] * len(dims), 1
    for axis in reversed(order):
        strides[axis] = gap if padded.shape[axis] > 1 else 0
        gap *= padded.shape[axis]
    return scene.constants.add(step.layer, "requantization", tensor, stored), tuple(strides)


def map_function(scene: Scene, step: Step) -> Function:
    """A :class:`Map`: one loop nest over the output in storage order."""
    assert isinstance(step.form, Map)
    (result,) = step.outputs
    out, layout = scene.buffer(result), scene.layouts[result]
    expr = step.form.expr
    used = set(expr.variables())
    operands: list[tuple[str, tuple[int, ...]]] = []
    names: list[str] = []
    if layout.order is None or any(scene.layouts[n].order is None for n in step.inputs):
        # In an order of its own, and by choice of layouts nothing here depends on the place.
        dims: tuple[int, ...] = (out.size,)
        order: tuple[int, ...] = (0,)
        y_strides: tuple[int, ...] = (1,)
        for i in range(len(step.inputs)):
            names.append(f"x{i}")
            operands.append((f"x{i}[@]", (1,)))
        for name, tensor in step.form.params.items():
            names.append(name)
            operands.append((c_int(int(scene.program.tensors[tensor].ravel()[0])), (0,)))
    else:
        dims, order = out.shape, layout.order
        own = scene.strides(result)
        assert own is not None
        y_strides = own
        for i, name in enumerate(step.inputs):
            names.append(f"x{i}")
            operands.append((f"x{i}[@]", broadcast(scene, name, dims)))
        for name, tensor in step.form.params.items():
            names.append(name)
            symbol, strides = parameter_source(scene, step, tensor, dims, order)
            operands.append((symbol if not any(strides) else f"{symbol}[@]", strides))
    keep = [i for i, name in enumerate(names) if name in used]
    names, operands = [names[i] for i in keep], [operands[i] for i in keep]
    loops = merged([Dimension(dims[a], (y_strides[a], *(s[a] for _, s in operands))) for a in order])
    counters = [f"i{n}" for n in range(len(loops))]
    given = {
        name: text.replace("@", index(counters, [d.strides[i + 1] for d in loops]))
        for i, (name, (text, _)) in enumerate(zip(names, operands, strict=True))
    }
    loads, name_of = value_names(expr, given)
    place = index(counters, [d.strides[0] for d in loops])
    body = [*loads, *c_statements(expr, name_of), f"y[{place}] = ({type_of(out.format.dtype)})result;"]
    unused = [f"    (void)x{i};" for i in range(len(step.inputs)) if f"x{i}" not in used]
    return Function(parameters(scene, step), (*unused, *nest(loops, body)))


def broadcast(scene: Scene, name: str, dims: Sequence[int]) -> tuple[int, ...]:
    """Strides of an input along the axes of an output that it broadcasts against."""
    shape, strides = scene.buffer(name).shape, scene.strides(name)
    assert strides is not None
    missing = len(dims) - len(shape)
    return (0,) * missing + tuple(0 if n == 1 else s for n, s in zip(shape, strides, strict=True))


def table_function(scene: Scene, step: Step) -> Function:
    """A :class:`Table`: one look-up per element."""
    assert isinstance(step.form, Table)
    (source,), (result,) = step.inputs, step.outputs
    lowest = scene.buffer(source).format.lo
    entries = scene.program.tensors[step.form.table].astype(scene.buffer(result).format.dtype)
    table = scene.constants.add(step.layer, "table", "table", entries)
    if scene.layouts[result].order is None or scene.layouts[source].order is None:
        loops = [Dimension(scene.buffer(result).size, (1, 1))]
    else:
        y, x, order = scene.strides(result), scene.strides(source), scene.layouts[result].order
        assert y is not None and x is not None and order is not None  # noqa: PT018
        loops = merged([Dimension(scene.buffer(result).shape[a], (y[a], x[a])) for a in order])
    counters = [f"i{n}" for n in range(len(loops))]
    to, place = index(counters, [d.strides[0] for d in loops]), index(counters, [d.strides[1] for d in loops])
    at = f"(int32_t)x0[{place}]" + (f" - ({lowest})" if lowest else "")
    return Function(parameters(scene, step), tuple(nest(loops, [f"y[{to}] = {table}[{at}];"])))


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


def channel_parameter(scene: Scene, step: Step, tensor: str, channel: str) -> str:
    """A constant of an epilogue as C: a number, or an array at the channel."""
    values = scene.program.tensors[tensor]
    if values.size == 1:
        return c_int(int(values.ravel()[0]))
    return f"{scene.constants.add(step.layer, 'requantization', tensor, values)}[{channel}]"


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


def move_function(scene: Scene, step: Step, skip: frozenset[int] = frozenset()) -> Function:
    """A :class:`Move`: fill, then copy what is not there yet.

    Args:
        scene: The scene.
        step: The step.
        skip: Inputs that their producers have put in place.
    """
    (result,) = step.outputs
    kind = scene.c_type(result)
    body: list[str] = []
    for value, to in filled(scene, step):
        where = address(scene.views[result], to)
        body += copy_lines(scene, step, fold(where, where), kind, f"y[@t] = {value};", "y", "y")
    for i, (to, source) in enumerate(copies(scene.program, scene.layouts, step)):
        if i in skip or not len(to):
            continue
        pattern = fold(address(scene.views[result], to), address(scene.views[step.inputs[i]], source))
        body += copy_lines(scene, step, pattern, kind, f"y[@t] = x{i}[@s];", "y", f"x{i}")
    used = "\n".join(body)
    unused = [f"    (void)x{i};" for i in range(len(step.inputs)) if f"x{i}" not in used]
    return Function(parameters(scene, step), (*unused, *body))


def address(view: View, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Elements from the start of a buffer's memory to its storage positions."""
    return positions // view.run * view.pitch + positions % view.run


def filled(scene: Scene, step: Step) -> list[tuple[int, NDArray[np.int64]]]:
    """The values that a move puts in by itself, and the storage positions that get them."""
    form = step.form
    assert isinstance(form, Move)
    if not any(isinstance(m, Fill) for m in form.motions):
        return []
    values = [np.zeros(scene.buffer(name).shape, np.int64) for name in step.inputs]
    for motion in form.motions:
        values = [np.asarray(apply_motion(values, motion), np.int64)]
    layout = scene.layouts[step.outputs[0]]
    empty = moved_indices(scene.program, step)[layout.positions] < 0
    stored = values[0].ravel()[layout.positions]
    return [(int(v), np.flatnonzero(empty & (stored == v))) for v in np.unique(stored[empty])]


def copy_lines(
    scene: Scene,
    step: Step,
    copy: Copy,
    kind: str,
    assign: str,
    to_name: str,
    source_name: str,
) -> list[str]:
    """A copy as loops; the innermost is a ``memcpy`` where both sides are neighbors."""
    loops = [Dimension(loop.count, (loop.to, loop.source)) for loop in copy.loops]
    counters = [f"i{n}" for n in range(len(loops))]
    extra_to, extra_source = "", ""
    if copy.starts is not None:
        # Loops counted from the outside: the table of starts is i0.
        to_table = scene.constants.add(step.layer, "indices", "to", smallest_unsigned(copy.starts[:, 0]))
        source_table = scene.constants.add(step.layer, "indices", "from", smallest_unsigned(copy.starts[:, 1]))
        loops.insert(0, Dimension(len(copy.starts), (0, 0)))
        counters = [f"i{n}" for n in range(len(loops))]
        extra_to, extra_source = f"(int32_t){to_table}[i0] + ", f"(int32_t){source_table}[i0] + "
    block = bool(loops) and loops[-1].strides == (1, 1) and to_name != source_name and loops[-1].count > 3
    inner = loops[:-1] if block else loops
    to = extra_to + index(counters[: len(inner)], [d.strides[0] for d in inner], copy.to)
    source = extra_source + index(counters[: len(inner)], [d.strides[1] for d in inner], copy.source)
    if block:
        line = f"memcpy(y + ({to}), {source_name} + ({source}), {loops[-1].count} * sizeof({kind}));"
    else:
        line = assign.replace("@t", to).replace("@s", source)
    return nest(inner, [line])


FORMS: Mapping[type[Any], Callable[[Scene, Step], Function]] = {
    Map: map_function,
    Table: table_function,
    Reduce: reduce_function,
}
