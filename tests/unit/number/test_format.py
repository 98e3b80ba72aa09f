from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.number.format import CLASSES, Format, FormatRule, Rounding, classify, exponent_of, round_real

EXAMPLE = Format.power_of_two(8, -3)  # sign and 2^3 .. 2^-3: the worked example of the number-format page


@pytest.mark.parametrize(
    ("x", "code", "value", "verdict"),
    [
        (2.1, 17, 2.125, "precision loss"),
        (16.25, 127, 15.875, "overflow"),  # 15.874, as printed in places, is no multiple of 0.125
        (0.03125, 0, 0.0, "underflow"),
        (0.0625, 1, 0.125, "precision loss"),
        (-0.0625, -1, -0.125, "precision loss"),
        (2.0625, 17, 2.125, "precision loss"),
        (-2.0625, -17, -2.125, "precision loss"),
        (0.1, 1, 0.125, "precision loss"),  # below the smallest step, yet nearer to it than to zero
        (-16.25, -128, -16.0, "overflow"),
        (-16.0, -128, -16.0, "exact"),
        (-16.06, -128, -16.0, "precision loss"),
        (15.875, 127, 15.875, "exact"),
        (15.9, 127, 15.875, "precision loss"),
        (15.9375, 127, 15.875, "overflow"),  # a tie, rounds to 128
        (0.0, 0, 0.0, "exact"),
        (-0.03, 0, 0.0, "underflow"),
        (np.inf, 127, 15.875, "overflow"),
        (-np.inf, -128, -16.0, "overflow"),
        (1e308, 127, 15.875, "overflow"),
    ],
)
def test_worked_example(x: float, code: int, value: float, verdict: str) -> None:
    stored = EXAMPLE.quantize(x)
    assert stored == code
    assert stored.dtype == np.int8
    assert EXAMPLE.dequantize(stored) == value
    assert classify(x, EXAMPLE) == verdict


def test_worked_example_describes_itself() -> None:
    assert str(EXAMPLE) == "int8·2^-3"
    assert (EXAMPLE.lo, EXAMPLE.hi) == (-128, 127)
    assert EXAMPLE.real_range == (-16.0, 15.875)
    assert EXAMPLE.exponent == -3


def test_half_even_and_half_up_send_the_negative_tie_to_zero() -> None:
    assert EXAMPLE.quantize(-0.0625, Rounding.HALF_EVEN) == 0
    assert EXAMPLE.quantize(-0.0625, Rounding.HALF_UP) == 0
    assert classify(-0.0625, EXAMPLE, Rounding.HALF_UP) == "underflow"


def test_classify_works_on_arrays_and_per_channel() -> None:
    x = np.array([[0.3, 100.0], [0.3, 100.0]])
    found = classify(x, Format.power_of_two(8, [-3, 0], axis=0))
    assert found.tolist() == [["precision loss", "overflow"], ["underflow", "exact"]]
    with pytest.raises(ValueError, match="NaN"):
        classify(np.nan, EXAMPLE)


def test_classify_looks_at_the_zero_point() -> None:
    unsigned = Format(8, False, np.asarray(0.5), np.asarray(100))
    assert classify([-50.0, -50.5, 77.5, 78.0, 0.2, 0.3], unsigned).tolist() == [
        "exact", "overflow", "exact", "overflow", "underflow", "precision loss",
    ]  # fmt: skip


@given(x=st.floats(-40, 40), rounding=st.sampled_from(list(Rounding)))
def test_the_classes_mean_what_they_say(x: float, rounding: Rounding) -> None:
    verdict = str(classify(x, EXAMPLE, rounding))
    value = float(EXAMPLE.dequantize(EXAMPLE.quantize(x, rounding)))
    assert verdict in CLASSES
    match verdict:
        case "exact":
            assert value == x
        case "underflow":
            assert value == 0 != x
            assert abs(x) < 0.125
        case "overflow":
            assert value in (-16.0, 15.875)
            assert x <= -16.0 or x >= 15.875
        case _:
            assert value not in (0, x)
            assert abs(Fraction(value) - Fraction(x)) < Fraction(1, 8)


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (Format.power_of_two(8, -6), "int8·2^-6"),
        (Format.power_of_two(8, 1, signed=False), "uint8·2^1"),
        (Format.power_of_two(8, [-7, -3], axis=0), "int8·2^[-7..-3] per channel"),
        (Format(8, True, np.asarray(0.0123)), "int8·0.0123"),
        (Format(8, False, np.asarray(0.0123), np.asarray(12)), "uint8·0.0123 (zero point 12)"),
        (Format(8, False, np.asarray(0.25), np.asarray(12)), "uint8·0.25 (zero point 12)"),
        (Format(16, True, np.array([0.1, 0.03]), axis=1), "int16·[0.03..0.1] per channel"),
    ],
)
def test_printing(stored: Format, text: str) -> None:
    assert str(stored) == text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"bits": 1}, "bits"),
        ({"bits": 65}, "bits"),
        ({"scale": np.asarray(0.0)}, "scale"),
        ({"scale": np.asarray(-1.0)}, "scale"),
        ({"scale": np.asarray(np.inf)}, "scale"),
        ({"scale": np.asarray(np.nan)}, "scale"),
        ({"scale": np.ones(3)}, "axis"),
        ({"axis": 0}, "axis"),
        ({"scale": np.ones((2, 2)), "axis": 0}, "axis"),
        ({"zero_point": np.asarray(128)}, "zero point"),
        ({"zero_point": np.asarray(-129)}, "zero point"),
        ({"zero_point": np.asarray(-128), "narrow": True}, "zero point"),
        ({"zero_point": np.asarray(-1), "signed": False}, "zero point"),
    ],
)
def test_invariants(arguments: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Format(**{"bits": 8, "signed": True, "scale": np.asarray(1.0)} | arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [1, 33])
def test_rules_bound_the_width(bits: int) -> None:
    with pytest.raises(ValueError, match="bits"):
        FormatRule(bits=bits)


def test_nan_is_refused_and_names_itself() -> None:
    with pytest.raises(ValueError, match="NaN"):
        EXAMPLE.quantize([1.0, np.nan])


@pytest.mark.parametrize(
    ("bits", "signed", "dtype"),
    [(2, True, "int8"), (8, False, "uint8"), (9, True, "int16"), (17, False, "uint32"), (33, True, "int64")],
)
def test_storage_type(bits: int, signed: bool, dtype: str) -> None:
    assert Format(bits, signed, np.asarray(1.0)).dtype == np.dtype(dtype)


@pytest.mark.parametrize("bits", [32, 53, 54, 63, 64])
@pytest.mark.parametrize("signed", [True, False])
def test_wide_formats_saturate_at_their_ends(bits: int, signed: bool) -> None:
    wide = Format(bits, signed, np.asarray(1.0))
    assert int(wide.quantize(1e300)) == wide.hi
    assert int(wide.quantize(np.inf)) == wide.hi
    assert int(wide.quantize(-np.inf)) == wide.lo
    assert int(wide.quantize(12345.0)) == 12345


def test_formats_compare_by_value() -> None:
    assert Format.power_of_two(8, -3) == Format(8, True, np.asarray(0.125))
    assert hash(Format.power_of_two(8, -3)) == hash(Format(8, True, np.asarray(0.125)))
    assert Format.power_of_two(8, -3) != Format.power_of_two(8, -3, narrow=True)
    assert Format.power_of_two(8, -3) != "int8·2^-3"


def test_arrays_of_a_format_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        EXAMPLE.scale[...] = 2.0


@given(exponent=st.integers(-100, 100), mantissa=st.floats(1.0, 2.0, exclude_max=True))
def test_exponent_of(exponent: int, mantissa: float) -> None:
    assert exponent_of(mantissa * 2.0**exponent) == exponent


NEAR_TIES = [
    float(np.nextafter(tie, tie + side)) if side else tie
    for tie in (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 4503599627370494.5, -4503599627370494.5)
    for side in (-1, 0, 1)
]


@given(
    x=st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(NEAR_TIES)),
    rounding=st.sampled_from(list(Rounding)),
)
def test_round_real_is_exact(x: float, rounding: Rounding) -> None:
    exact = Fraction(x)
    floor = exact.numerator // exact.denominator
    rest = exact - floor
    tie = {
        Rounding.HALF_UP: True,
        Rounding.HALF_AWAY: x > 0,
        Rounding.HALF_EVEN: floor % 2 == 1,
    }.get(rounding, False)
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and tie)
    if rounding is Rounding.FLOOR:
        up = False
    if rounding is Rounding.TOWARD_ZERO:
        up = x < 0 and rest > 0
    assert Fraction(float(round_real(np.float64(x), rounding))) == floor + up


def test_round_real_keeps_infinities() -> None:
    for rounding in Rounding:
        assert round_real(np.array([np.inf, -np.inf]), rounding).tolist() == [np.inf, -np.inf]
