from __future__ import annotations

import numpy as np
import pytest

from bitwright.number.format import Format
from bitwright.ops.operator import NoIntegerForm
from bitwright.ops.resize import nearest_index
from one_layer import Given, codes, int8, layer, outcome
from oracle import profile

Q = Format.power_of_two(8, -4)


def resize(
    size: tuple[int, ...], wanted: tuple[int, ...], fmt: Format = Q, result: Format | None = None, **attributes: object
):
    return layer(
        "Resize", [Given((1, 1, *size), fmt), None, None, np.array([1, 1, *wanted])], Given((1, 1, *wanted), result or fmt),
        attributes=attributes, arithmetic=profile("pow2-halfup"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "want"),
    [
        ("floor", [0, 0, 0, 0, 1, 1, 2]),
        ("ceil", [0, 0, 1, 1, 1, 2, 2]),
        ("round_prefer_floor", [0, 0, 0, 0, 1, 1, 2]),
        ("round_prefer_ceil", [0, 0, 0, 1, 1, 2, 2]),
    ],
)
def test_nearest(mode: str, want: list[int]) -> None:
    assert nearest_index(np.array([-0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 7.0]), mode, 3).tolist() == want


def test_doubling_is_exact_quarters() -> None:
    program = resize((2,), (4,), mode="linear", coordinate_transformation_mode="half_pixel")
    # -8/4 … of 100 and 3: 100, 75.75, 27.25, 3
    assert outcome(program, {"in0": np.array([[[100, 3]]], np.int8)}).ravel().tolist() == [100, 76, 27, 3]


def test_three_axes_of_unsigned_bytes_need_more_than_32_bits() -> None:
    wide = Format(8, False, np.asarray(0.25))
    program = resize((2, 2, 2), (4, 4, 4), wide, mode="linear", coordinate_transformation_mode="half_pixel")
    assert outcome(program, {"in0": np.full((1, 1, 2, 2, 2), 255, np.uint8)}).ravel().tolist() == [255] * 64
    assert max(b.format.bits for b in program.buffers.values()) == 33


def test_linear_into_another_format_rounds_once() -> None:
    program = resize(
        (2,), (4,), Q, Format.power_of_two(8, -3), mode="linear", coordinate_transformation_mode="half_pixel"
    )
    assert outcome(program, {"in0": np.array([[[10, 1]]], np.int8)}).ravel().tolist() == [
        5,
        4,
        2,
        1,
    ]  # 7.75/2, 3.25/2, 0.5


def test_a_constant_picture_stays_constant() -> None:
    for mode in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"):
        program = resize((3, 5), (7, 4), int8(0.1), mode="linear", coordinate_transformation_mode=mode)
        assert set(outcome(program, {"in0": np.full((1, 1, 3, 5), -77, np.int8)}).ravel()) == {-77}


def test_one_output_element_is_taken_from_the_start() -> None:
    for mode in ("align_corners", "pytorch_half_pixel"):
        program = resize((3,), (1,), mode="linear", coordinate_transformation_mode=mode)
        assert outcome(program, {"in0": np.array([[[5, 6, 7]]], np.int8)}).item() == 5


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"mode": "cubic"}, "'cubic'"),
        ({"mode": "linear", "antialias": 1}, "antialias"),
        ({"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}, "tf_crop_and_resize"),
    ],
)
def test_uses_without_an_integer_form(attributes: dict[str, object], why: str) -> None:
    with pytest.raises(NoIntegerForm, match=why):
        resize((2,), (4,), **attributes)


def test_the_batch_is_not_resized() -> None:
    with pytest.raises(NoIntegerForm, match="batch"):
        layer("Resize", [Given((1, 2), Q), None, None, np.array([2, 2])], Given((2, 2), Q))


def test_scales_are_believed_over_sizes() -> None:
    # 5 · 0.7 = 3.5 → 3 elements; positions use 0.7 and not 3/5.
    program = layer(
        "Resize", [Given((1, 5), Q), None, np.array([1.0, 0.7], np.float32)], Given((1, 3), Q),
        attributes={"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    )  # fmt: skip
    inputs = codes(program, 0, samples=1)
    assert outcome(program, inputs).ravel().tolist() == inputs["in0"][0, [0, 1, 2]].tolist()
