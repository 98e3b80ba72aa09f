from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.number.format import Format, Rounding
from bitwright.ops.operator import NoIntegerForm
from bitwright.program.program import Program
from one_layer import Given, codes, int8, layer, outcome
from oracle import profile, requantized, rounded, saturated

Q = Format.power_of_two(8, -4)


def windows(
    x: np.ndarray, taps: Sequence[int], strides: Sequence[int], pads: Sequence[int], shape: Sequence[int]
) -> dict[tuple[int, ...], list[int]]:
    """Output position → the values that its window sees."""
    found = {}
    for c, p, q in np.ndindex(len(x), *shape):
        seen = []
        for k, m in np.ndindex(*taps):
            row, column = p * strides[0] + k - pads[0], q * strides[1] + m - pads[1]
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                seen.append(int(x[c, row, column]))
        found[c, p, q] = seen
    return found


def pooled(op: str, rng: random.Random, source: Format, result: Format, **options: object) -> tuple[Program, dict]:
    """A random pooling layer, and its windows' values less the zero point, with what came out."""
    taps, strides = [rng.randint(1, 3), rng.randint(1, 3)], [rng.randint(1, 2), rng.randint(1, 3)]
    pads = [rng.randint(0, taps[0] - 1), rng.randint(0, taps[1] - 1), 0, 0] if options.pop("padded", True) else [0] * 4
    size = [rng.randint(4, 6), rng.randint(4, 5)]
    shape = [(size[i] + pads[i] + pads[i + 2] - taps[i]) // strides[i] + 1 for i in (0, 1)]
    program = layer(
        op, [Given((1, 2, *size), source)], Given((1, 2, *shape), result),
        attributes={"kernel_shape": taps, "strides": strides, "pads": pads}, **options,  # type: ignore[arg-type]
    )  # fmt: skip
    inputs = codes(program, rng.randrange(1 << 32), samples=1)
    x = inputs[program.inputs[0]].astype(int)[0]
    got = outcome(program, inputs)[0]
    zero = int(source.zero_point)
    seen = windows(x - zero, taps, strides, pads, shape)
    return program, {place: (values, int(got[place])) for place, values in seen.items()}


@settings(max_examples=15)
@given(rng=st.randoms(use_true_random=False))
def test_maximum(rng: random.Random) -> None:
    source = int8(0.1, -20)
    _, seen = pooled("MaxPool", rng, source, source)
    for values, got in seen.values():
        assert got == max(values) - 20


@pytest.mark.parametrize("rounding", [Rounding.HALF_UP, Rounding.HALF_EVEN, Rounding.HALF_AWAY, None])
@settings(max_examples=8)
@given(rng=st.randoms(use_true_random=False))
def test_exact_average_of_a_shifting_machine(rounding: Rounding | None, rng: random.Random) -> None:
    result = Format.power_of_two(8, rng.choice([-6, -4, -3]))
    _, seen = pooled("AveragePool", rng, Q, result, method="exact", rounding=rounding)
    for values, got in seen.values():
        real = Fraction(sum(values), len(values)) * Fraction(float(Q.scale)) / Fraction(float(result.scale))
        assert got == saturated(rounded(real, rounding or Rounding.HALF_UP))


@pytest.mark.parametrize("name", ["tflite-single", "tflite-double", "ort-cpu"])
@settings(max_examples=8)
@given(rng=st.randoms(use_true_random=False))
def test_exact_average_of_whole_windows_by_a_multiplier(name: str, rng: random.Random) -> None:
    arithmetic = profile(name)
    source, result = int8(0.031, 5), int8(0.027, -3)
    _, seen = pooled("AveragePool", rng, source, result, arithmetic=arithmetic, padded=False)
    for values, got in seen.values():
        ratio = float(source.scale) / float(result.scale) / len(values)
        assert got == saturated(requantized(sum(values), ratio, arithmetic) - 3)


@settings(max_examples=8)
@given(rng=st.randoms(use_true_random=False))
def test_exact_average_of_ragged_windows_by_a_multiplier(rng: random.Random) -> None:
    source, result = int8(0.031, 5), int8(0.027, -3)
    _, seen = pooled("AveragePool", rng, source, result, arithmetic=profile("tflite-single"))
    for values, got in seen.values():
        real = Fraction(sum(values), len(values)) * Fraction(0.031) / Fraction(0.027) - 3
        assert abs(got - max(min(real, 127), -128)) <= Fraction(1, 2) + Fraction(1, 1000)


@settings(max_examples=10)
@given(rng=st.randoms(use_true_random=False))
def test_averages_that_cut_off(rng: random.Random) -> None:
    _, seen = pooled("AveragePool", rng, Q, Q, method="truncate", arithmetic=profile("pow2-halfup"))
    for values, got in seen.values():
        assert got == saturated(rounded(Fraction(sum(values), len(values)), Rounding.TOWARD_ZERO))


def c_average_s8(values: Sequence[int]) -> int:
    """CMSIS-NN ``avgpool_s8``: ``(sum + (sum > 0 ? count/2 : -count/2)) / count`` in C."""
    total, count = sum(values), len(values)
    moved = total + count // 2 if total > 0 else total - count // 2
    return abs(moved) // count * (1 if moved >= 0 else -1)


@pytest.mark.parametrize("zero", [0, 11, -128])
@settings(max_examples=10)
@given(rng=st.randoms(use_true_random=False))
def test_average_away_is_that_of_cmsis_nn(zero: int, rng: random.Random) -> None:
    # It averages the stored integers, whatever the zero point is.
    source = int8(0.07, zero)
    _, seen = pooled("AveragePool", rng, source, source, method="away", arithmetic=profile("tflite-double"))
    for values, got in seen.values():
        assert got == c_average_s8([value + zero for value in values])


@pytest.mark.parametrize(
    ("kernel", "of_the_mean"),
    [
        ((3, 3), Fraction(9 * 7, 64)),
        ((5, 5), Fraction(25 * 10, 256)),
        ((6, 6), Fraction(36 * 7, 256)),
        ((3, 6), Fraction(36 * 7, 256)),
        ((7, 7), Fraction(49 * 21, 1024)),
        ((14, 14), Fraction(196 * 21, 4096)),
        ((2, 2), Fraction(1)),
        ((1, 1), Fraction(1)),
        ((8, 8), Fraction(1)),
    ],
)
@pytest.mark.parametrize("drop", [0, 2, -1])
def test_average_of_the_dpu(kernel: tuple[int, int], of_the_mean: Fraction, drop: int) -> None:
    result = Format.power_of_two(8, -4 + drop)
    program = layer("GlobalAveragePool", [Given((1, 3, *kernel), Q)], Given((1, 3, 1, 1), result), method="dpu")
    inputs = codes(program, 4, samples=30)
    got = outcome(program, inputs)
    x = inputs[program.inputs[0]].astype(int)
    for n, c in np.ndindex(30, 3):
        mean = Fraction(int(x[n, c].sum()), kernel[0] * kernel[1])
        assert got[n, c, 0, 0] == saturated(rounded(mean * of_the_mean / Fraction(2) ** drop, Rounding.HALF_UP))


def test_the_dpu_averages_whole_windows_only() -> None:
    with pytest.raises(NoIntegerForm, match="whole windows"):
        layer(
            "AveragePool", [Given((1, 1, 4, 4), Q)], Given((1, 1, 4, 4), Q), method="dpu",
            attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
        )  # fmt: skip


@pytest.mark.parametrize("method", ["truncate", "away"])
def test_methods_in_the_input_format_refuse_another(method: str) -> None:
    with pytest.raises(NoIntegerForm, match="cannot change the scale"):
        layer(
            "GlobalAveragePool",
            [Given((1, 1, 4, 4), Q)],
            Given((1, 1, 1, 1), Format.power_of_two(8, -5)),
            method=method,
        )


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(NoIntegerForm, match="'median' is unknown"):
        layer("GlobalAveragePool", [Given((1, 1, 4, 4), Q)], Given((1, 1, 1, 1), Q), method="median")


def test_padding_counts_where_it_is_said_and_the_overhang_never() -> None:
    # Length 7, taps 4, stride 2, one zero on either side; ceil_mode makes a last window that hangs over by one.
    program = layer(
        "AveragePool", [Given((1, 1, 7), Format.power_of_two(16, 0))], Given((1, 1, 4), Format.power_of_two(16, 0)),
        attributes={"kernel_shape": [4], "strides": [2], "pads": [1, 1], "count_include_pad": 1, "ceil_mode": 1},
    )  # fmt: skip
    got = outcome(program, {program.inputs[0]: np.full((1, 1, 7), 1200, np.int16)})
    assert got.ravel().tolist() == [900, 1200, 1200, 800]  # 3 of 4, whole, whole, 2 of 3


def test_a_window_wholly_in_the_padding_has_no_maximum() -> None:
    for op in ("MaxPool", "AveragePool"):
        with pytest.raises(NoIntegerForm, match="wholly in the padding"):
            layer(
                op, [Given((1, 1, 3), Q)], Given((1, 1, 4), Q),
                attributes={"kernel_shape": [1], "strides": [1], "pads": [0, 1]},
            )  # fmt: skip


def test_maximum_brings_its_input_to_another_format() -> None:
    program = layer(
        "MaxPool", [Given((1, 1, 2), Format.power_of_two(8, 0))], Given((1, 1, 1), Format.power_of_two(8, 1)),
        attributes={"kernel_shape": [2]},
    )  # fmt: skip
    assert outcome(program, {program.inputs[0]: np.array([[[5, 3]]], np.int8)}).item() == 3  # 2.5 up


@pytest.mark.parametrize("keep", [True, False])
def test_reductions(keep: bool) -> None:
    shape = (1, 2, 1, 1) if keep else (1, 2)
    axes = {"axes": [-2, -1], "keepdims": int(keep)}
    wide = Format.power_of_two(16, -4)
    x = codes(layer("ReduceSum", [Given((1, 2, 3, 4), Q)], Given(shape, wide), attributes=axes), 1)["in0"]
    for op, want in (
        ("ReduceSum", x.sum((2, 3), dtype=int)),
        ("ReduceMax", x.max((2, 3)).astype(int)),
        ("ReduceMean", np.floor(x.mean((2, 3)) + 0.5).astype(int)),
    ):
        program = layer(op, [Given((1, 2, 3, 4), Q)], Given(shape, wide), attributes=axes)
        assert np.array_equal(outcome(program, {"in0": x}).reshape(want.shape), want), op


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "ReduceMean"])
def test_the_batch_is_not_reduced(op: str) -> None:
    with pytest.raises(NoIntegerForm, match="batch"):
        layer(op, [Given((1, 2, 3), Q)], Given((1, 2, 3), Q), attributes={"axes": [0]})
    with pytest.raises(NoIntegerForm, match="batch"):
        layer(op, [Given((1, 2, 3), Q)], Given((1,), Q))


def test_the_first_of_equal_maxima_wins() -> None:
    index = Format(32, True, np.asarray(1.0))
    program = layer("ArgMax", [Given((1, 4), Q)], Given((1, 1), index), attributes={"axis": -1})
    got = outcome(program, {"in0": np.array([[1, 7, 7, 0], [-5, -5, -5, -5], [-128, -128, -127, -128]], np.int8)})
    assert got.ravel().tolist() == [1, 0, 2]
    with pytest.raises(NoIntegerForm, match="last of equal"):
        layer("ArgMax", [Given((1, 4), Q)], Given((1, 1), index), attributes={"axis": 1, "select_last_index": 1})
    with pytest.raises(NoIntegerForm, match="samples"):
        layer("ArgMax", [Given((1, 4), Q)], Given((1, 4), index), attributes={"axis": 0})


def test_positions_of_maxima_are_not_given() -> None:
    with pytest.raises(NoIntegerForm, match="positions"):
        layer(
            "MaxPool", [Given((1, 1, 2), Q)], Given((1, 1, 1), Q), Given((1, 1, 1), Q), attributes={"kernel_shape": [2]}
        )
