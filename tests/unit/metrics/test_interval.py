from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.metrics.interval import Z95, bootstrap_values, interval_of, percentile_interval, wilson
from bitwright.metrics.metric import Unit
from bitwright.metrics.mse import MeanSquaredError
from bitwright.metrics.own import own_metric
from bitwright.metrics.topk import TopK


@given(st.integers(1, 500), st.data())
def test_the_ends_are_where_the_score_test_stops_to_exclude(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    for end in wilson(k, n):
        if 0 < end < 1:
            assert abs(k / n - end) == pytest.approx(Z95 * math.sqrt(end * (1 - end) / n), rel=1e-9)


def test_a_value_from_the_literature() -> None:
    # Newcombe, Stat. Med. 17, 1998, table I, method 3: 81 of 263 and 15 of 148; 0 of 20
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)


@given(st.integers(1, 300), st.data())
def test_contains_its_share_and_stays_between_nothing_and_all(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    # Right and wrong are mirror images.
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low))


def test_the_interval_of_a_proportion_is_wilsons() -> None:
    metric = TopK(1)
    metric.update([np.eye(4)], [0, 1, 2, 0])
    found = interval_of(metric, 4, None)
    assert found is not None
    assert found.method == "wilson"
    assert (found.low, found.high) == wilson(3, 4)


def measured(values: np.ndarray) -> MeanSquaredError:
    metric = MeanSquaredError()
    metric.update([np.sqrt(values)[:, None]], inputs=np.zeros((len(values), 1)))
    return metric


def test_the_bootstrap_of_a_mean_has_its_standard_error() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 200)
    drawn = bootstrap_values(measured(values), samples=200)
    assert drawn is not None
    assert drawn.shape == (1000, 1)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.005)
    assert drawn.std() == pytest.approx(values.std() / math.sqrt(200), rel=0.1)
    low, high = percentile_interval(drawn[:, 0])
    assert high - low == pytest.approx(2 * Z95 * values.std() / math.sqrt(200), rel=0.1)
    found = interval_of(measured(values), 200, drawn[:, 0])
    assert found is not None
    assert found.to_json() == {"low": low, "high": high, "method": "bootstrap"}


def test_draws_are_paired_and_repeatable() -> None:
    values = np.random.default_rng(1).uniform(0, 1, 50)
    drawn = bootstrap_values(measured(values), measured(2 * values), samples=50, resamples=100)
    assert drawn is not None
    assert drawn[:, 1] == pytest.approx(2 * drawn[:, 0])
    assert np.array_equal(drawn, bootstrap_values(measured(values), measured(2 * values), samples=50, resamples=100))
    other = bootstrap_values(measured(values), samples=50, resamples=100, seed=1)
    assert other is not None
    assert not np.array_equal(other[:, 0], drawn[:, 0])


def test_no_interval_where_there_is_nothing_to_draw() -> None:
    own = own_metric(lambda outputs, labels: 1.0, "own")
    own.update([np.zeros((3, 1))])
    assert bootstrap_values(own, samples=3) is None
    assert interval_of(own, 3, None) is None
    assert own.unit is Unit.VALUE


def test_infinite_figures_have_an_interval() -> None:
    assert percentile_interval(np.array([math.inf] * 10)) == (math.inf, math.inf)
