from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.errors import InputMismatch, NoData
from bitwright.metrics.auc import RocAuc


def pairs_won(scores: list[float], labels: list[int]) -> float:
    """Every positive against every negative; a tie is half a win."""
    won = [
        (p > q) + 0.5 * (p == q)
        for p, a in zip(scores, labels, strict=True)
        if a
        for q, b in zip(scores, labels, strict=True)
        if not b
    ]
    return sum(won) / len(won)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=2, max_size=30))
def test_is_the_share_of_pairs_won(rows: list[tuple[int, int]]) -> None:
    scores, labels = [float(s) for s, _ in rows], [label for _, label in rows]
    metric = RocAuc()
    metric.update([np.array(scores)[:, None]], labels)
    if len(set(labels)) == 2:
        assert metric.result() == pytest.approx(pairs_won(scores, labels))
    else:
        with pytest.raises(NoData, match="both classes"):
            metric.result()


def test_two_outputs_are_their_difference() -> None:
    rng = np.random.default_rng(1)
    two, labels = rng.normal(size=(40, 2)), rng.integers(0, 2, 40)
    metric = RocAuc()
    metric.update([two], labels)
    assert metric.result() == pytest.approx(pairs_won(list(two[:, 1] - two[:, 0]), list(labels)))


def test_a_reconstruction_scores_by_its_error() -> None:
    rng = np.random.default_rng(2)
    inputs, labels = rng.normal(size=(20, 6)), np.arange(20) % 2
    out = inputs + rng.normal(size=inputs.shape) * (1 + labels[:, None])
    metric = RocAuc(reconstruction=True)
    metric.update([out], labels, inputs=inputs)
    assert metric.result() == pytest.approx(pairs_won(list(((out - inputs) ** 2).mean(1)), list(labels)))
    with pytest.raises(NoData, match="inputs"):
        metric.update([out], labels)


def test_more_outputs_are_refused() -> None:
    with pytest.raises(InputMismatch, match="one or two output values a sample, and this network has 3"):
        RocAuc().update([np.zeros((2, 3))], [0, 1])


@pytest.mark.parametrize("label", [2, "1", np.zeros(3)])
def test_labels_are_zero_or_one(label: object) -> None:
    with pytest.raises(InputMismatch, match="neither 0 nor 1"):
        RocAuc().update([np.zeros((1, 1))], [label])


def test_nothing_measured() -> None:
    with pytest.raises(NoData, match="before any sample"):
        RocAuc().result()
