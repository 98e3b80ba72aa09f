from __future__ import annotations

import numpy as np
import pytest

from bitwright.calibrate.expected import expected_squared_error
from bitwright.calibrate.tensor_stats import TensorStats


@pytest.mark.parametrize("seed", range(6))
def test_the_integral_equals_dense_sampling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.uniform(-3, 3, 9))
    left, right, count = edges[:-1], edges[1:], rng.integers(1, 1000, 8)
    scale, lo, hi = rng.uniform(0.001, 1.5, 12), -rng.integers(0, 20, 12) * 1.0, rng.integers(1, 20, 12) * 1.0
    got = expected_squared_error(left, right, count, scale, lo, hi)
    n = 200_001
    x = left[:, None] + (right - left)[:, None] * (np.arange(n) + 0.5) / n
    for i in range(12):
        error = (x - scale[i] * np.clip(np.rint(x / scale[i]), lo[i], hi[i])) ** 2
        assert got[i] == pytest.approx((error.mean(1) * count).sum(), rel=1e-6)


def test_single_values_are_exact() -> None:
    x = np.array([-1.0, 0.0, 0.3])
    got = expected_squared_error(x, x, np.array([2, 5, 1]), np.array([0.25]), np.array([-2.0]), np.array([7.0]))
    assert got[0] == pytest.approx(2 * 0.5**2 + 0.05**2)


def test_it_predicts_the_error_on_real_values() -> None:
    x = np.random.default_rng(0).laplace(size=50_000).astype(np.float32)
    for scale in (0.01, 0.05, 0.2):
        want = ((x - scale * np.clip(np.rint(x / scale), -128, 127)) ** 2).sum()
        one = (np.array([v]) for v in (scale, -128.0, 127.0))
        assert expected_squared_error(*TensorStats.of(x).bins(), *one)[0] == pytest.approx(want, rel=0.02)
