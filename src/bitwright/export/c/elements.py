"""Maps and tables as C functions: one element from the elements at the same place."""

from __future__ import annotations

from collections.abc import Sequence

from bitwright.export.c.loops import Dimension, index, merged, nest
from bitwright.export.c.names import c_int, type_of
from bitwright.export.c.scene import Function, Scene, parameter_source, parameters, value_names
from bitwright.number.render import c_statements
from bitwright.program.forms import Map, Table
from bitwright.program.program import Step


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
