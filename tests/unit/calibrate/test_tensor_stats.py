from __future__ import annotations

import numpy as np
import pytest

from bitwright.calibrate.bins import BINS, FINITE, HALF, magnitude_edges
from bitwright.calibrate.kernels import (
    ordered_numpy,
    scan_columns,
    scan_rows,
    scan_rows_numpy,
    scratch,
    squared_errors,
    squared_errors_numpy,
)
from bitwright.calibrate.tally import Tally
from bitwright.calibrate.tensor_stats import TensorStats

SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-39, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan, -np.nan, 2.0, 0.999999],
    np.float32,
)


@pytest.mark.parametrize("shape", [(1, 7), (3, 5), (4, 5001), (20000, 3), (2, 40000)])
def test_the_row_kernel_equals_numpy(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    x[x > 1] = 0
    x.ravel()[: SPECIAL.size] = SPECIAL[: x.size]
    limits = np.iinfo(np.int32)
    lo, hi = np.full(shape[0], limits.max, np.int32), np.full(shape[0], limits.min, np.int32)
    tables, hist, zeros = scratch(), np.ones(BINS, np.int64), np.full(1, 5, np.int64)
    bad = scan_rows(x.view(np.int32), lo, hi, tables, hist, zeros)
    want_lo, want_hi, want_zeros, want_hist, want_bad = scan_rows_numpy(x)
    assert zeros[0] - 5 == want_zeros
    assert bad == want_bad
    np.testing.assert_array_equal(lo, want_lo)
    np.testing.assert_array_equal(hi, want_hi)
    np.testing.assert_array_equal(hist - 1, want_hist)
    whole_lo, whole_hi = np.full(1, limits.max, np.int32), np.full(1, limits.min, np.int32)
    scan_rows(x.view(np.int32), whole_lo, whole_hi, tables, hist, zeros)
    assert (whole_lo[0], whole_hi[0]) == (want_lo.min(), want_hi.max())
    assert not tables.any(), "the scratch must be clean for the next call"


def test_the_column_kernel_equals_numpy() -> None:
    x = np.random.default_rng(1).normal(size=(501, 13)).astype(np.float32)
    limits = np.iinfo(np.int32)
    lo, hi = np.full(13, limits.max, np.int32), np.full(13, limits.min, np.int32)
    scan_columns(x.view(np.int32), lo, hi)
    np.testing.assert_array_equal(lo, ordered_numpy(x).min(0))
    np.testing.assert_array_equal(hi, ordered_numpy(x).max(0))


def test_the_error_kernel_equals_numpy() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(3, 200)).astype(np.float32)
    scale = rng.uniform(0.001, 0.5, (3, 7))
    lo, hi, out = np.full_like(scale, -8), np.full_like(scale, 7), np.empty_like(scale)
    squared_errors(values, scale, lo, hi, out)
    np.testing.assert_allclose(out, squared_errors_numpy(values, scale, lo, hi), rtol=1e-12)


def test_bin_edges_are_the_floats_where_the_bin_number_changes() -> None:
    edges = magnitude_edges()
    assert edges.shape == (FINITE + 1,)
    for x in (1.0, 1.03125, 0.99, 3e38, 5e-39, 6.1):
        bin_ = int(np.float32(x).view(np.uint32) >> 18)
        assert edges[bin_] <= np.float32(x) < edges[bin_ + 1]


def test_exact_counts_and_range_with_special_values() -> None:
    stats = TensorStats.of(SPECIAL)
    assert (stats.count, stats.zeros, stats.nonfinite, stats.finite) == (15, 2, 4, 11)
    assert stats.lo == float(np.float32(-3.4e38))
    assert stats.hi == float(np.float32(3.4e38))
    assert stats.counts.sum() == 15


def test_only_nonfinite_values_leave_an_empty_range() -> None:
    stats = TensorStats.of(np.array([np.nan, np.inf]))
    assert (stats.lo, stats.hi, stats.absmax, stats.finite) == (np.inf, -np.inf, 0.0, 0)
    with pytest.raises(ValueError, match="no percentiles"):
        stats.percentile(50)


def test_empty_and_scalar_arrays() -> None:
    assert TensorStats.of(np.zeros((0, 3))) == TensorStats()
    stats = TensorStats.of(np.float32(2.5))
    assert (stats.count, stats.lo, stats.hi) == (1, 2.5, 2.5)


def test_negative_zero_does_not_show_in_the_range() -> None:
    a, b = TensorStats.of(np.float32([-0.0])), TensorStats.of(np.float32([0.0]))
    assert str((a + b).lo) == str((b + a).lo) == "0.0"


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 3, 40), 1), ((2, 3, 5000), 1), ((2, 3, 4), 1), ((5, 6), -1), ((3, 50), 0), ((4, 4, 5, 3), 3)],
)
def test_channel_ranges_and_histograms(shape: tuple[int, ...], axis: int) -> None:
    x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    stats = TensorStats.of(x, axis, channel_hist=True)
    others = tuple(i for i in range(len(shape)) if i != axis % len(shape))
    assert stats.axis == axis % len(shape)
    np.testing.assert_array_equal(stats.channel_lo, x.min(others))
    np.testing.assert_array_equal(stats.channel_hi, x.max(others))
    for c in range(shape[axis]):
        alone = TensorStats.of(np.take(x, c, axis))
        assert stats.channel(c) == alone
    assert stats.channel_hist is not None
    np.testing.assert_array_equal(stats.channel_hist.sum(0), stats.counts)


@pytest.mark.parametrize("hist", [False, True])
@pytest.mark.parametrize("shape", [(4, 3, 20), (4, 3, 2), (4, 3, 5000)])
def test_nonfinite_values_are_kept_out_of_channel_ranges_and_located(shape: tuple[int, ...], hist: bool) -> None:
    x = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    tally = Tally(1, channel_hist=hist)
    assert tally.add(x) is None
    x[2, 1, 0], x[3, 0, 1] = np.nan, -np.inf
    assert tally.add(x) == 2
    stats = tally.value()
    assert stats.nonfinite == 2
    assert stats.channel_lo is not None
    assert np.isfinite(stats.channel_lo).all()


def test_channels_that_are_not_the_same_are_not_known_of_the_sum() -> None:
    three, four, whole = (
        TensorStats.of(np.zeros((2, 3)), 1, channel_hist=True),
        TensorStats.of(np.zeros((2, 4)), 1),
        TensorStats.of([5.0]),
    )
    for a, b in ((three, four), (three, whole), (whole, four)):
        assert a + b == b + a == a.overall() + b.overall()
        assert (a + b).axis is None
    only_ranges = three + TensorStats.of(np.ones((2, 3)), 1)
    assert only_ranges.channels == 3
    assert only_ranges.channel_hist is None


def test_an_array_with_other_channels_is_refused() -> None:
    tally = Tally(1)
    tally.add(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="4 channels"):
        tally.add(np.zeros((2, 4), np.float32))


def test_msb_counts_by_hand() -> None:
    stats = TensorStats.of(np.float32([0, 0.5, 0.75, 1, -1.5, 3.999, 4, -1e-39, -0.0]))
    assert stats.msb_counts() == {-127: 1, -1: 2, 0: 2, 1: 1, 2: 1}
    assert stats.msb_counts_signed() == ({-127: 1, 0: 1}, {-1: 2, 0: 1, 1: 1, 2: 1})


def test_percentile_bounds_hold_the_true_value() -> None:
    x = np.sort(np.random.default_rng(5).normal(size=1001).astype(np.float32))
    stats = TensorStats.of(x)
    for p in (0, 1, 25, 50, 99, 99.9, 100):
        rank = max(int(np.ceil(p / 100 * 1001)), 1)
        low, high = stats.percentile_bounds(p)
        assert low <= x[rank - 1] <= high
        assert abs(stats.percentile(p) - x[rank - 1]) <= max(abs(low), abs(high)) / 16
    assert stats.percentile(0) == x[0]
    assert stats.percentile(100) == x[-1]
    assert stats.magnitude_percentile(100) == np.abs(x).max()
    with pytest.raises(ValueError, match=r"0\.\.100"):
        stats.percentile(101)


def test_moments_are_close() -> None:
    x = np.random.default_rng(6).normal(2, 3, size=20000).astype(np.float32)
    mean, variance = TensorStats.of(x).moments()
    assert mean == pytest.approx(x.mean(), rel=0.01)
    assert variance == pytest.approx(x.var(), rel=0.01)
    assert TensorStats().moments() == (0.0, 0.0)


def test_bins_are_ascending_and_hold_everything() -> None:
    x = np.random.default_rng(7).normal(size=5000).astype(np.float32)
    x[:1000] = 0
    left, right, count = TensorStats.of(x).bins()
    assert count.sum() == 5000
    assert (left <= right).all()
    assert (right[:-1] <= left[1:]).all()
    assert left[0] == x.min()
    assert right[-1] == x.max()
    for low, high, n in zip(left, right, count, strict=True):
        assert ((x >= low) & (x <= high)).sum() >= n


def test_statistics_cannot_be_changed() -> None:
    stats = TensorStats.of(np.ones((2, 2)), 0)
    with pytest.raises(ValueError, match="read-only"):
        stats.counts[0] = 1


def test_halves_of_the_histogram_are_signs() -> None:
    stats = TensorStats.of(np.float32([-2.0]))
    assert stats.counts[HALF:].sum() == 1
    assert stats.signed_counts()[0].sum() == 1


def test_any_memory_will_do() -> None:
    want = TensorStats.of(np.arange(12, dtype=np.float32).reshape(3, 4), 1)
    frozen = np.arange(12, dtype=np.float32).reshape(3, 4)
    frozen.flags.writeable = False
    raw = b"x" + frozen.tobytes()
    unaligned = np.frombuffer(raw, np.float32, 12, 1).reshape(3, 4)
    for x in (
        frozen,
        unaligned,
        frozen.astype(">f4"),
        np.asfortranarray(frozen),
        frozen.astype(np.float16),
        frozen[::1],
    ):
        assert TensorStats.of(x, 1) == want
