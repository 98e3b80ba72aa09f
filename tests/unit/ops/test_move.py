from __future__ import annotations

import numpy as np
import pytest

from bitwright.number.format import Format
from bitwright.ops.operator import NoIntegerForm
from bitwright.program.forms import Map, Move
from one_layer import Given, codes, int8, layer, outcome

Q = Format.power_of_two(8, -4)
COARSE = Format.power_of_two(8, -3)


def test_an_input_in_another_format_is_requantized_first() -> None:
    program = layer("Reshape", [Given((1, 4), Q)], Given((1, 2, 2), COARSE))
    assert [type(step.form) for step in program.steps] == [Map, Move]
    got = outcome(program, {"in0": np.array([[1, 2, 3, -1]], np.int8)})
    assert got.tolist() == [[[1, 1], [2, 0]]]
    between = program.buffers[program.steps[0].outputs[0]]
    assert between.tensor is None  # it stands for no tensor of the network: reports compare those to float


def test_concat_requantizes_only_what_differs() -> None:
    program = layer("Concat", [Given((1, 2), Q), Given((1, 2), COARSE)], Given((1, 4), COARSE), attributes={"axis": -1})
    assert sum(isinstance(step.form, Map) for step in program.steps) == 1
    got = outcome(program, {"in0": np.array([[1, 2]], np.int8), "in1": np.array([[5, 6]], np.int8)})
    assert got.tolist() == [[1, 1, 5, 6]]


@pytest.mark.parametrize("op", ["Reshape", "Concat"])
def test_an_activation_on_a_move_is_refused(op: str) -> None:
    with pytest.raises(NoIntegerForm, match="activation"):
        layer(op, [Given((1, 4), Q)], Given((1, 4), Q), clamp=(0.0, 1.0), attributes={"axis": 1})


def test_concat_of_constants_is_refused() -> None:
    with pytest.raises(NoIntegerForm, match="constant"):
        layer("Concat", [Given((1, 4), Q), np.ones((1, 4))], Given((1, 8), Q), attributes={"axis": 1})


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize(("before", "after"), [(2, 1), (-1, 2), (1, -2), (0, 0), (-1, -1)])
def test_padding_modes_cut_before_they_add(mode: str, before: int, after: int) -> None:
    program = layer(
        "Pad", [Given((1, 5), Q), np.array([0, before, 0, after])], Given((1, 5 + before + after), Q),
        attributes={"mode": mode},
    )  # fmt: skip
    x = np.array([[10, 20, 30, 40, 50]], np.int8)
    cut = x[:, max(0, -before) : 5 - max(0, -after)]
    want = np.pad(cut, [(0, 0), (max(0, before), max(0, after))], mode=mode)  # type: ignore[call-overload]
    assert np.array_equal(outcome(program, {"in0": x}), want)


def test_padding_with_a_constant_is_quantized_and_counts_for_the_range() -> None:
    source = int8(0.1, -20)
    for value, want in ((None, -20), (1.0, -10), (-1e30, -128), (np.inf, 127)):
        extra = [] if value is None else [np.asarray(value)]
        program = layer("Pad", [Given((1, 2), source), np.array([0, 1, 0, 0]), *extra], Given((1, 3), source))
        got = outcome(program, {"in0": np.array([[3, 4]], np.int8)})
        assert got.tolist() == [[want, 3, 4]]


def test_padding_of_old_files_and_of_chosen_axes() -> None:
    program = layer("Pad", [Given((1, 2), Q)], Given((1, 4), Q), attributes={"pads": [0, 1, 0, 1], "value": 1.0})
    assert outcome(program, {"in0": np.array([[3, 4]], np.int8)}).tolist() == [[16, 3, 4, 16]]
    program = layer("Pad", [Given((1, 2), Q), np.array([1, 0]), None, np.array([-1])], Given((1, 3), Q))
    assert outcome(program, {"in0": np.array([[3, 4]], np.int8)}).tolist() == [[0, 3, 4]]
    with pytest.raises(NoIntegerForm, match="unknown"):
        layer("Pad", [Given((1, 2), Q), np.array([0, 1, 0, 0])], Given((1, 3), Q), attributes={"mode": "mirror"})


def test_split_gives_every_output_its_part() -> None:
    program = layer("Split", [Given((1, 5), Q)], Given((1, 2), Q), Given((1, 3), Q), attributes={"axis": -1})
    assert len(program.outputs) == 2
    assert outcome(program, codes(program, 0)).shape == (2, 2)


def test_samples_stay_apart() -> None:
    program = layer("Transpose", [Given((1, 2, 3), Q)], Given((1, 3, 2), Q), attributes={"perm": [0, 2, 1]})
    inputs = codes(program, 1, samples=5)
    assert np.array_equal(outcome(program, inputs), inputs["in0"].transpose(0, 2, 1))
