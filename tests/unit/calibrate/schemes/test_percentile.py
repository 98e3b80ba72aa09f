from __future__ import annotations

import numpy as np
import pytest

from bitwright.calibrate.schemes.percentile import Percentile
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import FormatRule


def test_values_give_the_exact_percentile() -> None:
    x = np.random.default_rng(0).normal(size=9999).astype(np.float32)
    got = Percentile(99).choose(TensorStats.of(x), FormatRule(), values=x)
    assert float(got.scale) * 127 == pytest.approx(np.percentile(np.abs(x), 99))


@pytest.mark.parametrize("p", [90, 99, 99.9, 100])
def test_the_histogram_gives_it_within_a_bin(p: float) -> None:
    x = np.random.default_rng(1).normal(size=100_000).astype(np.float32)
    got = float(Percentile(p).choose(TensorStats.of(x), FormatRule()).scale) * 127
    assert got == pytest.approx(np.percentile(np.abs(x), p), rel=0.032)


def test_asymmetric_formats_cut_both_ends() -> None:
    x = np.random.default_rng(2).normal(1, 1, size=100_000).astype(np.float32)
    low, high = Percentile(99).choose(TensorStats.of(x), FormatRule(symmetric=False)).real_range
    assert float(low) == pytest.approx(np.percentile(x, 1), abs=0.05)
    assert float(high) == pytest.approx(np.percentile(x, 99), abs=0.1)


def test_mostly_zeros_do_not_lose_the_rest() -> None:
    x = np.zeros(100_000, np.float32)
    x[0] = 3
    for rule in (FormatRule(), FormatRule(symmetric=False)):
        assert float(Percentile(99).choose(TensorStats.of(x), rule).real_range[1]) == pytest.approx(3)


def test_p_is_checked() -> None:
    with pytest.raises(ValueError, match="p must"):
        Percentile(0.9999)
