from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.number.expr import var
from bitwright.number.format import Format
from bitwright.program.codec import (
    DEEPEST_EXPRESSION,
    Malformed,
    decode,
    expression,
    format_from_dict,
    format_to_dict,
    program_from_dict,
    program_to_dict,
)
from bitwright.program.forms import Axis, Form, Motion
from small_programs import every_form

PROGRAM = every_form()


def test_a_program_survives_json() -> None:
    plain = json.loads(json.dumps(program_to_dict(PROGRAM)))
    found = program_from_dict(plain, PROGRAM.tensors)
    assert replace(found, tensors={}) == replace(PROGRAM, tensors={})
    assert list(found.tensors) == list(PROGRAM.tensors)


@given(
    st.integers(2, 32), st.booleans(), st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=5), st.booleans(), st.booleans()
)  # fmt: skip
def test_formats_survive_json(bits: int, signed: bool, scales: list[float], channels: bool, narrow: bool) -> None:
    chosen = Format(
        bits, signed, np.asarray(scales if channels else scales[0]), axis=1 if channels else None, narrow=narrow
    )
    assert format_from_dict(json.loads(json.dumps(format_to_dict(chosen)))) == chosen


@pytest.mark.parametrize(
    "change",
    [
        {"bits": "8"}, {"bits": 99}, {"bits": True}, {"signed": 1}, {"scale": "1"}, {"scale": [None]}, {"scale": -1.0},
        {"scale": 10**400}, {"scale": [[1.0]]}, {"scale": [1.0]}, {"zero_point": 1.5}, {"zero_point": 999},
        {"zero_point": [1, 2]}, {"axis": "0"}, {"extra": 1}, {"scale": float("nan")},
    ],
)  # fmt: skip
def test_bad_formats(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        format_from_dict({**format_to_dict(Format(8, True, np.asarray(1.0))), **change})


@pytest.mark.parametrize(
    "rows",
    [
        None, [], [[]], [[3]], [["nothing", 1]], [["const"]], [["const", 1 << 70]], [["const", "1"]], [["var", 1, 0, 1]],
        [["var", "x", 2, 1]], [["var", "x", 0, 1], ["add", 0, 1]], [["var", "x", 0, 1], ["add", 0, -1]],
        [["const", 1], ["const", 10**10], ["shl", 0, 1]], [["const", 1], ["const", 63], ["shl", 0, 1]],
        [["const", 1], ["const", -1], ["shr", 0, 1]], [["const", 1], ["const", 0], ["div", 0, 1]],
        [["var", "x", -(1 << 62), 1 << 62], ["mul", 0, 0]], [["const", 1]] * 5000,
        [["const", 1], *(["max", i, i] for i in range(DEEPEST_EXPRESSION))],
    ],
)  # fmt: skip
def test_bad_expressions(rows: Any) -> None:
    with pytest.raises(Malformed, match="here"):
        expression(rows, "here")


def test_an_expression_is_what_it_was() -> None:
    x = var("x", -5, 9)
    found = expression([["var", "x", -5, 9], ["const", 2], ["shl", 0, 1], ["add", 2, 0]], "here")
    assert found == (x << 2) + x
    assert (found.lo, found.hi) == (-25, 45)


def test_kinds_and_types_are_checked() -> None:
    good = {"is": "Axis", "taps": 3}
    assert decode(Axis, good, "a") == Axis(taps=3)
    for bad in (
        {"taps": 3},
        {**good, "is": "Take"},
        {**good, "taps": 3.0},
        {**good, "taps": True},
        {**good, "more": 1},
        [],
    ):
        with pytest.raises(Malformed, match=r"^a"):
            decode(Axis, bad, "a")
    for hint, bad in ((Form, {"is": "Os"}), (Motion, {"is": "Reshape", "shape": "ab"}), (Form, {"is": "Contract"})):
        with pytest.raises(Malformed):
            decode(hint, bad, "a")
