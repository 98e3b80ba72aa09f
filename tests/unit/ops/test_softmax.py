from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitwright.number.format import Format
from bitwright.ops.operator import NoIntegerForm
from one_layer import Given, codes, int8, layer, outcome
from oracle import profile

PROBABILITY = Format(8, True, np.asarray(1 / 256), np.asarray(-128))


def usat(x: int, bits: int) -> int:
    return min(max(x, 0), (1 << bits) - 1)


def arm_softmax_q7(values: list[int]) -> list[int]:
    """From the formulas of CMSIS 5.9.0: powers of two, base at the maximum less 8."""
    base = max(values) - 8
    total = sum(1 << usat(x - base, 3) for x in values)
    output_base = (1 << 20) // total
    return [min(output_base >> usat(13 + base - x, 5), 127) for x in values]


@settings(max_examples=40)
@given(values=st.lists(st.integers(-128, 127), min_size=1, max_size=20))
def test_softmax_q7_is_the_kernel(values: list[int]) -> None:
    shape = (1, len(values))
    q7 = Format.power_of_two(8, -7)
    program = layer("Softmax", [Given(shape, Format.power_of_two(8, -4))], Given(shape, q7), method="q7")
    assert outcome(program, {"in0": np.array([values], np.int8)}).ravel().tolist() == arm_softmax_q7(values)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize("scale", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("count", [1, 2, 10, 1000])
@pytest.mark.parametrize(
    "result", [PROBABILITY, Format.power_of_two(8, -7), Format(16, False, np.asarray(1 / 65536)), int8(0.0039)]
)
def test_integer_softmax(scale: float, count: int, result: Format) -> None:
    source = int8(scale, 13)
    program = layer("Softmax", [Given((1, count), source)], Given((1, count), result), attributes={"axis": 1})
    inputs = codes(program, 1, samples=4)
    got = outcome(program, inputs)
    want = softmax(source.dequantize(inputs["in0"]), 1)
    expected = np.clip(want / float(result.scale) + int(result.zero_point), result.lo, result.hi)
    # Exponentials are held to half of 2^-16 each: the sum is off by at most count of those.
    slack = 0.51 + (count + 1) * 2.0**-17 * want / float(result.scale) + 2.0**-17 / float(result.scale)
    assert (np.abs(got - expected) <= slack).all()


def test_equal_inputs_share_alike_and_order_is_kept() -> None:
    program = layer("Softmax", [Given((1, 4), int8(0.1))], Given((1, 4), PROBABILITY), attributes={"axis": -1})
    assert outcome(program, {"in0": np.array([[7, 7, 7, 7]], np.int8)}).tolist() == [[-64, -64, -64, -64]]
    got = outcome(program, {"in0": np.array([[-128, -10, 0, 20]], np.int8)})[0]
    assert (np.diff(got) >= 0).all()


def test_a_single_element_is_certain() -> None:
    program = layer("Softmax", [Given((1, 1), int8(0.1))], Given((1, 1), Format.power_of_two(16, -8)))
    assert outcome(program, {"in0": np.array([[-100]], np.int8)}).item() == 256


@pytest.mark.parametrize("name", ["pow2-halfup", "tflite-single", "tflite-double", "ort-cpu"])
@pytest.mark.parametrize("count", [1, 3, 50, 1000])
@pytest.mark.parametrize("scale", [2.0**-10, 2.0**-4, 2.0**-1])
def test_log_softmax(scale: float, count: int, name: str) -> None:
    source = Format(8, True, np.asarray(scale))
    result = Format(16, True, np.asarray(2.0**-9))
    program = layer(
        "LogSoftmax", [Given((1, count), source)], Given((1, count), result),
        attributes={"axis": 1}, arithmetic=profile(name),
    )  # fmt: skip
    inputs = codes(program, 1, samples=4)
    got = result.dequantize(outcome(program, inputs))
    want = np.log(softmax(source.dequantize(inputs["in0"]), 1))
    # The sum is known to half a step of its 14 leading bits when all count, to less when one dominates.
    total = np.exp(source.dequantize(inputs["in0"]) - source.dequantize(inputs["in0"].max(1, keepdims=True))).sum(1)
    index = (0.5 * max(1, count) * 2.0**-13 + (count + 1) * 2.0**-17) / total.min()
    limit = index + scale / 32 + 2.0**-9
    assert np.abs(got - np.maximum(want, result.real_range[0])).max() <= limit


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_uses_without_an_integer_form(op: str) -> None:
    wide, narrow = Format.power_of_two(16, 0), Format.power_of_two(8, 0)
    with pytest.raises(NoIntegerForm, match="8 bits"):
        layer(op, [Given((1, 4), wide)], Given((1, 4), narrow), attributes={"axis": 1})
    with pytest.raises(NoIntegerForm, match="batch"):
        layer(op, [Given((1, 4), narrow)], Given((1, 4), narrow), attributes={"axis": 0})
    with pytest.raises(NoIntegerForm, match="too few bits"):
        layer(op, [Given((1, 1 << 23), narrow)], Given((1, 1 << 23), narrow), attributes={"axis": 1})


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("alpha", "bias"), [(1e-4, 1.0), (0.02, 2.0), (1.0, 1.0)])
def test_local_response_normalization(size: int, alpha: float, bias: float) -> None:
    source, result = int8(0.06, 5), Format(16, True, np.asarray(0.001))
    program = layer(
        "LRN", [Given((1, 7, 2, 1), source)], Given((1, 7, 2, 1), result), arithmetic=profile("tflite-single"),
        attributes={"size": size, "alpha": alpha, "beta": 0.75, "bias": bias},
    )  # fmt: skip
    inputs = codes(program, 3, samples=3)
    x = source.dequantize(inputs["in0"])
    energy = np.zeros_like(x)
    for c in range(7):
        low, high = max(0, c - (size - 1) // 2), min(7, c + (size - 1 - (size - 1) // 2) + 1)
        energy[:, c] = (x[:, low:high] ** 2).sum(1)
    want = x * (bias + alpha / size * energy) ** -0.75
    got = result.dequantize(outcome(program, inputs))
    step = float(source.scale) ** 2 * max(1, 133**2 * size >> 12)  # of the energy, 12 bits at most
    limit = np.abs(want) * (0.75 * alpha / size * step / bias + 2.0**-14) + 0.0006
    assert (np.abs(got - want) <= limit).all()


def test_normalization_of_wide_integers_has_no_integer_form() -> None:
    wide = Format.power_of_two(16, 0)
    with pytest.raises(NoIntegerForm, match="8 bits"):
        layer("LRN", [Given((1, 3, 1, 1), wide)], Given((1, 3, 1, 1), wide), attributes={"size": 3})
