from __future__ import annotations

from fractions import Fraction

import pytest

from bitwright.number.arithmetic import DPU_LEAKY_SLOPE, SEMANTICS, Arithmetic, dpu_pool_factor
from bitwright.number.format import Rounding


def arithmetic(**changes: object) -> Arithmetic:
    return Arithmetic(**{"requantize": "shift", "rounding": Rounding.HALF_UP, "semantics": "pow2-halfup"} | changes)


@pytest.mark.parametrize("name", SEMANTICS)
def test_every_profile_can_be_declared(name: str) -> None:
    requantize, rounding = SEMANTICS[name]
    assert Arithmetic(requantize=requantize, rounding=rounding, semantics=name).semantics == name


def test_a_profile_that_says_something_else_is_refused_and_the_right_one_named() -> None:
    with pytest.raises(ValueError, match="say semantics = pow2-floor"):
        arithmetic(rounding=Rounding.FLOOR)
    with pytest.raises(ValueError, match="tflite-double"):
        arithmetic(semantics="tflite")


@pytest.mark.parametrize(
    "changes",
    [
        {"multiplier_bits": 1},
        {"multiplier_bits": 32},
        {"accumulator_bits": 7},
        {"accumulator_bits": 65},
        {"shift_bits": (3, 2)},
        {"shift_bits": (-64, 0)},
        {"bias_shift_bits": (0, 64)},
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        arithmetic(**changes)


@pytest.mark.parametrize(("shift", "lowest"), [(0, -16), (1, -15), (15, -1), (16, 0)])
def test_vitis_lets_a_bias_be_finer_when_the_shift_is_small(shift: int, lowest: int) -> None:
    dpu = arithmetic(bias_shift_bits=(0, 16), bias_shift_rule="vitis")
    assert dpu.bias_shift_limits(shift) == (lowest, 16)


def test_bias_limits_without_the_rule_do_not_depend_on_the_layer() -> None:
    assert arithmetic().bias_shift_limits(5) is None
    assert arithmetic(bias_shift_bits=(0, 31)).bias_shift_limits(5) == (0, 31)


@pytest.mark.parametrize(
    ("kernel", "of_the_mean"),
    [
        ((3, 3), Fraction(9 * 7, 64)),
        ((5, 5), Fraction(25 * 10, 256)),
        ((6, 6), Fraction(36 * 7, 256)),
        ((3, 6), Fraction(36 * 7, 256)),
        ((6, 3), Fraction(36 * 7, 256)),
        ((7, 7), Fraction(49 * 21, 1024)),
        ((14, 14), Fraction(196 * 21, 4096)),
    ],
)
def test_prescribed_pool_factors(kernel: tuple[int, int], of_the_mean: Fraction) -> None:
    k, n = dpu_pool_factor(kernel)
    assert Fraction(k, 1 << n) * kernel[0] * kernel[1] == of_the_mean


@pytest.mark.parametrize(("kernel", "factor"), [((1, 1), (1, 0)), ((2, 2), (1, 2)), ((4, 4), (1, 4)), ((8, 8), (1, 6))])
def test_powers_of_two_are_exact(kernel: tuple[int, int], factor: tuple[int, int]) -> None:
    assert dpu_pool_factor(kernel) == factor


@pytest.mark.parametrize("kernel", [(2, 3), (10, 10), (13, 13), (1, 7), (25, 5), (4, 4, 3)])
def test_other_factors_are_the_best_that_the_bits_allow(kernel: tuple[int, ...]) -> None:
    size = 1
    for extent in kernel:
        size *= extent
    k, n = dpu_pool_factor(kernel)
    assert 1 << n < 128 * size
    error = abs(Fraction(k, 1 << n) - Fraction(1, size))
    others = [
        (abs(Fraction(j, 1 << m) - Fraction(1, size)), m)
        for m in range(64)
        if 1 << m < 128 * size
        for j in range((1 << m) // size + 2)
    ]
    assert (error, n) == min(others)


@pytest.mark.parametrize("kernel", [(), (0, 3), (3, -1)])
def test_empty_windows_are_refused(kernel: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        dpu_pool_factor(kernel)


def test_leaky_slope_is_close_to_a_tenth() -> None:
    k, n = DPU_LEAKY_SLOPE
    assert abs(Fraction(k, 1 << n) - Fraction(1, 10)) == min(
        abs(Fraction(j, 1 << n) - Fraction(1, 10)) for j in range(1 << n)
    )
