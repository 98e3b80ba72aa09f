from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.errors import InputMismatch, NoData
from bitwright.metrics.miou import MeanIou, resized


def by_sets(predictions: list[np.ndarray], labels: list[np.ndarray], classes: int) -> float:
    """Sets of pixels, as the definition says."""
    pixels = [
        (n, int(p[y * p.shape[0] // w.shape[0]][x * p.shape[1] // w.shape[1]]), int(w[y, x]), y, x)
        for n, (p, w) in enumerate(zip(predictions, labels, strict=True))
        for y in range(w.shape[0])
        for x in range(w.shape[1])
        if w[y, x] < classes
    ]
    ious = []
    for c in range(classes):
        predicted = {(n, y, x) for n, p, _, y, x in pixels if p == c}
        wanted = {(n, y, x) for n, _, w, y, x in pixels if w == c}
        if wanted:
            ious.append(len(predicted & wanted) / len(predicted | wanted))
    return sum(ious) / len(ious)


@given(
    seed=st.integers(0, 10_000),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    label_size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    layout=st.sampled_from(["NCHW", "NHWC"]),
)
def test_equals_sets_of_pixels(seed: int, size: tuple[int, int], label_size: tuple[int, int], layout: str) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (2, 3, *size)).astype(np.float32)
    labels = [rng.choice([0, 1, 2, 7, 255], label_size).astype(np.uint8) for _ in range(2)]
    labels[0][0, 0] = 1
    metric = MeanIou(layout=layout)
    metric.update([scores if layout == "NCHW" else scores.transpose(0, 2, 3, 1)], labels)
    assert metric.result() == pytest.approx(by_sets(list(scores.argmax(1)), labels, 3))


def test_a_map_of_classes_as_output() -> None:
    rng = np.random.default_rng(1)
    maps, labels = rng.integers(0, 4, (3, 6, 6)), rng.integers(0, 4, (3, 6, 6)).astype(np.uint8)
    labels[:, 0] = 255
    metric = MeanIou()
    metric.update([maps.astype(np.float32)], labels)
    assert metric.result() == pytest.approx(by_sets(list(maps), list(labels), 4))


def test_a_class_that_no_label_has_does_not_count() -> None:
    metric = MeanIou()
    scores = np.zeros((1, 3, 1, 4))
    scores[0, [0, 0, 2, 2], 0, [0, 1, 2, 3]] = 1
    metric.update([scores], [np.array([[0, 0, 0, 255]], np.uint8)])
    assert metric.result() == pytest.approx(2 / 3)


def test_label_images_with_a_channel_of_one() -> None:
    metric = MeanIou()
    scores = np.zeros((2, 2, 3, 4))
    metric.update([scores], [np.zeros((3, 4, 1), np.uint8), np.zeros((1, 3, 4), np.uint8)])
    assert metric.result() == 1


def test_resizing_repeats_the_nearest_row_and_column() -> None:
    image = np.arange(4).reshape(2, 2)
    assert resized(image, (4, 3)).tolist() == [[0, 0, 1], [0, 0, 1], [2, 2, 3], [2, 2, 3]]
    assert resized(np.arange(16).reshape(4, 4), (2, 2)).tolist() == [[0, 2], [8, 10]]


def test_images_without_labelled_pixels() -> None:
    metric = MeanIou()
    metric.update([np.zeros((1, 2, 2, 2))], [np.full((2, 2), 255, np.uint8)])
    assert metric.per_sample().tolist() == [1]
    with pytest.raises(NoData, match="none came"):
        metric.result()


@pytest.mark.parametrize("shape", [(1, 5), (1, 1, 4, 4)])
def test_an_output_without_classes_for_each_pixel(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputMismatch, match="two or more classes for each pixel"):
        MeanIou().update([np.zeros(shape)], [np.zeros((4, 4), np.uint8)])


@pytest.mark.parametrize("label", [3, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4))])
def test_a_label_that_is_no_image_of_classes(label: object) -> None:
    with pytest.raises(InputMismatch, match="no image"):
        MeanIou().update([np.zeros((1, 2, 4, 4))], [label])


def test_negative_classes() -> None:
    with pytest.raises(InputMismatch, match="negative"):
        MeanIou().update([np.zeros((1, 2, 1, 1))], [np.full((1, 1), -1)])
