from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.number.format import Format, Rounding
from bitwright.ops.elementwise import factor_codes
from bitwright.ops.operator import NoIntegerForm
from one_layer import Given, codes, int8, layer, outcome
from oracle import profile, requantized, rounded, saturated, tflite_double, tflite_single

SHAPE = (1, 40)


@pytest.mark.parametrize("rounding", [None, Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.FLOOR])
@pytest.mark.parametrize(("op", "sign"), [("Add", 1), ("Sub", -1)])
@pytest.mark.parametrize(("a", "b", "y"), [(-4, -4, -4), (-3, -6, -4), (-7, -2, -1), (-5, -4, -9)])
def test_sums_by_shifting(op: str, sign: int, a: int, b: int, y: int, rounding: Rounding | None) -> None:
    program = layer(
        op, [Given(SHAPE, Format.power_of_two(8, a)), Given(SHAPE, Format.power_of_two(8, b))],
        Given(SHAPE, Format.power_of_two(8, y)), method="shift", rounding=rounding,
    )  # fmt: skip
    inputs = codes(program, 2)
    got = outcome(program, inputs)
    for p, q, r in zip(*(v.astype(int).ravel() for v in inputs.values()), got.ravel(), strict=True):
        real = int(p) * Fraction(2) ** (a - y) + sign * int(q) * Fraction(2) ** (b - y)
        assert r == saturated(rounded(real, rounding or Rounding.HALF_UP))


@pytest.mark.parametrize("name", ["tflite-double", "tflite-single"])
@pytest.mark.parametrize(("op", "sign"), [("Add", 1), ("Sub", -1)])
@settings(max_examples=10)
@given(scales=st.tuples(*[st.floats(0.002, 0.2)] * 3), zeros=st.tuples(*[st.integers(-128, 127)] * 3))
def test_sums_of_tensorflow_lite(
    op: str, sign: int, name: str, scales: tuple[float, float, float], zeros: tuple[int, int, int]
) -> None:
    """Transcribed from micro/kernels/add_common.cc: left shift 20, twice the larger scale, three multipliers."""
    program = layer(
        op, [Given(SHAPE, int8(scales[0], zeros[0])), Given(SHAPE, int8(scales[1], zeros[1]))],
        Given(SHAPE, int8(scales[2], zeros[2])), method="tflite", arithmetic=profile(name),
    )  # fmt: skip
    multiply = tflite_double if name == "tflite-double" else tflite_single
    twice = 2.0 * max(scales[:2])
    inputs = codes(program, 3)
    got = outcome(program, inputs)
    for p, q, r in zip(*(v.astype(int).ravel() for v in inputs.values()), got.ravel(), strict=True):
        first = multiply((int(p) - zeros[0]) * (1 << 20), scales[0] / twice)
        second = multiply((int(q) - zeros[1]) * (1 << 20), scales[1] / twice)
        raw = multiply(first + sign * second, twice / ((1 << 20) * scales[2]))
        assert r == saturated(raw + zeros[2])


@settings(max_examples=20)
@given(
    scales=st.lists(st.floats(1e-4, 10.0), min_size=2, max_size=4),
    out=st.floats(1e-3, 1.0),
    constant=st.one_of(st.none(), st.floats(-100, 100)),
)
def test_sums_with_a_common_shift_are_rounded_once(scales: list[float], out: float, constant: float | None) -> None:
    given_inputs: list[object] = [Given(SHAPE, int8(s, 3 * i)) for i, s in enumerate(scales)]
    inputs = [*given_inputs, np.asarray(constant)] if constant is not None else given_inputs
    program = layer("Sum", inputs, Given(SHAPE, int8(out, -9)), arithmetic=profile("tflite-single"))  # type: ignore[arg-type]
    values = codes(program, 1)
    got = outcome(program, values)
    real = sum(s * (v.astype(float) - 3 * i) for i, (s, v) in enumerate(zip(scales, values.values(), strict=True)))
    want = np.clip((real + (constant or 0.0)) / out - 9, -128, 127)
    # Each multiplier is within half of 2^-19 of the largest ratio; sums of codes are below 2^8 each.
    slack = 0.5 + 260 * len(scales) * 2.0**-20 * max(1, *(s / out for s in scales))
    assert (np.abs(got - want) <= slack + 1e-6).all()


@pytest.mark.parametrize("method", ["shift", "common-shift"])
@pytest.mark.parametrize("value", [-1e9, -np.inf, 3e38])
def test_a_mask_that_reaches_beyond_everything_saturates(method: str, value: float) -> None:
    fmt = Format.power_of_two(8, -4)
    mask = np.array([0.0, value])
    program = layer("Add", [Given((1, 2), fmt), mask], Given((1, 2), fmt), method=method)
    got = outcome(program, {"in0": np.array([[5, 5], [127, 127], [-128, -128]], np.int8)})
    end = 127 if value > 0 else -128
    assert got.tolist() == [[5, end], [127, end], [-128, end]]


def test_constants_are_added_finer_than_the_output_step() -> None:
    fmt = Format.power_of_two(8, 0)
    program = layer(
        "Add",
        [
            Given((1, 1), fmt),
            np.asarray(0.49),
        ],
        Given((1, 1), fmt),
        method="shift",
    )
    assert outcome(program, {"in0": np.array([[3]], np.int8)}).item() == 3
    program = layer("Sub", [np.asarray(0.51), Given((1, 1), fmt)], Given((1, 1), fmt), method="shift")
    assert outcome(program, {program.inputs[0]: np.array([[-3]], np.int8)}).item() == 4


def test_steps_that_are_no_powers_of_two_cannot_be_shifted() -> None:
    with pytest.raises(NoIntegerForm, match="not powers of two"):
        layer("Add", [Given(SHAPE, int8(0.3)), Given(SHAPE, int8(0.5))], Given(SHAPE, int8(0.5)), method="shift")


@pytest.mark.parametrize("name", ["pow2-halfup", "pow2-halfeven", "tflite-single", "tflite-double", "ort-cpu"])
def test_products(name: str) -> None:
    arithmetic = profile(name)
    power = arithmetic.requantize == "shift"
    a, b, y = (
        (Format.power_of_two(8, e) for e in (-5, -3, -4)) if power else (int8(0.03, 4), int8(0.11, -7), int8(0.06, 1))
    )
    program = layer("Mul", [Given(SHAPE, a), Given(SHAPE, b)], Given(SHAPE, y), arithmetic=arithmetic)
    inputs = codes(program, 9)
    got = outcome(program, inputs)
    ratio = float(a.scale) * float(b.scale) / float(y.scale)
    for p, q, r in zip(*(v.astype(int).ravel() for v in inputs.values()), got.ravel(), strict=True):
        acc = (int(p) - int(a.zero_point)) * (int(q) - int(b.zero_point))
        assert r == saturated(requantized(acc, ratio, arithmetic) + int(y.zero_point))


def test_a_square_is_one_input() -> None:
    from bitwright.number.arithmetic import Arithmetic
    from bitwright.ops.operator import Result, Site
    from bitwright.ops.registry import operators
    from bitwright.program.builder import Builder

    arithmetic: Arithmetic = profile("pow2-halfup")
    build = Builder("one", "none")
    build.enter("layer", "Mul", ())
    x = build.buffer((1, 3), Format.power_of_two(8, 0), tensor="x")

    class Plain:
        method = None
        rounding = None

    site = Site(
        layer="layer", op="Mul", attributes={}, inputs=(x, x), clamp=None, rule=Plain(), arithmetic=arithmetic,
        outputs=(Result(tensor="y", shape=(1, 3), format=Format.power_of_two(8, 4)),),
    )  # fmt: skip
    (out,) = operators()["Mul"].lower(site, build)
    assert out.lo == 0  # a square is never negative, and the range knows


@pytest.mark.parametrize("factor", [0.5, 2.0, 1.0, -4.0, 0.0, 1 / 3])
def test_factors_that_are_powers_of_two_are_exact(factor: float) -> None:
    fmt = Format.power_of_two(16, -4)
    program = layer("Mul", [Given(SHAPE, fmt), np.asarray(factor)], Given(SHAPE, fmt))
    inputs = codes(program, 4)
    x = inputs["in0"].astype(int)
    exact = np.clip(np.floor(x * factor + 0.5), fmt.lo, fmt.hi)
    got = outcome(program, inputs)
    if factor == 1 / 3:
        assert np.abs(got - x * factor).max() <= 0.5 + 32768 * 2.0**-17
    else:
        assert np.array_equal(got, exact)


@given(
    values=st.lists(st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-6), min_size=1, max_size=5),
)
def test_factor_codes(values: list[float]) -> None:
    found, step = factor_codes(np.array(values), 3)
    assert found.shape == (1, 1, len(values))
    assert np.abs(found).max() < 1 << 15
    assert np.log2(step) == round(np.log2(step))
    assert (
        np.abs(found.ravel() * step - values) <= step * 1.000001
    ).all()  # the largest may round up to 2^15 and is cut
    assert np.abs(found).max() >= 1 << 14 or not any(values)


def test_division_is_by_constants_other_than_zero() -> None:
    fmt = Format.power_of_two(8, -2)
    program = layer("Div", [Given((1, 2), fmt), np.array([2.0, -0.5])], Given((1, 2), fmt))
    assert outcome(program, {"in0": np.array([[10, 10]], np.int8)}).tolist() == [[5, -20]]
    with pytest.raises(NoIntegerForm, match="zero"):
        layer("Div", [Given((1, 2), fmt), np.array([2.0, 0.0])], Given((1, 2), fmt))
    with pytest.raises(NoIntegerForm, match="not constant"):
        layer("Div", [Given((1, 2), fmt), Given((1, 2), fmt)], Given((1, 2), fmt))


@pytest.mark.parametrize("name", ["pow2-halfup", "tflite-double", "ort-cpu"])
def test_format_changes(name: str) -> None:
    arithmetic = profile(name)
    a, y = (
        (Format.power_of_two(8, -5), Format.power_of_two(8, -3))
        if name == "pow2-halfup"
        else (int8(0.03, 4), int8(0.1, 7))
    )
    program = layer("Identity", [Given(SHAPE, a)], Given(SHAPE, y), arithmetic=arithmetic)
    inputs = codes(program, 5)
    for x, r in zip(inputs["in0"].astype(int).ravel(), outcome(program, inputs).ravel(), strict=True):
        ratio = float(a.scale) / float(y.scale)
        assert r == saturated(requantized(int(x) - int(a.zero_point), ratio, arithmetic) + int(y.zero_point))


def test_a_zero_point_alone_is_moved_exactly() -> None:
    program = layer("Relu", [Given(SHAPE, int8(0.1, 4))], Given(SHAPE, int8(0.1, -128)), clamp=(0.0, np.inf))
    inputs = codes(program, 6)
    want = np.maximum(inputs["in0"].astype(int) - 4, 0) - 128
    assert np.array_equal(outcome(program, inputs), np.clip(want, -128, 127))


def test_slopes() -> None:
    fmt = Format.power_of_two(16, -8)
    program = layer("PRelu", [Given((1, 3, 2), fmt), np.array([[0.25], [-1.0], [0.0]])], Given((1, 3, 2), fmt))
    x = np.array([[[100, -100], [-7, 7], [-32768, 32767]]], np.int16)
    assert outcome(program, {"in0": x}).tolist() == [[[100, -25], [7, 7], [0, 32767]]]
    with pytest.raises(NoIntegerForm, match="sample to sample"):
        layer("PRelu", [Given((1, 2), fmt), np.ones((3, 2))], Given((3, 2), fmt))


@pytest.mark.parametrize(("op", "pick"), [("Min", min), ("Max", max)])
def test_extremes(op: str, pick: object) -> None:
    a, y = Format.power_of_two(8, -2), Format.power_of_two(8, -1)
    program = layer(op, [Given(SHAPE, a), Given(SHAPE, y), np.asarray(3.0)], Given(SHAPE, y))
    inputs = codes(program, 8)
    for p, q, r in zip(
        *(v.astype(int).ravel() for v in inputs.values()), outcome(program, inputs).ravel(), strict=True
    ):
        assert r == pick(rounded(Fraction(int(p), 2), Rounding.HALF_UP), int(q), 6)  # type: ignore[operator]


@pytest.mark.parametrize(("op", "limit"), [("Min", np.inf), ("Max", -np.inf), ("Min", 3.4e38)])
def test_limits_that_never_bind(op: str, limit: float) -> None:
    fmt = Format.power_of_two(8, -2)
    program = layer(op, [Given(SHAPE, fmt), np.asarray(limit)], Given(SHAPE, fmt))
    inputs = codes(program, 8)
    assert np.array_equal(outcome(program, inputs), inputs["in0"])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Sum", "Min", "Max"])
def test_constants_alone_are_no_layer(op: str) -> None:
    with pytest.raises(NoIntegerForm, match="none of its operands"):
        layer(op, [np.ones(2), np.ones(2)], Given((1, 2), int8(1.0)))


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_constants_that_differ_from_sample_to_sample(op: str) -> None:
    with pytest.raises(NoIntegerForm, match="sample to sample"):
        layer(op, [Given((1, 2), int8(1.0)), np.ones((3, 2))], Given((3, 2), int8(1.0)))


def test_operands_of_fewer_axes_are_aligned_behind_the_batch() -> None:
    fmt = Format.power_of_two(8, 0)
    program = layer("Add", [Given((1, 3, 2), fmt), Given((1, 2), fmt)], Given((1, 3, 2), fmt))
    x, y = np.ones((4, 3, 2), np.int8), np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.int8)
    got = outcome(program, dict(zip(program.inputs, (x, y), strict=True)))
    assert np.array_equal(got, x.astype(int) + y[:, None, :])
