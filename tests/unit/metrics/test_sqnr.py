from __future__ import annotations

import math

import numpy as np
import pytest

from bitwright.errors import NoData
from bitwright.metrics.sqnr import OutputSqnr


def sqnr(q: list[np.ndarray], f: list[np.ndarray]) -> float:
    metric = OutputSqnr()
    metric.update(q, floats=f)
    return metric.result()


def test_a_hundredth_of_the_amplitude_is_forty_decibel() -> None:
    f = [np.random.default_rng(0).normal(size=(3, 10))]
    assert sqnr([f[0] * 1.01], f) == pytest.approx(40)


def test_all_outputs_and_samples_count_element_by_element() -> None:
    rng = np.random.default_rng(1)
    f = [rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(3, 2, 5)).astype(np.float32)]
    q = [a + rng.normal(size=a.shape).astype(np.float32) for a in f]
    signal = sum(float(v) ** 2 for a in f for v in a.ravel())
    noise = sum(
        (float(v) - float(w)) ** 2 for a, b in zip(q, f, strict=True) for v, w in zip(a.ravel(), b.ravel(), strict=True)
    )
    assert sqnr(q, f) == pytest.approx(10 * math.log10(signal / noise), rel=1e-12)


def test_no_noise_and_no_signal() -> None:
    ones, zeros = [np.ones((1, 2))], [np.zeros((1, 2))]
    assert sqnr(ones, ones) == math.inf
    assert sqnr(zeros, ones) == 0
    assert sqnr(ones, zeros) == -math.inf


def test_integers_do_not_overflow() -> None:
    f = [np.full((1, 4), 100, np.int8)]
    assert sqnr([np.full((1, 4), -100, np.int8)], f) == pytest.approx(10 * math.log10(1 / 4))


def test_nothing_measured() -> None:
    with pytest.raises(NoData):
        OutputSqnr().result()
