from __future__ import annotations

import numpy as np
import pytest

from bitwright.errors import InputMismatch, NoData
from bitwright.metrics.mse import MeanSquaredError


def test_against_labels_of_the_outputs_size() -> None:
    rng = np.random.default_rng(0)
    out, labels = rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 8))
    metric = MeanSquaredError()
    metric.update([out], list(labels), inputs=np.zeros((3, 8)))
    expected = [
        sum((a - b) ** 2 for a, b in zip(o.ravel(), w, strict=True)) / 8 for o, w in zip(out, labels, strict=True)
    ]
    assert metric.per_sample() == pytest.approx(expected)
    assert metric.result() == pytest.approx(sum(expected) / 3)


@pytest.mark.parametrize("labels", [None, [0, 1], ["a", "b"], [None, None]])
def test_against_the_input_where_labels_are_no_pictures(labels: list[object] | None) -> None:
    metric = MeanSquaredError()
    metric.update([np.ones((2, 4))], labels, inputs=np.full((2, 2, 2), 3.0))
    assert metric.result() == 4


def test_float32_is_summed_in_float64() -> None:
    metric = MeanSquaredError()
    metric.update([np.array([[1e8, 1]], np.float32)], inputs=np.array([[1e8, 0]], np.float32))
    assert metric.result() == 0.5


def test_neither_labels_nor_inputs() -> None:
    with pytest.raises(NoData, match="mse needs what the network should reconstruct"):
        MeanSquaredError().update([np.ones((1, 4))])


def test_an_input_of_another_size() -> None:
    with pytest.raises(InputMismatch, match=r"\[1, 4\] cannot be compared with an input of shape \[1, 5\]"):
        MeanSquaredError().update([np.ones((1, 4))], inputs=np.ones((1, 5)))
