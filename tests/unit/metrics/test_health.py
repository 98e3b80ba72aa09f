from __future__ import annotations

import numpy as np
import pytest

from bitwright.metrics.decision import Decider
from bitwright.metrics.health import Health, HealthWatch


def test_counts_favorites_ties_and_saturation() -> None:
    watch = HealthWatch(Decider(), highest=1.27)
    watch.update(np.array([[0.0, 1.27, 0.5], [0.0, 1.27, 1.27]]), 2)
    watch.update(np.array([[0.3, 0.1, 0.3], [0.0, 0.1, 0.0]]), 2)
    assert watch.result() == Health(favorite=1, constant=0.75, tied=0.5, saturated=0.5, classes=3)


def test_a_float_has_no_highest_value() -> None:
    watch = HealthWatch(Decider())
    watch.update(np.full((4, 3), np.inf), 4)
    assert watch.result().saturated == 0


@pytest.mark.parametrize("first", [0, 1])
def test_order_does_not_matter(first: int) -> None:
    parts = [np.array([[1.0, 0], [1, 0]]), np.array([[0.0, 1], [0, 1]])]
    watch, other = HealthWatch(Decider()), HealthWatch(Decider())
    watch.update(parts[first], 2)
    other.update(parts[1 - first], 2)
    watch.merge(other)
    assert watch.result() == Health(0, 0.5, 0, 0, 2)


def test_before_the_first_decision() -> None:
    assert HealthWatch(Decider()).result() == Health(0, 0, 0, 0, 0)
