"""Every rounding against rational arithmetic that shares no code with it."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.number.arithmetic import SEMANTICS
from bitwright.number.expr import Expr, divide, round_shift, saturate, scale_float32, var
from bitwright.number.format import Rounding
from bitwright.number.render import numpy_value
from bitwright.number.requantize import bound_by_parameters, integer_multiplier, rescale
from oracle import cmsis_single, profile, rounded, single, tflite_double, tflite_single

ROUNDINGS = st.sampled_from(list(Rounding))
ACC = st.one_of(st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-300, 300))


def value(expr: Expr, **values: object) -> int:
    return int(numpy_value(expr, {k: np.asarray(v) for k, v in values.items()}))


def inside(expr: Expr, got: int) -> None:
    assert expr.lo <= got <= expr.hi


@given(x=ACC, shift=st.integers(0, 31), rounding=ROUNDINGS)
def test_round_shift_by_a_constant(x: int, shift: int, rounding: Rounding) -> None:
    expr = round_shift(var("x", -(1 << 31), (1 << 31) - 1), shift, rounding)
    got = value(expr, x=x)
    assert got == rounded(Fraction(x, 1 << shift), rounding)
    inside(expr, got)


@given(
    x=ACC,
    shifts=st.lists(st.integers(0, 28), min_size=1, max_size=5),
    rounding=ROUNDINGS,
)
def test_round_shift_per_channel_including_zero(x: int, shifts: list[int], rounding: Rounding) -> None:
    expr = round_shift(var("x", -(1 << 31), (1 << 31) - 1), var("s", 0, 28), rounding)
    got = numpy_value(expr, {"x": np.asarray(x), "s": np.asarray(shifts)})
    for y, shift in zip(got.tolist(), shifts, strict=True):
        assert y == rounded(Fraction(x, 1 << shift), rounding)
        inside(expr, y)


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("shift", range(9))
def test_round_shift_every_small_value(rounding: Rounding, shift: int) -> None:
    xs = np.arange(-600, 601)
    want = [rounded(Fraction(int(x), 1 << shift), rounding) for x in xs]
    for amount in (shift, var("s", 0, 8)):
        expr = round_shift(var("x", -600, 600), amount, rounding)
        got = numpy_value(expr, {"x": xs, "s": np.asarray(shift)})
        assert got.tolist() == want
        assert expr.lo <= got.min()
        assert got.max() <= expr.hi


@given(x=ACC, d=st.integers(1, 1 << 20), rounding=ROUNDINGS)
def test_divide(x: int, d: int, rounding: Rounding) -> None:
    for divisor in (d, var("d", 1, 1 << 20)):
        expr = divide(var("x", -(1 << 31), (1 << 31) - 1), divisor, rounding)
        got = value(expr, x=x, d=d)
        assert got == rounded(Fraction(x, d), rounding)
        inside(expr, got)


@pytest.mark.parametrize("rounding", list(Rounding))
@pytest.mark.parametrize("d", [1, 2, 3, 4, 6, 7, 9, 49])
def test_divide_every_small_value(rounding: Rounding, d: int) -> None:
    xs = np.arange(-300, 301)
    got = numpy_value(divide(var("x", -300, 300), d, rounding), {"x": xs})
    assert got.tolist() == [rounded(Fraction(int(x), d), rounding) for x in xs]


@given(
    x=ACC,
    scale=st.floats(2.0**-30, 4.0, width=32),
    rounding=st.sampled_from([Rounding.HALF_EVEN, Rounding.HALF_AWAY]),
    whole=st.booleans(),
)
def test_scale_float32(x: int, scale: float, rounding: Rounding, whole: bool) -> None:
    pattern = int(np.float32(scale).view(np.uint32))
    lo, hi = (-(1 << 31), (1 << 31) - 1) if whole else (x, x)
    expr = scale_float32(var("x", lo, hi), var("m", pattern, pattern), scale, scale, rounding)
    got = value(expr, x=x, m=pattern)
    assert got == rounded(single(single(Fraction(x)) * Fraction(scale)), rounding)
    inside(expr, got)


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_scale_float32_ties(scale: float) -> None:
    xs = np.arange(-50, 51)
    pattern = int(np.float32(scale).view(np.uint32))
    for rounding in (Rounding.HALF_EVEN, Rounding.HALF_AWAY):
        expr = scale_float32(var("x", -50, 50), var("m", pattern, pattern), scale, scale, rounding)
        got = numpy_value(expr, {"x": xs, "m": np.asarray(pattern)}).tolist()
        assert got == [rounded(Fraction(int(x)) * Fraction(scale), rounding) for x in xs]


def test_scale_float32_range_of_one_sided_values() -> None:
    # Rounding outwards must go up for a low end that is negative and down for one that is positive.
    pattern = int(np.float32(1.0).view(np.uint32))
    for lo, hi in ((1 << 30, 1 << 30), (-(1 << 30), -(1 << 30)), (1, 1 << 30)):
        expr = scale_float32(var("x", lo, hi), var("m", pattern, pattern), 1.0, 1.0, Rounding.HALF_EVEN)
        assert expr.lo <= lo <= hi <= expr.hi


def test_scale_float32_knows_two_roundings() -> None:
    with pytest.raises(ValueError, match="half-even or half-away"):
        scale_float32(var("x", 0, 1), var("m", 0, 1), 1.0, 1.0, Rounding.FLOOR)


@given(ratio=st.floats(2.0**-40, 2.0**20), bits=st.integers(2, 31))
def test_integer_multiplier_is_the_nearest_normalized(ratio: float, bits: int) -> None:
    m, s = (int(v) for v in integer_multiplier(np.asarray(ratio), bits))
    assert 1 << (bits - 1) <= m < 1 << bits
    error = abs(Fraction(m) / Fraction(2) ** s - Fraction(ratio))
    assert error <= Fraction(1, 2) / Fraction(2) ** s


def test_integer_multiplier_carries_into_the_exponent() -> None:
    almost = np.nextafter(0.5, 0)  # mantissa so near 1 that it rounds to 2**31
    m, s = integer_multiplier(np.array([almost, 0.5, 0.75]), 31)
    assert m.tolist() == [1 << 30, 1 << 30, 3 << 29]
    assert s.tolist() == [31, 31, 31]
    assert m.dtype == s.dtype == np.int64


@given(x=ACC, real=st.floats(2.0**-20, 1.0))
def test_double_rounding_is_that_of_tensorflow_lite(x: int, real: float) -> None:
    scaled = rescale(var("acc", -(1 << 31), (1 << 31) - 1), np.asarray(real), profile("tflite-double"))
    got = value(scaled.expr, acc=x, **scaled.params)
    assert got == tflite_double(x, real)
    inside(scaled.expr, got)


@given(x=st.integers(-(1 << 20), 1 << 20), real=st.floats(1.0, 100.0))
def test_double_rounding_with_a_left_shift(x: int, real: float) -> None:
    scaled = rescale(var("acc", -(1 << 20), 1 << 20), np.asarray(real), profile("tflite-double"))
    assert value(scaled.expr, acc=x, **scaled.params) == tflite_double(x, real)


def test_double_rounding_differs_from_single_where_it_should() -> None:
    xs = range(-4000, 4000)
    doubled = rescale(var("acc", -4000, 4000), np.asarray(0.0123), profile("tflite-double"))
    once = rescale(var("acc", -4000, 4000), np.asarray(0.0123), profile("tflite-single"))
    assert [value(doubled.expr, acc=x) for x in xs] == [tflite_double(x, 0.0123) for x in xs]
    assert [value(once.expr, acc=x) for x in xs] == [tflite_single(x, 0.0123) for x in xs]
    ratio = 1 / 16  # Q31 makes it a half, then a shift by 3: 7/16 becomes 4/8, a tie of the machine's own making
    doubled = rescale(var("acc", -4000, 4000), np.asarray(ratio), profile("tflite-double"))
    once = rescale(var("acc", -4000, 4000), np.asarray(ratio), profile("tflite-single"))
    differ = [x for x in xs if value(doubled.expr, acc=x) != value(once.expr, acc=x)]
    assert differ == [x for x in xs if (x % 16 == 8 and x < 0) or (x % 16 == 7 and x > 0)]


@given(x=ACC, real=st.floats(2.0**-20, 1.0))
def test_single_rounding_is_that_of_tensorflow_lite_and_cmsis(x: int, real: float) -> None:
    scaled = rescale(var("acc", -(1 << 31), (1 << 31) - 1), np.asarray(real), profile("tflite-single"))
    got = value(scaled.expr, acc=x, **scaled.params)
    assert got == tflite_single(x, real) == cmsis_single(x, real)
    inside(scaled.expr, got)


@given(x=ACC, shift=st.integers(-5, 31), name=st.sampled_from([n for n, (k, _) in SEMANTICS.items() if k == "shift"]))
def test_shifting_requantizers(x: int, shift: int, name: str) -> None:
    scaled = rescale(var("acc", -(1 << 31), (1 << 31) - 1), np.asarray(2.0**-shift), profile(name))
    got = value(scaled.expr, acc=x, **scaled.params)
    assert got == rounded(Fraction(x) / Fraction(2) ** shift, SEMANTICS[name][1])
    inside(scaled.expr, got)


@given(x=ACC, real=st.floats(2.0**-30, 1.0), even=st.booleans())
def test_float32_requantizers(x: int, real: float, even: bool) -> None:
    name = "ort-cpu" if even else "float32-half-away"
    scaled = rescale(var("acc", -(1 << 31), (1 << 31) - 1), np.asarray(real), profile(name))
    got = value(scaled.expr, acc=x, **scaled.params)
    want = single(single(Fraction(x)) * single(Fraction(real)))
    assert got == rounded(want, SEMANTICS[name][1])
    inside(scaled.expr, got)


def test_a_shift_needs_powers_of_two() -> None:
    with pytest.raises(ValueError, match="powers of two"):
        rescale(var("acc", 0, 1), np.asarray(0.3), profile("pow2-halfup"))


@pytest.mark.parametrize("name", ["tflite-double", "tflite-single"])
def test_a_ratio_too_small_to_matter_gives_zero(name: str) -> None:
    scaled = rescale(var("acc", -(1 << 20), 1 << 20), np.array([2.0**-70, 0.5]), profile(name))
    got = numpy_value(scaled.expr, {"acc": np.array([1 << 20, 1 << 20]), **scaled.params})
    assert got.tolist() == [0, 1 << 19]


def channel_rows(params: Mapping[str, np.ndarray], channel: int) -> dict[str, np.ndarray]:
    return {k: np.asarray(v if v.ndim == 0 else v[channel]) for k, v in params.items()}


@given(
    ratios=st.lists(st.floats(2.0**-20, 2.0**-2), min_size=2, max_size=4),
    ends=st.lists(st.tuples(st.integers(-60000, 60000), st.integers(0, 60000)), min_size=4, max_size=4),
    name=st.sampled_from(sorted(SEMANTICS)),
    data=st.data(),
)
def test_ranges_per_channel_are_sound_and_tighter(
    ratios: list[float], ends: list[tuple[int, int]], name: str, data: st.DataObject
) -> None:
    arithmetic = profile(name)
    ratio = np.array(ratios)
    if arithmetic.requantize == "shift":
        ratio = np.exp2(np.floor(np.log2(ratio)))
    lows = np.array([a for a, _ in ends[: len(ratio)]])
    highs = np.array([a + n for a, n in ends[: len(ratio)]])
    acc = var("acc", int(lows.min()), int(highs.max()))
    scaled = rescale(acc, ratio, arithmetic)
    expr = saturate(scaled.expr + 3, -128, 127)
    lo, hi = bound_by_parameters(expr, scaled.params, {"acc": (lows, highs)})
    lo, hi = (np.broadcast_to(end, ratio.shape) for end in (lo, hi))  # where all saturates there are no channels left
    assert ((lo >= expr.lo) & (hi <= expr.hi)).all() or arithmetic.requantize == "float32"
    for channel in range(len(ratio)):
        x = data.draw(st.integers(int(lows[channel]), int(highs[channel])))
        ys = numpy_value(
            expr, {"acc": np.array([lows[channel], x, highs[channel]]), **channel_rows(scaled.params, channel)}
        )
        assert lo[channel] <= ys.min()
        assert ys.max() <= hi[channel]
        if arithmetic.requantize in ("shift", "multiplier-single") and arithmetic.rounding is Rounding.HALF_UP:
            # Nothing in these is correlated, so the interval is not only sound but reached.
            assert (lo[channel], hi[channel]) == (ys.min(), ys.max())


@given(data=st.data(), rounding=ROUNDINGS)
def test_ranges_hold_for_any_composition(data: st.DataObject, rounding: Rounding) -> None:
    lo = data.draw(st.integers(-1000, 1000))
    hi = data.draw(st.integers(lo, 1000))
    x, y = var("x", lo, hi), var("y", -7, 9)
    shift = data.draw(st.integers(0, 6))
    exprs = [
        round_shift(x * y - 5, shift, rounding),
        divide(x + y, var("d", 2, 11), rounding),
        saturate(x * x, 3, 400) - (x >> 2),
        (x << 3) - round_shift(x, var("s", 0, 5), rounding),
    ]
    values = {
        "x": np.asarray(data.draw(st.integers(lo, hi))),
        "y": np.asarray(data.draw(st.integers(-7, 9))),
        "d": np.asarray(data.draw(st.integers(2, 11))),
        "s": np.asarray(data.draw(st.integers(0, 5))),
    }
    for expr in exprs:
        inside(expr, int(numpy_value(expr, values)))


@given(lo=st.integers(-(1 << 62), 1 << 62), width=st.integers(0, 1 << 60))
def test_what_64_bits_cannot_hold_is_refused_while_it_is_built(lo: int, width: int) -> None:
    x = var("x", lo, lo + width)
    fits = 8 * lo >= -(1 << 63) and 8 * (lo + width) < 1 << 63
    if fits:
        assert ((x << 2) * 2).hi == 8 * (lo + width)
    else:
        with pytest.raises(OverflowError, match="64 bits"):
            (x << 2) * 2
