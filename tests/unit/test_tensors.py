"""What a format costs each tensor."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import Format
from bitwright.tensors import decibel, estimate, measure


@pytest.mark.parametrize("exponent", [-9, -6, -4, -1])
def test_the_estimate_agrees_with_the_values(exponent: int) -> None:
    x = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    x[:20_000] = 0
    format = Format.power_of_two(8, exponent)
    real = format.dequantize(format.quantize(x))
    found = estimate(TensorStats.of(x), format)
    true_db = 10 * math.log10(float((x.astype(np.float64) ** 2).sum() / ((x - real) ** 2).sum()))
    assert found["sqnr_db"] == pytest.approx(true_db, abs=0.3)
    assert (found["min"], found["max"]) == (float(x.min()), float(x.max()))
    half = 2.0 ** (exponent - 1)
    assert found["underflow"] == pytest.approx(float(((np.abs(x) < half) & (x != 0)).mean()), abs=0.005)
    assert found["overflow"] == pytest.approx(
        float(((x > 127.5 * 2 * half) | (x < -128.5 * 2 * half)).mean()), abs=0.005
    )


def test_zero_points_count() -> None:
    x = np.linspace(0, 4, 10_001, dtype=np.float32)
    shifted = Format(8, True, np.asarray(4 / 255), np.asarray(-128))
    plain = Format(8, True, np.asarray(4 / 127))
    found, other = (estimate(TensorStats.of(x), f) for f in (shifted, plain))
    assert found["overflow"] == 0
    assert found["sqnr_db"] == pytest.approx(other["sqnr_db"] + 6, abs=0.3)


def test_nothing_is_known_of_nothing() -> None:
    assert estimate(TensorStats(), Format.power_of_two(8, 0)) == {}
    assert decibel(0.0, 1.0) is None
    assert decibel(1.0, 0.0) == math.inf
    assert decibel(100.0, 1.0) == pytest.approx(20)


def test_constants_are_measured_exactly() -> None:
    values = np.array([[0.5, 3.0], [0.01, -20.0]])
    format = Format.power_of_two(8, np.array([-6, -4]), axis=0)
    found = measure(values, format.dequantize(format.quantize(values)), format)
    assert found["overflow"] == 0.5  # 3 and -20 do not fit ±2 and ±8
    assert found["underflow"] == 0.25
    assert found["msb_counts"] == {"-7": 1, "-1": 1, "1": 1, "4": 1}
