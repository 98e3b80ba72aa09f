from __future__ import annotations

import math

import numpy as np
import pytest

from bitwright.calibrate.schemes.aciq import Aciq, alpha, sigma
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import FormatRule


def test_published_constants() -> None:
    assert alpha(8) == 3.92403714
    assert alpha(6) == 3.28691474


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 7, 9, 10])
def test_alpha_minimizes_the_analytic_error(bits: int) -> None:
    def error(a: float) -> float:
        tail = math.erfc(a / math.sqrt(2)) / 2
        density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
        return 2 * ((1 + a * a) * tail - a * density) + a * a / (3 * 4.0**bits)

    best = alpha(bits)
    assert error(best) <= min(error(best - 0.01), error(best + 0.01))
    assert best == pytest.approx({2: 1.71, 3: 2.15, 4: 2.55, 5: 2.93, 7: 3.61, 9: 4.21, 10: 4.5}[bits], abs=0.02)


def test_the_threshold_by_hand() -> None:
    x = np.linspace(-2, 2, 10_000).astype(np.float32)
    want = 3.92403714 * 2 * 2 * 0.175 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(10_000))
    assert alpha(8) * sigma(2.0, 10_000) == pytest.approx(want)
    assert float(Aciq().choose(TensorStats.of(x), FormatRule()).scale) == pytest.approx(min(want, 2.0) / 127)


def test_it_clips_once_there_are_many_values() -> None:
    x = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    got = float(Aciq().choose(TensorStats.of(x), FormatRule()).scale) * 127
    assert 3 < got < np.abs(x).max()


def test_the_threshold_never_exceeds_the_range() -> None:
    assert float(Aciq().choose(TensorStats.of([1.0, -2.0, 1.5]), FormatRule()).scale) == pytest.approx(2 / 127)
    assert float(Aciq().choose(TensorStats.of([2.0]), FormatRule()).scale) == pytest.approx(2 / 127)
