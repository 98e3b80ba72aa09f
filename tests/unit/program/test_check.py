from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bitwright.errors import BadModelFile
from bitwright.number.expr import var
from bitwright.program.check import check
from bitwright.program.forms import (
    Axis,
    Contract,
    Fill,
    Form,
    Island,
    Join,
    Map,
    Move,
    Reduce,
    Reshape,
    Table,
    Take,
    Transpose,
)
from bitwright.program.program import Program
from small_programs import every_form, int8

PROGRAM = every_form()


def test_a_good_program_passes() -> None:
    check(PROGRAM)
    assert {type(step.form) for step in PROGRAM.steps} == {Contract, Reduce, Map, Table, Move, Island}


def with_form(kind: type[Form], **changes: Any) -> Program:
    """The program with another form in the first step of that kind."""
    index = next(i for i, step in enumerate(PROGRAM.steps) if isinstance(step.form, kind))
    steps = list(PROGRAM.steps)
    steps[index] = replace(steps[index], form=replace(steps[index].form, **changes))  # type: ignore[type-var]
    return replace(PROGRAM, steps=tuple(steps))


def with_step(index: int, **changes: Any) -> Program:
    steps = list(PROGRAM.steps)
    steps[index] = replace(steps[index], **changes)
    return replace(PROGRAM, steps=tuple(steps))


def with_buffer(key: str, **changes: Any) -> Program:
    return replace(PROGRAM, buffers={**PROGRAM.buffers, key: replace(PROGRAM.buffers[key], **changes)})


def with_tensor(name: str, change: Callable[[Any], Any]) -> Program:
    return replace(PROGRAM, tensors={**PROGRAM.tensors, name: change(PROGRAM.tensors[name])})


CONV = next(step.form for step in PROGRAM.steps if isinstance(step.form, Contract))
POOL = next(step.form for step in PROGRAM.steps if isinstance(step.form, Reduce))
OUT = PROGRAM.outputs[0]
HUGE = Axis(taps=3, before=1 << 40, after=1, stride=1 << 40)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (replace(PROGRAM, inputs=()), "no input"),
        (replace(PROGRAM, inputs=("x", "x")), "has a value already"),
        (replace(PROGRAM, outputs=("nothing",)), "written by no step"),
        (replace(PROGRAM, steps=PROGRAM.steps[1:]), "nothing has written before"),
        (replace(PROGRAM, steps=PROGRAM.steps[::-1]), "nothing has written before"),
        (replace(PROGRAM, steps=(*PROGRAM.steps, PROGRAM.steps[-1])), "stands in it twice"),
        (replace(PROGRAM, macs={"layer1": -1}), "counts -1"),
        (with_step(0, outputs=("nothing",)), "is no buffer"),
        (with_step(0, inputs=("x", "x")), "reads 2 buffers"),
        (with_step(0, outputs=()), "nothing has written|writes 0"),
        (with_buffer("x", name="y"), "is called 'y'"),
        (with_buffer("x", shape=(1, 0)), "has the shape"),
        (with_buffer("x", shape=()), "has the shape"),
        (with_buffer("x", shape=(1, 1 << 40)), "has the shape"),
        (with_buffer("x", lo=-129), "not inside its format"),
        (with_buffer("x", lo=0), "every code of its format"),
        (with_buffer("x", shape=(1, 3, 4, 4)), "do not fit 3 channels"),
        (with_buffer("x", shape=(1, 4, 4, 5)), "its result has the shape"),
        (with_buffer("x", format=replace(int8(), scale=np.ones(3), zero_point=np.zeros(3), axis=1)), "3 scales along axis 1"),
        (with_buffer(OUT, lo=3, hi=3), "ranges that the program states do not hold"),
        (with_form(Contract, weight="nothing"), "do not exist"),
        (with_form(Contract, weight="island"), "do not exist|integers to compute"),
        (with_form(Contract, groups=3), "in 3 groups"),
        (with_form(Contract, groups=0), "in 0 groups"),
        (with_form(Contract, axes=CONV.axes[:1]), "do not fit an input"),
        (with_form(Contract, axes=(Axis(taps=2), Axis(taps=2))), "do not have the taps"),
        (with_form(Contract, axes=(replace(CONV.axes[0], stride=0), CONV.axes[1])), "step below 1"),
        (with_form(Contract, axes=(replace(CONV.axes[0], before=-9), CONV.axes[1])), "larger than its input"),
        (with_form(Contract, axes=(HUGE, CONV.axes[1])), "borders are larger"),
        (with_form(Contract, acc_lo=0), "stated as"),
        (with_form(Contract, input_zero=1 << 62), "62 bits|stated"),
        (with_form(Contract, epilogue=replace(CONV.epilogue, params={})), "uses 'right', which is nothing"),
        (with_form(Contract, epilogue=replace(CONV.epilogue, params={"right": "layer1.weight"})), "has the shape"),
        (with_form(Contract, epilogue=replace(CONV.epilogue, expr=var("acc", 0, 1))), "'acc' lies in"),
        (with_form(Reduce, axes=POOL.axes[:2]), "along 2 axes"),
        (with_form(Reduce, combine="argmax"), "more than one axis"),
        (with_form(Reduce, axes=(Axis(), Axis(taps=9), Axis())), "larger than its input"),
        (with_form(Map, expr=var("x7", 0, 1)), "uses 'x7'"),
        (with_form(Map, params={"x0": "layer1.right"}), "is two things"),
        (with_form(Map, expr=var("x0", 0, 1)), "'x0' lies in"),
        (with_form(Table, table="layer1.right"), "entries; codes reach"),
        (with_form(Move, motions=(Take(1, (0,)),)), "its result has the shape"),
        (with_form(Move, motions=(Reshape((1, 7)),)), "cannot take the shape"),
        (with_form(Move, motions=(Reshape((1, -4, -4)),)), "cannot take the shape"),
        (with_form(Move, motions=(Transpose((0, 1, 1, 3)),)), "is no order"),
        (with_form(Move, motions=(Take(1, (4,)),)), "not there"),
        (with_form(Move, motions=(Take(1, (-1,)),)), "not there"),
        (with_form(Move, motions=(Take(9, (0,)),)), "not there"),
        (with_form(Move, motions=(Fill((0, 0, 0, -1), (0, 0, 0, 0), 0),)), "border does not fit"),
        (with_form(Move, motions=(Fill((0, 0, 0, 1 << 40), (0, 0, 0, 0), 0),)), "grows beyond"),
        (with_form(Move, motions=(Fill((0, 0, 1, 0), (0, 0, 0, 0), 999),)), "cannot hold"),
        (with_form(Move, motions=(Join(7),)), "joins along axis 7"),
        (with_form(Island, model="layer1.weight"), "no stored piece"),
        (with_form(Island, feeds=()), "other inputs"),
        (with_tensor("layer1.right", lambda t: t + 60), "'right' lies in"),
        (with_tensor("layer1.weight", lambda t: t[:2]), "are not the constants"),
        (with_tensor("layer2.table", lambda t: t[:9]), "9 entries"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(program: Program, why: str) -> None:
    with pytest.raises(BadModelFile, match=why):
        check(program)


def test_names_from_a_file_are_made_printable() -> None:
    with pytest.raises(BadModelFile) as caught:
        check(replace(PROGRAM, outputs=("\x1b[2Jevil",)))
    assert "\x1b" not in str(caught.value)
