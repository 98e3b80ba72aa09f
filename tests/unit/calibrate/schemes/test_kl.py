from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bitwright.calibrate.schemes.kl import (
    Kl,
    divergences_ncnn,
    divergences_nnom,
    divergences_tensorrt,
    kl_threshold,
)
from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.number.format import FormatRule


def slow_tensorrt(hist: np.ndarray, t: int, levels: int) -> float:
    """The definition, a bin at a time."""
    p = hist[:t].astype(float)
    p[-1] += hist[t:].sum()
    q = np.zeros(t)
    for j in range(levels):
        start = j * (t // levels)
        stop = t if j == levels - 1 else start + t // levels
        filled = p[start:stop] > 0
        if filled.any():
            q[start:stop][filled] = hist[start:stop].sum() / filled.sum()
    p[p == 0], q[q == 0] = 1e-4, 1e-4
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def slow_ncnn(hist: np.ndarray, t: int, levels: int) -> float:
    h = hist / hist.sum()
    p = h[:t] + 1e-4
    p[-1] += h[t:].sum()
    width, q = t / levels, np.full(t, 1e-4)
    for j in range(levels):
        share = np.array([max(0.0, min(i + 1, (j + 1) * width) - max(i, j * width)) for i in range(t)])
        q += share * (share * h[:t]).sum() / width
    return float((p * np.log(p / q)).sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("fast", "slow"), [(divergences_tensorrt, slow_tensorrt), (divergences_ncnn, slow_ncnn)])
def test_fast_divergences_equal_the_definition(fast: Callable, slow: Callable, seed: int) -> None:
    rng = np.random.default_rng(seed)
    hist = rng.poisson(30 * np.exp(-np.arange(96) / 10))
    hist[rng.integers(0, 96, 30)] = 0
    hist[95] = 1
    got = fast(hist, 16)
    want = [slow(hist, t, 16) for t in range(16, 96)]
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_a_tail_in_a_group_that_is_else_empty() -> None:
    hist = np.zeros(40)
    hist[:4], hist[39] = 5, 2
    np.testing.assert_allclose(divergences_tensorrt(hist, 8), [slow_tensorrt(hist, t, 8) for t in range(8, 40)])


def slow_nnom(x: np.ndarray, exponent: int) -> float:
    reach = np.abs(x).max()
    bins, coarse_bins = np.arange(-reach, reach, reach / 1024), np.arange(-reach, reach, reach / 128)
    step = 2.0**exponent
    fine = np.histogram(x, bins=bins)[0]
    coarse = np.histogram(np.clip(np.round(x / step), -128, 127) * step, bins=coarse_bins)[0]
    q = np.zeros(len(fine))
    for i, n in enumerate(coarse):
        filled = fine[8 * i : 8 * i + 8] > 0
        if filled.any():
            q[8 * i : 8 * i + 8][filled] = n / filled.sum()
    p, q = np.where(fine == 0, 1e-5, fine), np.where(q == 0, 1e-5, q)
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


@pytest.mark.parametrize(("reach", "tail"), [(4.0, 3), (3.0, 6), (7.7, 30)])
def test_the_nnom_form_ranks_exponents_as_counting_the_values_does(reach: float, tail: float) -> None:
    x = np.random.default_rng(3).standard_t(tail, size=60_000).astype(np.float32)
    x = x / np.abs(x).max() * np.float32(reach)
    tries = np.arange(-4, -8, -1)
    got = divergences_nnom(TensorStats.of(x), tries, (-128, 127))
    want = np.array([slow_nnom(x, e) for e in tries])
    assert np.argmin(got) == np.argmin(want)


def test_thresholds_are_close_to_counting_the_values() -> None:
    rng = np.random.default_rng(4)
    for x in (rng.normal(size=200_000), np.maximum(rng.laplace(size=200_000), 0), rng.standard_t(5, size=200_000)):
        x = x.astype(np.float32)
        top = np.abs(x).max()
        hist = np.histogram(np.abs(x[x != 0]), bins=2048, range=(0, top))[0]
        for variant, divergences in (("tensorrt", divergences_tensorrt), ("ncnn", divergences_ncnn)):
            want = (128 + np.argmin(divergences(hist)) + 0.5) * top / 2048
            got = kl_threshold(TensorStats.of(x), variant, 128)  # type: ignore[arg-type]
            assert got == pytest.approx(want, rel=0.15)


def test_outliers_are_clipped_but_constants_are_not() -> None:
    x = np.random.default_rng(5).normal(size=50_000).astype(np.float32)
    x[0] = 100
    rule = FormatRule()
    assert float(Kl().choose(TensorStats.of(x), rule).scale) < 0.2
    assert float(Kl().choose(TensorStats.of(x), rule, values=x).scale) == pytest.approx(100 / 127)
    assert float(Kl(constants=True).choose(TensorStats.of(x), rule, values=x).scale) < 0.2


def test_the_nnom_variant_needs_powers_of_two() -> None:
    with pytest.raises(ValueError, match="powers of two"):
        Kl(variant="nnom").choose(TensorStats.of([1.0]), FormatRule())


def test_the_nnom_form_starts_at_the_plain_rule() -> None:
    # NNoM's KLD starts from ceil(log2 max|x|) without the (1 - 2^-8) that its max-min rule has: 1.0 may stay exact.
    rule = FormatRule(scaling="power-of-two", exponent_rule="nnom")
    x = np.linspace(-1, 1, 4097).astype(np.float32)
    got = Kl().choose(TensorStats.of(x), rule).exponent
    assert got is not None
    assert -10 <= int(got) <= -7
