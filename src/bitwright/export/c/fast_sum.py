"""Elementwise steps that are a requantized sum of one function of each operand, on kernels for a core."""

from __future__ import annotations

import dataclasses

import numpy as np

from bitwright.export.c.contract import RESULT_TYPES
from bitwright.export.c.fast import bounds
from bitwright.export.c.requant import recognize
from bitwright.export.c.scene import Scene
from bitwright.mcu.arm import sums
from bitwright.mcu.arm.sums import FastSum
from bitwright.number.expr import Expr, Op, from_rows, to_rows, var
from bitwright.number.render import numpy_value
from bitwright.program.forms import Map
from bitwright.program.program import Step

BYTES = ("int8", "uint8")
OPERANDS = 2


def fast_sum(scene: Scene, step: Step, core: str | None) -> FastSum | None:
    """A kernel for a sum of two tensors that lie alike, or None."""
    form = step.form
    if core is None or not isinstance(form, Map) or len(step.inputs) != OPERANDS:
        return None
    if not alike(scene, step):
        return None
    params = {name: np.asarray(scene.program.tensors[t], np.int64).reshape(-1) for name, t in form.params.items()}
    if any(values.size != 1 for values in params.values()):
        return None
    split = split_sum(form.expr)
    if split is None:
        return None
    total, parts = split
    acc = var("acc", total.lo, total.hi)
    try:
        rest = replaced(form.expr, total, acc)
    except ValueError:  # the sum's own range does not follow from its operands: it was tightened by hand
        return None
    if set(rest.variables()) - {"acc", *params}:
        return None
    scalars = {name: values[0] for name, values in params.items()}
    requant = recognize(rest, {name: np.asarray(value) for name, value in scalars.items()}, 1)
    if requant is None:
        return None
    tables = []
    for name, part in zip(("x0", "x1"), parts, strict=True):
        source = scene.buffer(step.inputs[int(name[1])]).format.dtype
        codes = np.arange(256, dtype=np.uint8).view(source).astype(np.int64)
        given = {name: codes, **{k: np.asarray(v) for k, v in scalars.items()}}
        tables.append(np.asarray(np.broadcast_to(numpy_value(part, given), codes.shape), np.int64))
    result = scene.buffer(step.outputs[0]).format.dtype
    lo, hi = bounds(rest, requant, int(np.iinfo(result).min), int(np.iinfo(result).max))
    return sums.choose(
        core, (tables[0], tables[1]), requant.kind, requant.multiplier, requant.shift, requant.zero, lo, hi,
        RESULT_TYPES[result.name],
    )  # fmt: skip


def description(fast: FastSum, tables: tuple[str, str], count: int, name: str, comment: str) -> str:
    """The C constant that describes the step."""
    numbers = ", ".join([*tables, str(count), *(_number(n) for n in fast.numbers)])
    return f"static const bw_sum_t {name} = {{ /* {comment} */\n    {numbers}}};"


def _number(value: int) -> str:
    return "INT32_MIN" if value == -(1 << 31) else str(value)


def alike(scene: Scene, step: Step) -> bool:
    """Whether operands and result are bytes of one shape in one order without gaps."""
    names = (*step.inputs, *step.outputs)
    first = scene.layouts[names[0]]
    return all(
        scene.buffer(n).format.dtype.name in BYTES and scene.views[n].solid and scene.layouts[n].same_as(first)
        for n in names
    )


def split_sum(expr: Expr) -> tuple[Expr, tuple[Expr, Expr]] | None:
    """The addition whose sides depend on one operand each, and the sides, that of ``x0`` first."""
    for node in expr.walk():
        if node.op is Op.ADD:
            left, right = (_operands(side) for side in node.args)
            if left == {"x0"} and right == {"x1"}:
                return node, (node.args[0], node.args[1])
            if left == {"x1"} and right == {"x0"}:
                return node, (node.args[1], node.args[0])
    return None


def _operands(expr: Expr) -> set[str]:
    return {name for name in expr.variables() if name in ("x0", "x1")}


def replaced(expr: Expr, old: Expr, new: Expr) -> Expr:
    """``expr`` with node ``old`` taken for ``new``; ranges are proven anew."""
    made: dict[int, Expr] = {id(old): new}  # shared nodes stay shared
    for node in expr.walk():
        if id(node) not in made:
            made[id(node)] = (
                dataclasses.replace(node, args=tuple(made[id(a)] for a in node.args)) if node.args else node
            )
    return from_rows(to_rows(made[id(expr)]))
