from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.errors import InputMismatch, NoData
from bitwright.metrics.decision import Decider
from bitwright.metrics.metric import Unit
from bitwright.metrics.topk import TopK


def by_hand(row: list[float], label: int, k: int) -> bool:
    """Rank classes one by one: highest score first, of equal ones the lower index."""
    left = list(range(len(row)))
    for _ in range(min(k, len(row))):
        best = left[0]
        for c in left:
            if row[c] > row[best]:
                best = c
        if best == label:
            return True
        left.remove(best)
    return False


@given(
    # Few different values, so that ties are common.
    rows=st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=7, max_size=7), min_size=1, max_size=8),
    k=st.integers(1, 9),
    data=st.data(),
)
def test_equals_ranking_by_hand(rows: list[list[float]], k: int, data: st.DataObject) -> None:
    labels = [data.draw(st.integers(0, 6)) for _ in rows]
    metric = TopK(k)
    metric.update([np.array(rows, np.float32)], labels)
    expected = [by_hand(row, label, k) for row, label in zip(rows, labels, strict=True)]
    assert metric.per_sample().tolist() == expected
    assert metric.result() == pytest.approx(sum(expected) / len(expected))


def test_of_equal_scores_the_first_class_wins() -> None:
    metric = TopK(1)
    metric.update([np.array([[3, 3, 1], [3, 3, 1]])], [0, 1])
    assert metric.per_sample().tolist() == [1, 0]


def test_offset_skips_the_background_class() -> None:
    metric = TopK(1, decider=Decider(offset=1))
    metric.update([np.array([[9.0, 1.0, 5.0]])], np.array([1]))
    assert metric.result() == 1.0
    assert metric.chance == 0.5


def test_feature_maps_of_one_pixel_are_flattened() -> None:
    metric = TopK(1)
    metric.update([np.arange(12.0).reshape(2, 6, 1, 1)], [5, 0])
    assert metric.per_sample().tolist() == [1, 0]


def test_the_named_output_is_read() -> None:
    metric = TopK(1, output=1)
    metric.update([np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]])], [2])
    assert metric.result() == 1.0


def test_nan_is_never_right_and_outranks_nothing() -> None:
    metric = TopK(1)
    metric.update([np.array([[np.nan, 1.0], [np.nan, 1.0]])], [0, 1])
    assert metric.per_sample().tolist() == [0, 1]


def test_a_language_model_decides_at_every_token() -> None:
    scores = np.random.default_rng(3).normal(size=(4, 5, 6))
    labels = scores.argmax(-1)
    labels[0, :2] = (labels[0, :2] + 1) % 6
    metric = TopK(1, decider=Decider(task="language model"))
    metric.update([scores], list(labels))
    assert metric.per_sample() == pytest.approx([0.6, 1, 1, 1])
    assert metric.unit is Unit.SHARE  # tokens of one text are not independent


def test_a_network_without_a_batch_axis() -> None:
    metric = TopK(1)
    metric.update([np.array([[0.0], [2.0], [1.0]])], [1])
    assert metric.result() == 1.0


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_that_is_no_class(label: int) -> None:
    with pytest.raises(InputMismatch, match=f"label {label} is not a class"):
        TopK(1).update([np.zeros((1, 3))], [label])


@pytest.mark.parametrize("label", ["cat", 0.5, np.zeros((4, 4)), np.zeros(3)])
def test_a_label_of_another_kind(label: object) -> None:
    with pytest.raises(InputMismatch, match="is not a class index"):
        TopK(1).update([np.zeros((1, 3))], [label])


@pytest.mark.parametrize("labels", [None, [1, None]])
def test_missing_labels_name_the_metric_and_the_way_out(labels: list[object] | None) -> None:
    with pytest.raises(NoData, match=r"top5.*--metric agreement"):
        TopK(5).update([np.zeros((2, 3))], labels)


def test_an_offset_beyond_the_output() -> None:
    with pytest.raises(InputMismatch, match="offset under"):
        TopK(1, decider=Decider(offset=3)).update([np.zeros((1, 3))], [0])


def test_nothing_measured() -> None:
    with pytest.raises(NoData, match="top1 was asked for"):
        TopK(1).result()
