from __future__ import annotations

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitwright.number.arithmetic import SEMANTICS, Arithmetic
from bitwright.number.format import Format, Rounding
from bitwright.ops.linear import accumulator_bounds, conv_axes, partial_bounds, transposed_weights
from bitwright.ops.operator import NoIntegerForm
from bitwright.program.forms import Axis
from bitwright.program.program import Buffer, Program
from one_layer import Given, codes, int8, layer, outcome
from oracle import profile, requantized, rounded, saturated

Ints = NDArray[np.int64]


def formats(rng: random.Random, arithmetic: Arithmetic, outputs: int) -> tuple[Format, Format, Format]:
    """Formats of input, weights and output, such that the output neither vanishes nor saturates everywhere."""
    if arithmetic.requantize == "shift":
        source = Format.power_of_two(8, -5)
        weight = Format.power_of_two(8, [-7 - rng.randint(0, 2) for _ in range(outputs)], axis=0)
        return source, weight, Format.power_of_two(8, -5 + rng.randint(0, 3))
    scales = np.array([rng.uniform(0.003, 0.02) for _ in range(outputs)])
    weight = Format(8, True, scales, axis=0) if rng.random() < 0.7 else Format(8, True, scales[0])
    return (
        int8(rng.uniform(0.01, 0.05), rng.randint(-128, 127)),
        weight,
        int8(rng.uniform(0.02, 0.1), rng.randint(-9, 9)),
    )


def oracle_epilogue(acc: int, channel: int, program: Program, weight: Format, arithmetic: Arithmetic) -> int:
    source, result = (program.buffers[n].format for n in (program.inputs[0], program.outputs[0]))
    scale = weight.scale if weight.scale.ndim == 0 else weight.scale[channel]
    ratio = float(source.scale) * float(scale) / float(result.scale)
    return saturated(requantized(acc, ratio, arithmetic) + int(result.zero_point))


def bias_codes(bias: NDArray[np.float64], source: Format, weight: Format) -> list[int]:
    steps = np.broadcast_to(source.scale * weight.scale, bias.shape)
    return [rounded(Fraction(float(b) / float(s)), Rounding.HALF_AWAY) for b, s in zip(bias, steps, strict=True)]


@pytest.mark.parametrize("name", SEMANTICS)
@settings(max_examples=10)
@given(rng=st.randoms(use_true_random=False))
def test_convolution_is_the_sum_it_says(name: str, rng: random.Random) -> None:
    arithmetic = profile(name)
    groups, per_group, per_out = rng.choice([1, 2]), rng.randint(1, 2), rng.randint(1, 2)
    outputs = groups * per_out
    taps = [rng.randint(1, 3), rng.randint(1, 2)]
    strides, dilations = [rng.randint(1, 2), rng.randint(1, 2)], [rng.randint(1, 2), 1]
    pads = [rng.randint(0, 2) for _ in range(4)]
    size = [rng.randint(5, 6), rng.randint(3, 4)]
    source, weight, result = formats(rng, arithmetic, outputs)
    values = np.random.default_rng(rng.randrange(1 << 32))
    w = values.integers(-127, 128, (outputs, per_group, *taps))
    real_w = w * (weight.scale.reshape(-1, 1, 1, 1) if weight.scale.ndim else weight.scale)
    bias = values.uniform(-1, 1, outputs)
    shape = [(size[i] + pads[i] + pads[i + 2] - (taps[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in (0, 1)]
    program = layer(
        "Conv", [Given((1, groups * per_group, *size), source), real_w, bias], Given((1, outputs, *shape), result),
        arithmetic=arithmetic, weight=weight,
        attributes={"strides": strides, "dilations": dilations, "pads": pads, "group": groups},
    )  # fmt: skip
    inputs = codes(program, rng.randrange(1 << 32), samples=1)
    x, got = inputs[program.inputs[0]].astype(int)[0], outcome(program, inputs)[0]
    b = bias_codes(bias, source, weight)
    zero = int(source.zero_point)
    for o, p, q in np.ndindex(outputs, *shape):
        acc = b[o]
        for i, k, m in np.ndindex(per_group, *taps):
            row, column = p * strides[0] + k * dilations[0] - pads[0], q * strides[1] + m * dilations[1] - pads[1]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                acc += int(x[o // per_out * per_group + i, row, column] - zero) * int(w[o, i, k, m])
        assert got[o, p, q] == oracle_epilogue(acc, o, program, weight, arithmetic)


@pytest.mark.parametrize("name", ["pow2-halfup", "tflite-double", "ort-cpu"])
@settings(max_examples=10)
@given(rng=st.randoms(use_true_random=False))
def test_transposed_convolution_scatters(name: str, rng: random.Random) -> None:
    arithmetic = profile(name)
    groups, per_group, per_out = rng.choice([1, 2]), rng.randint(1, 2), rng.randint(1, 2)
    taps, stride, dilation = rng.randint(1, 4), rng.randint(1, 3), rng.randint(1, 2)
    extra = rng.randint(0, stride - 1)
    before, after = rng.randint(0, 1), rng.randint(0, 1)
    n = rng.randint(2, 4)
    length = (n - 1) * stride + (taps - 1) * dilation + 1 - before - after + extra
    if length < 1:
        before = after = 0
        length = (n - 1) * stride + (taps - 1) * dilation + 1 + extra
    outputs = groups * per_out
    source, weight, result = formats(rng, arithmetic, outputs)
    values = np.random.default_rng(rng.randrange(1 << 32))
    w = values.integers(-127, 128, (groups * per_group, per_out, taps))
    scales = np.broadcast_to(weight.scale, outputs)
    real_w = np.stack([w[i] * scales.reshape(groups, per_out)[i // per_group][:, None] for i in range(len(w))])
    bias = values.uniform(-1, 1, outputs)
    program = layer(
        "ConvTranspose", [Given((1, len(w), n), source), real_w, bias], Given((1, outputs, length), result),
        arithmetic=arithmetic, weight=weight,
        attributes={
            "strides": [stride], "dilations": [dilation], "pads": [before, after], "output_padding": [extra],
            "group": groups,
        },
    )  # fmt: skip
    inputs = codes(program, rng.randrange(1 << 32), samples=1)
    x, got = inputs[program.inputs[0]].astype(int)[0], outcome(program, inputs)[0]
    acc = np.repeat(np.array(bias_codes(bias, source, weight))[:, None], length, axis=1)
    for i, p, o, k in np.ndindex(len(w), n, per_out, taps):
        where = p * stride + k * dilation - before
        if 0 <= where < length:
            acc[i // per_group * per_out + o, where] += int(x[i, p] - int(source.zero_point)) * int(w[i, o, k])
    for o, p in np.ndindex(outputs, length):
        assert got[o, p] == oracle_epilogue(int(acc[o, p]), o, program, weight, arithmetic)


@pytest.mark.parametrize("name", SEMANTICS)
def test_dense(name: str) -> None:
    arithmetic, rng = profile(name), random.Random(5)
    source, weight, result = formats(rng, arithmetic, 3)
    w = np.random.default_rng(1).integers(-127, 128, (3, 7))
    real_w = w * (weight.scale.reshape(-1, 1) if weight.scale.ndim else weight.scale)
    bias = np.array([0.5, -0.25, 1.0])
    program = layer(
        "Gemm", [Given((1, 7), source), real_w / 2, bias], Given((1, 3), result),
        arithmetic=arithmetic, weight=weight, attributes={"transB": 1, "alpha": 2.0, "beta": 0.5},
    )  # fmt: skip
    inputs = codes(program, 3, samples=20)
    x, got = inputs[program.inputs[0]].astype(int), outcome(program, inputs)
    b = bias_codes(bias / 2, source, weight)
    for n, o in np.ndindex(20, 3):
        acc = b[o] + sum(int(v - source.zero_point) * int(k) for v, k in zip(x[n], w[o], strict=True))
        assert got[n, o] == oracle_epilogue(acc, o, program, weight, arithmetic)


def test_a_fused_activation_bounds_the_codes() -> None:
    program = layer(
        "Gemm", [Given((1, 1), int8(1.0)), np.array([[1.0]])], Given((1, 1), int8(0.5, 3)),
        arithmetic=profile("tflite-single"), weight=Format(8, True, np.asarray(1.0)), clamp=(0.0, 6.0),
    )  # fmt: skip
    got = outcome(program, {program.inputs[0]: np.array([[-100], [-1], [0], [1], [2], [50]], np.int8)})
    assert got.ravel().tolist() == [3, 3, 3, 5, 7, 15]
    assert (program.buffers[program.outputs[0]].lo, program.buffers[program.outputs[0]].hi) == (3, 15)


def test_a_bias_of_its_own_format_is_shifted_to_the_accumulator() -> None:
    # Accumulator steps of 2^-6; a bias of 2^-8 is finer, and is rounded half up.
    w, x = Format.power_of_two(8, -3), Format.power_of_two(8, -3)
    for bias, want in ((2.0**-7, 1), (-(2.0**-7), 0), (3 * 2.0**-7, 2), (2.0**-8, 0), (-(3 * 2.0**-8), -1)):
        program = layer(
            "Gemm", [Given((1, 1), x), np.array([[0.125]]), np.array([bias])], Given((1, 1), Format.power_of_two(8, -6)),
            weight=w, bias=Format.power_of_two(8, -8),
        )  # fmt: skip
        assert outcome(program, {program.inputs[0]: np.zeros((1, 1), np.int8)}).item() == want
    coarse = layer(
        "Gemm", [Given((1, 1), x), np.array([[0.125]]), np.array([0.5])], Given((1, 1), Format.power_of_two(8, -6)),
        weight=w, bias=Format.power_of_two(8, -1),
    )  # fmt: skip
    assert outcome(coarse, {coarse.inputs[0]: np.zeros((1, 1), np.int8)}).item() == 32
    assert {item.parameter: str(item.format) for item in coarse.learnables} == {
        "Weights": "int8·2^-3",
        "Bias": "int8·2^-1",
    }


def test_partial_sums_stay_within_what_the_form_states() -> None:
    # All inputs positive and weights of both signs: the total is small, what is in between is not.
    fmt = Format(8, False, np.asarray(1.0))
    source = Buffer(name="x", shape=(1, 4), format=fmt, lo=200, hi=255)
    weights, bias = np.array([[100, 100, -100, -100]]), np.array([-7])
    lo, hi = partial_bounds(weights, bias, source, 0)
    reached = [
        sum(terms[:n])
        for x in ((200, 255, 255, 200), (255, 255, 200, 200), (200, 200, 255, 255))
        for terms in itertools.permutations([*(int(w) * v for w, v in zip(weights[0], x, strict=True)), -7])
        for n in range(6)
    ]
    assert lo <= min(reached)
    assert max(reached) <= hi
    assert hi == 2 * 100 * 255
    assert lo == -7 - 2 * 100 * 255


def test_an_accumulator_that_is_too_narrow_is_reported() -> None:
    narrow = Arithmetic(requantize="shift", rounding=Rounding.HALF_UP, semantics="pow2-halfup", accumulator_bits=16)
    program = layer(
        "Gemm", [Given((1, 9), int8(1.0)), np.full((9, 1), 127.0)], Given((1, 1), int8(2.0**10)),
        arithmetic=narrow, weight=int8(1.0),
    )  # fmt: skip
    assert "needs 19 bits; the target has 16, 3 too few" in program.notes[0]


def test_given_integers_replace_the_rounded_weights() -> None:
    program = layer(
        "Gemm", [Given((1, 2), int8(1.0)), np.array([[0.4], [0.6]])], Given((1, 1), int8(1.0)),
        weight=int8(1.0), weight_values=np.array([[1, 0]]), bias_values=np.array([3.0]),
    )  # fmt: skip
    assert outcome(program, {program.inputs[0]: np.array([[10, 100]], np.int8)}).item() == 13


def test_matmul_along_the_last_axis() -> None:
    w = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]])
    program = layer(
        "MatMul", [Given((1, 2, 2, 3), int8(1.0)), w], Given((1, 2, 2, 2), Format(16, True, np.asarray(1.0))),
        weight=int8(1.0),
    )  # fmt: skip
    inputs = codes(program, 0, samples=3)
    want = inputs[program.inputs[0]].astype(int) @ w.astype(int)
    assert np.array_equal(outcome(program, inputs), want)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "why"),
    [
        ("Gemm", [Given((1, 2), int8(1.0)), np.ones((2, 2))], {"transA": 1}, "transposed"),
        ("Gemm", [Given((1, 2), int8(1.0)), np.ones((2, 2)), np.ones((3, 2))], {}, "sample to sample"),
        ("Gemm", [Given((1, 2), int8(1.0)), Given((2, 2), int8(1.0))], {}, "input 1 is not constant"),
        ("MatMul", [Given((1, 2, 2), int8(1.0)), np.ones((1, 2, 2))], {}, "3 axes"),
        ("Conv", [Given((1, 1, 2), int8(1.0)), np.ones((1, 1, 3))], {}, "larger than its input"),
        ("Conv", [np.ones((1, 1, 2)), np.ones((1, 1, 1))], {}, "input 0 is not computed"),
    ],
)
def test_uses_without_an_integer_form(op: str, inputs: list[object], attributes: dict[str, object], why: str) -> None:
    with pytest.raises(NoIntegerForm, match=why):
        layer(op, inputs, Given((1, 2), int8(1.0)), weight=int8(1.0), attributes=attributes)  # type: ignore[arg-type]


def test_weights_without_a_format() -> None:
    with pytest.raises(NoIntegerForm, match="no format was chosen"):
        layer("Gemm", [Given((1, 1), int8(1.0)), np.ones((1, 1))], Given((1, 1), int8(1.0)))


def test_axes_resolve_auto_pad() -> None:
    same = conv_axes({"auto_pad": "SAME_UPPER", "strides": [2]}, [4], [7])
    assert same == (Axis(taps=4, stride=2, before=1, after=2),)
    lower = conv_axes({"auto_pad": b"SAME_LOWER", "strides": [2]}, [4], [7])
    assert lower == (Axis(taps=4, stride=2, before=2, after=1),)
    assert conv_axes({"auto_pad": "VALID", "pads": [1, 1]}, [4], [7]) == (Axis(taps=4),)


def test_transposed_weights_flip_and_regroup() -> None:
    w = np.arange(2 * 3 * 2, dtype=float).reshape(2, 3, 2)
    one = transposed_weights(w, {"group": 1})
    assert one.shape == (3, 2, 2)
    assert one[1, 0].tolist() == w[0, 1, ::-1].tolist()
    two = transposed_weights(w, {"group": 2})
    assert two.shape == (6, 1, 2)
    assert two[4, 0].tolist() == w[1, 1, ::-1].tolist()


def test_missing_taps_count_as_zero_even_where_the_input_never_is() -> None:
    # After a clip to 1..6, say: without padding the sum cannot be 0, with it it can.
    source = Buffer(name="x", shape=(1, 1, 4), format=int8(1.0), lo=10, hi=20)
    weights, bias = np.array([[[1, 2]], [[-1, 3]]]), np.array([5, 0])
    lo, hi = accumulator_bounds(weights, bias, source, 0, may_miss=False)
    assert (lo.tolist(), hi.tolist()) == ([35, 10], [65, 50])
    lo, hi = accumulator_bounds(weights, bias, source, 0, may_miss=True)
    assert (lo.tolist(), hi.tolist()) == ([5, -20], [65, 60])
