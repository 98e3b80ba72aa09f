"""Sample by sample: heights, and what counts as a gain that chance does not explain."""

from __future__ import annotations

import numpy as np
import pytest

from bitwright.mend.bench import sample_heights, surely_better


def test_heights_of_outputs_without_classes() -> None:
    wanted = np.array([[3.0, 4.0], [0.0, 10.0], [1.0, 1.0]])
    got = wanted + np.array([[0.5, 0.0], [0.0, 1.0], [0.0, 0.0]])
    heights = sample_heights([wanted], [got], classes=False)
    assert heights[:2] == pytest.approx([20.0, 20.0])
    assert heights[2] == 80.0  # nothing differs: no more than can be told apart


def test_ties_cost_a_classifier_more_than_equal_noise() -> None:
    wanted = np.array([[4.0, 2.0, 0.0]])
    tie, same = np.array([[3.0, 3.0, 0.0]]), np.array([[5.0, 3.0, 0.0]])
    a, b = (sample_heights([wanted], [x], classes=False)[0] for x in (tie, same))
    assert a == pytest.approx(b)
    a, b = (sample_heights([wanted], [x], classes=True)[0] for x in (tie, same))
    assert b > a + 3


def test_a_gain_must_be_sure() -> None:
    r = np.random.default_rng(0)
    assert surely_better(0.5 + 0.2 * r.normal(size=32), 0.02)
    assert not surely_better(0.3 + 5.0 * r.normal(size=32), 0.02)  # one in three such searches would take it
    assert not surely_better(np.full(32, 0.01), 0.02)
    assert surely_better(np.array([0.5]), 0.02)
    # Of a hundred moves that change nothing but noise, next to none is taken.
    taken = sum(surely_better(r.normal(size=32), 0.02) for _ in range(400))
    assert taken < 24
