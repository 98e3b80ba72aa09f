"""Moves as C functions: fill, then copy what is not there yet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitwright.export.c.constants import smallest_unsigned
from bitwright.export.c.layout import moved_indices
from bitwright.export.c.loops import Dimension, index, nest
from bitwright.export.c.pattern import Copy, fold
from bitwright.export.c.scene import Function, Scene, parameters
from bitwright.export.c.storage import View, copies
from bitwright.program.forms import Fill, Move
from bitwright.program.program import Step
from bitwright.simulate.reference import apply_motion


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
