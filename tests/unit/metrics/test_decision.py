from __future__ import annotations

import numpy as np
import pytest

from bitwright.errors import InputMismatch
from bitwright.metrics.decision import Decider


@pytest.mark.parametrize(
    ("task", "layout", "shape", "expected"),
    [
        ("classification", "NCHW", (2, 5), (2, 5, 1)),
        ("classification", "NHWC", (2, 1, 1, 5), (2, 5, 1)),
        ("segmentation", "NCHW", (2, 5, 3, 4), (2, 5, 12)),
        ("segmentation", "NHWC", (2, 3, 4, 5), (2, 5, 12)),
        ("language model", "raw", (2, 7, 5), (2, 5, 7)),
        ("none", "raw", (2, 3, 4), (2, 12, 1)),
    ],
)
def test_scores_are_samples_by_classes_by_positions(
    task: str, layout: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    output = np.random.default_rng(1).normal(size=shape)
    scores = Decider(task, layout).scores(output, 2)
    assert scores.shape == expected
    assert sorted(scores.ravel()) == sorted(output.ravel())


def test_a_pixel_keeps_its_classes_in_both_layouts() -> None:
    output = np.random.default_rng(2).normal(size=(2, 5, 3, 4))
    first = Decider("segmentation", "NCHW").decide(output, 2)
    last = Decider("segmentation", "NHWC").decide(output.transpose(0, 2, 3, 1), 2)
    assert np.array_equal(first, last)
    assert first[1, 6] == output[1, :, 1, 2].argmax()


def test_a_batch_that_does_not_divide() -> None:
    with pytest.raises(InputMismatch, match=r"\[3, 5\] cannot be that of 2 samples"):
        Decider().scores(np.zeros((3, 5)), 2)
