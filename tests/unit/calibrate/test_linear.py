from __future__ import annotations

import numpy as np

from bitwright.calibrate.linear import below, linear_magnitudes
from bitwright.calibrate.tensor_stats import TensorStats


def test_below_is_exact_at_the_edges_of_bins_and_jumps_at_points() -> None:
    left, right, count = np.array([-1.0, 0.0, 1.0]), np.array([-0.5, 0.0, 2.0]), np.array([4, 3, 10])
    got = below(left, right, count, np.array([-2, -1, -0.75, -0.5, 0.0, 1e-9, 1.0, 1.5, 2.0, 9.0]))
    np.testing.assert_allclose(got, [0, 0, 2, 4, 4, 7, 7, 12, 17, 17])


def test_linear_counts_are_whole_complete_and_close_to_counting_the_values() -> None:
    x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    x[:30_000] = 0
    stats = TensorStats.of(x)
    got = linear_magnitudes(stats)
    want = np.histogram(np.abs(x[x != 0]), bins=2048, range=(0, stats.absmax))[0]
    assert got.sum() == want.sum() == 70_000
    assert np.abs(np.cumsum(got) - np.cumsum(want)).max() < 0.002 * 70_000


def test_an_outlier_stays_one_count() -> None:
    x = np.append(np.random.default_rng(1).normal(size=1000), 100).astype(np.float32)
    got = linear_magnitudes(TensorStats.of(x))
    assert set(got[200:]) == {0, 1}
    assert got[-1] + got[-200:-1].sum() == 1


def test_a_constant_tensor_is_one_filled_bin() -> None:
    got = linear_magnitudes(TensorStats.of(np.full(7, 2.5)))
    assert got[-1] == 7
    assert got.sum() == 7
