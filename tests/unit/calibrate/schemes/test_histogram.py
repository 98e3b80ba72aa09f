from __future__ import annotations

import numpy as np
import pytest

from bitwright.calibrate.schemes.histogram import Histogram, best_top_bit, errors_by_top_bit, sums_per_power
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import FormatRule

POWER = FormatRule(scaling="power-of-two")


def slow_error(x: np.ndarray, top: int) -> float:
    """The documented formula, a value at a time, for 8 bits."""
    lsb, total = 2.0 ** (top - 6), 0.0
    for v in np.abs(x[x != 0]).astype(float):
        b = int(np.floor(np.log2(v)))
        if b > top:
            total += (v - 127 * lsb) ** 2
        elif b >= top - 6:
            total += lsb**2 / 12
        elif b == top - 7:
            total += (lsb - v) ** 2
        else:
            total += v * v
    return total


@pytest.mark.parametrize("seed", range(3))
def test_errors_follow_the_formula(seed: int) -> None:
    x = np.random.default_rng(seed).standard_t(2, size=500).astype(np.float32)
    low, sums = sums_per_power(TensorStats.of(x), x)
    errors = errors_by_top_bit(low, sums, 7)
    want = [slow_error(x, low + i) for i in range(len(errors))]
    np.testing.assert_allclose(errors, want, rtol=1e-9)
    assert best_top_bit(low, sums, 7) == low + int(np.argmin(want))


def test_the_histogram_gives_nearly_the_sums_of_the_values() -> None:
    x = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    low, exact = sums_per_power(TensorStats.of(x), x)
    also, close = sums_per_power(TensorStats.of(x), None)
    assert low == also
    np.testing.assert_array_equal(close.n, exact.n)
    np.testing.assert_allclose(close.first, exact.first, rtol=0.02)
    np.testing.assert_allclose(close.second, exact.second, rtol=0.04)


def test_ties_take_the_larger_top_bit() -> None:
    # One value just below the window of the higher candidate costs (LSB - |x|)^2 = 0 at |x| = LSB there, nothing less.
    low, sums = sums_per_power(TensorStats.of([1.0]), np.float32([1.0]))
    assert best_top_bit(low, sums, 7) == 0
    two = sums_per_power(TensorStats.of([0.0, 1.0]), None)
    assert best_top_bit(*two, 7) == 0


def test_rare_outliers_are_clipped_and_the_strict_variant_allows_a_share() -> None:
    x = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    x[:3] = 20
    stats = TensorStats.of(x)
    top = Histogram().choose(stats, POWER).exponent
    assert top is not None
    assert int(top) == 2 - 6
    for overflow, want in ((0.0, 4), (1e-5, 2), (0.1, 0), (0.5, -1)):
        got = Histogram(overflow=overflow).choose(stats, POWER).exponent
        assert got is not None
        share = np.mean(np.floor(np.log2(np.abs(x[x != 0]))) > int(got) + 6)
        assert share <= overflow
        assert int(got) == want - 6
    with pytest.raises(ValueError, match="overflow"):
        Histogram(overflow=1.5)


def test_multiplier_steps_clip_about_as_the_squared_error_would() -> None:
    from bitwright.calibrate.schemes.mse import Mse

    x = np.random.default_rng(1).laplace(size=200_000).astype(np.float32)
    stats, rule = TensorStats.of(x), FormatRule()
    assert float(Histogram().choose(stats, rule).scale) == pytest.approx(
        float(Mse().choose(stats, rule).scale), rel=0.15
    )
    strict = float(Histogram(overflow=0.01).choose(stats, rule).scale) * 127
    assert np.mean(np.abs(x) > strict) <= 0.01
    assert np.mean(np.abs(x) > strict * 0.95) > 0.01
