from __future__ import annotations

import numpy as np
import pytest

from bitwright.errors import InputMismatch, NoData
from bitwright.metrics.agreement import Agreement
from bitwright.metrics.decision import Decider
from bitwright.metrics.metric import Unit


def test_counts_equal_decisions() -> None:
    rng = np.random.default_rng(5)
    q, f = rng.integers(0, 4, (50, 6)), rng.integers(0, 4, (50, 6))
    metric = Agreement()
    metric.update([q], floats=[f])
    assert metric.result() == np.mean(
        [list(a).index(max(a)) == list(b).index(max(b)) for a, b in zip(q, f, strict=True)]
    )


def test_a_segmentation_agrees_pixel_by_pixel() -> None:
    f = np.random.default_rng(6).normal(size=(2, 3, 4, 5))
    q = f.copy()
    q[0, :, 0, 0] = -q[0, :, 0, 0]
    metric = Agreement(decider=Decider("segmentation"))
    metric.update([q], floats=[f])
    assert metric.per_sample() == pytest.approx([19 / 20, 1])
    assert metric.unit is Unit.SHARE


def test_needs_the_float_network() -> None:
    with pytest.raises(NoData, match="agreement compares with the float network"):
        Agreement().update([np.zeros((1, 3))], [0])


def test_networks_that_do_not_belong_together() -> None:
    with pytest.raises(InputMismatch, match="not the same network"):
        Agreement().update([np.zeros((1, 3))], floats=[np.zeros((1, 4))])
