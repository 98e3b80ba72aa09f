from __future__ import annotations

import numpy as np
import pytest

from bitwright.calibrate.schemes.mse import Mse
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import Format, FormatRule

POWER = FormatRule(scaling="power-of-two", exponent_rule="vitis")


def error(x: np.ndarray, format_: Format) -> float:
    return float(((x - format_.dequantize(format_.quantize(x))) ** 2).sum())


@pytest.mark.parametrize("seed", range(8))
def test_min_diffs_is_the_best_of_five_exponents(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_t(2, size=4000) * rng.uniform(0.1, 30)).astype(np.float32)
    s = max(x.min() / -128.5, x.max() / 127.5)
    start = int(np.floor(np.log2(1 / s)))
    want = min(range(start, start + 5), key=lambda position: error(x, Format.power_of_two(8, -position)))
    got = Mse().choose(TensorStats.of(x), POWER, values=x).exponent
    assert got is not None
    assert int(got) == -want


def test_ties_take_the_coarsest() -> None:
    x = np.float32([0, 1, 2, 3])  # exact at many exponents
    got = Mse().choose(TensorStats.of(x), POWER, values=x).exponent
    assert got is not None
    assert int(got) == -5  # 3 / 127.5 <= 2^-5


def test_the_search_goes_no_further_than_its_steps() -> None:
    x = np.random.default_rng(1).normal(size=10_000).astype(np.float32)
    x[0] = 40  # one value: clipping it by four bits would pay off
    coarsest = Mse(steps=0).choose(TensorStats.of(x), POWER, values=x).exponent
    one = Mse(steps=1).choose(TensorStats.of(x), POWER, values=x).exponent
    assert coarsest is not None
    assert one is not None
    assert 0 <= int(coarsest) - int(one) <= 1


def test_histogram_and_values_agree() -> None:
    for seed in range(5):
        x = np.random.default_rng(seed).standard_t(3, size=50_000).astype(np.float32)
        stats = TensorStats.of(x)
        assert Mse().choose(stats, POWER) == Mse().choose(stats, POWER, values=x)
        rule = FormatRule()
        by_bins, by_values = Mse().choose(stats, rule), Mse().choose(stats, rule, values=x)
        assert error(x, by_bins) <= error(x, by_values) * 1.01


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_no_threshold_on_a_dense_grid_is_clearly_better(symmetric: bool, bits: int) -> None:
    x = np.random.default_rng(2).laplace(0.5, 1, size=20_000).astype(np.float32)
    rule = FormatRule(bits=bits, symmetric=symmetric)
    got = error(x, Mse().choose(TensorStats.of(x), rule, values=x))
    from bitwright.calibrate.ranges import format_for_range

    lows = x.min() * np.linspace(0.1, 1, 40) if not symmetric else [0.0]
    best = min(
        error(x, format_for_range(low if not symmetric else -high, high, rule))
        for low in lows
        for high in np.abs(x).max() * np.linspace(0.05, 1, 60)
    )
    assert got <= best * 1.005


def test_steps_are_checked() -> None:
    with pytest.raises(ValueError, match="steps"):
        Mse(steps=-1)
