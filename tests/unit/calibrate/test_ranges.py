from __future__ import annotations

import numpy as np
import pytest

from bitwright.calibrate.ranges import ceil_log2, floor_log2, format_for_range
from bitwright.number.format import FormatRule

RULES = ("mathworks", "vitis", "nnom")


@pytest.mark.parametrize(
    ("lo", "hi", "mathworks", "vitis", "nnom"),
    [
        (0, 15.9, -3, -3, -3),
        (0, 15.95, -3, -2, -3),
        (0, 16, -2, -2, -3),
        (-16, 1, -2, -3, -3),
        (0, 1.0, -6, -6, -7),
        (0, 255, 1, 1, 1),
        (0.03125, 16.25, -2, -2, -2),
        (-0.91985, 0.88489, -7, -7, -7),
        (-139.34, 198.72, 1, 1, 1),
        (0, 365.247, 2, 2, 2),
    ],
)
def test_published_exponents(lo: float, hi: float, mathworks: int, vitis: int, nnom: int) -> None:
    for rule, want in zip(RULES, (mathworks, vitis, nnom), strict=True):
        got = format_for_range(lo, hi, FormatRule(scaling="power-of-two", exponent_rule=rule))  # type: ignore[arg-type]
        assert got.exponent is not None
        assert int(got.exponent) == want, rule


def test_the_printed_saturations() -> None:
    one = format_for_range(0, 1, FormatRule(scaling="power-of-two", exponent_rule="nnom"))
    assert one.dequantize(one.quantize([1.0]))[0] == 0.9921875
    pixels = format_for_range(0, 255, FormatRule(scaling="power-of-two"))
    assert pixels.dequantize(pixels.quantize([255.0]))[0] == 254
    readme = format_for_range(-1, 365.247, FormatRule(scaling="power-of-two"))
    assert readme.dequantize(readme.quantize([365.247]))[0] == 364


def test_exponents_are_exact_next_to_powers_of_two() -> None:
    for e in range(-30, 30):
        below, at, above = np.float32(2.0**e), np.float32(2.0**e), np.nextafter(np.float32(2.0**e), np.float32(np.inf))
        below = np.nextafter(at, np.float32(0))
        assert [int(floor_log2(x)) for x in (below, at, above)] == [e - 1, e, e]
        assert [int(ceil_log2(x)) for x in (below, at, above)] == [e, e, e + 1]
        vitis = FormatRule(scaling="power-of-two", exponent_rule="vitis")
        edge = 127.5 * 2.0**e
        for hi, want in ((edge, e), (np.nextafter(edge, np.inf), e + 1), (np.nextafter(edge, 0), e)):
            assert int(format_for_range(0, hi, vitis).exponent) == want  # type: ignore[arg-type]
        edge = 128.5 * 2.0**e
        for lo, want in ((-edge, e), (np.nextafter(-edge, -np.inf), e + 1)):
            assert int(format_for_range(lo, 0, vitis).exponent) == want  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", RULES)
def test_unsigned_and_other_widths(rule: str) -> None:
    signed = FormatRule(scaling="power-of-two", exponent_rule=rule, bits=8)  # type: ignore[arg-type]
    unsigned = FormatRule(scaling="power-of-two", exponent_rule=rule, bits=7, signed=False)  # type: ignore[arg-type]
    for hi in (0.3, 1.7, 100):
        assert format_for_range(0, hi, signed).exponent == format_for_range(0, hi, unsigned).exponent
    wide = FormatRule(scaling="power-of-two", exponent_rule=rule, bits=16)  # type: ignore[arg-type]
    assert int(format_for_range(-0.9, 0.9, wide).exponent) == -15  # type: ignore[arg-type]


def test_auto_is_unsigned_only_without_negative_numbers() -> None:
    rule = FormatRule(signed="auto")
    assert not format_for_range(0, 2.55, rule).signed
    assert float(format_for_range(0, 2.55, rule).scale) == pytest.approx(0.01)
    assert format_for_range(-1e-9, 2.55, rule).signed


def test_asymmetric_ranges_hold_zero_exactly() -> None:
    rule = FormatRule(symmetric=False)
    for lo, hi in ((-1, 3), (0, 6), (2, 6), (-6, -2), (-1e-6, 5), (-0.37, 0.11)):
        got = format_for_range(lo, hi, rule)
        assert got.lo <= int(got.zero_point) <= got.hi
        assert got.dequantize(got.quantize([0.0]))[0] == 0.0
        low, high = got.real_range
        assert low <= min(lo, 0) + float(got.scale) / 2
        assert high >= max(hi, 0) - float(got.scale) / 2
    assert int(format_for_range(2, 6, rule).zero_point) == -128
    assert int(format_for_range(-6, -2, rule).zero_point) == 127


def test_zero_tensors_and_dead_channels_get_harmless_steps() -> None:
    for scaling in ("power-of-two", "multiplier"):
        rule = FormatRule(scaling=scaling)  # type: ignore[arg-type]
        assert float(format_for_range(0, 0, rule).scale) == 2**-7
        assert float(format_for_range(np.inf, -np.inf, rule).scale) == 2**-7
        some = format_for_range([0, -1, 0], [0, 4, 0.5], rule, axis=0).scale
        assert some[0] == some.max() == some[1]
        assert (format_for_range([0, 0], [0, 0], rule, axis=0).scale == 2**-7).all()


def test_a_negative_tensor_in_an_unsigned_format_counts_as_dead() -> None:
    rule = FormatRule(signed=False)
    assert float(format_for_range(-3, -1, rule).scale) == 2**-7
    assert float(format_for_range(-3, -1, FormatRule(signed=False, symmetric=False)).scale) == pytest.approx(3 / 255)


def test_steps_stay_in_what_the_hardware_holds() -> None:
    rule = FormatRule(scaling="power-of-two", exponent_range=(-12, 0))
    assert int(format_for_range(0, 1e-30, rule).exponent) == -12  # type: ignore[arg-type]
    assert int(format_for_range(0, 1e30, rule).exponent) == 0  # type: ignore[arg-type]
    tiny = format_for_range(0, 1e-45, FormatRule())
    assert float(tiny.scale) == 2.0**-64


def test_narrow_uses_its_own_lowest_code() -> None:
    rule = FormatRule(scaling="power-of-two", exponent_rule="vitis", narrow=True)
    assert int(format_for_range(-16, 1, rule).exponent) == -2  # type: ignore[arg-type]
