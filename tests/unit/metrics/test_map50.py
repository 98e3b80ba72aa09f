from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitwright.errors import InputMismatch, NoData
from bitwright.metrics.map50 import MeanAveragePrecision50, average_precision, iou, suppressed

Box = list[float]


def overlap(a: Box, b: Box) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inside = w * h if w > 0 and h > 0 else 0.0
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def by_hand(images: list[tuple[list[Box], list[Box]]]) -> float:
    """Loops over pairs of boxes; the area under the envelope as a sum over the hits of the best precision from there."""
    rows, objects = [], []
    for n, (boxes, labels) in enumerate(images):
        kept: list[Box] = []
        for box in sorted((b for b in boxes if b[4] > 0.01), key=lambda b: -b[4]):
            if all(overlap(box, k) <= 0.45 for k in kept if k[5] == box[5]):
                kept.append(box)
        rows += [(n, box) for box in kept]
        objects += [(n, c, [x - w / 2, y - h / 2, x + w / 2, y + h / 2]) for c, x, y, w, h in labels]
    precisions = []
    for c in {c for _, c, _ in objects}:
        wanted = [(n, box) for n, d, box in objects if d == c]
        taken: set[int] = set()
        hits = []
        for n, box in sorted(((n, b) for n, b in rows if b[5] == c), key=lambda row: -row[1][4]):
            near = [(overlap(box, w), -i) for i, (m, w) in enumerate(wanted) if m == n]
            best, i = max(near, default=(0.0, 1))
            hits.append(best >= 0.5 and -i not in taken)
            if hits[-1]:
                taken.add(-i)
        exact = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
        precisions.append(sum(max(exact[i:]) for i, hit in enumerate(hits) if hit) / len(wanted))
    return sum(precisions) / len(precisions)


def random_images(seed: int, count: int = 4) -> list[tuple[list[Box], list[Box]]]:
    """Labels, and detections around some of them, so that there are hits, misses, duplicates and wrong classes."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        labels = [
            [float(rng.integers(3)), *rng.uniform(0.2, 0.8, 2), *rng.uniform(0.1, 0.4, 2)]
            for _ in range(rng.integers(1, 4))
        ]
        boxes = []
        for c, x, y, w, h in labels * 3:
            cx, cy, bw, bh = np.array([x, y, w, h]) + rng.normal(0, 0.03, 4)
            kind = float(c if rng.random() < 0.8 else rng.integers(4))
            boxes.append([cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2, float(rng.random()), kind])
        images.append((boxes, labels))
    return images


def measured(images: list[tuple[list[Box], list[Box]]]) -> MeanAveragePrecision50:
    metric = MeanAveragePrecision50(lambda outputs: outputs[0])
    for boxes, labels in images:
        metric.update([np.array(boxes)[None]], [np.array(labels)])
    return metric


@given(st.integers(0, 10_000))
def test_equals_loops_over_boxes(seed: int) -> None:
    images = random_images(seed)
    assert measured(images).result() == pytest.approx(by_hand(images))


def test_the_best_overlap_decides_even_if_it_was_hit_before() -> None:
    label = [[0, 0.5, 0.5, 0.4, 0.4]]
    boxes = [[0.3, 0.3, 0.7, 0.7, 0.9, 0], [0.3, 0.44, 0.7, 0.84, 0.8, 0]]
    metric = MeanAveragePrecision50(lambda outputs: outputs[0], suppress=0.9)
    metric.update([np.array([boxes])], [np.array(label)])
    assert metric.result() == 1  # the second is a false alarm after the only object was found


def test_average_precision_with_a_false_alarm_between() -> None:
    # precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1: 1/2 + 1/2 * 2/3
    hits = np.array([True, False, True])
    assert average_precision(hits, np.ones(3), 2) == pytest.approx(5 / 6)


def test_overlap_of_boxes() -> None:
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], float)
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]], float)
    assert iou(a, b) == pytest.approx(np.array([[1 / 7, 1, 0], [0, 0, 0]]))


def test_suppression_keeps_classes_apart_and_the_first_of_equals() -> None:
    box = [0.0, 0, 1, 1]
    boxes = np.array([[*box, 0.5, 1], [*box, 0.9, 0], [*box, 0.5, 1], [2, 2, 3, 3, 0.1, 0]])
    assert suppressed(boxes, 0.45).tolist() == [[*box, 0.9, 0], [2, 2, 3, 3, 0.1, 0], [*box, 0.5, 1]]
    assert suppressed(np.empty((0, 6)), 0.45).shape == (0, 6)


def test_images_without_objects_or_detections() -> None:
    metric = MeanAveragePrecision50(lambda outputs: [])
    metric.update([np.zeros((2, 3))], [np.empty((0, 5)), np.empty((0, 5))])
    with pytest.raises(NoData, match="labels with objects"):
        metric.result()
    metric.update([np.zeros((1, 3))], [np.array([[0, 0.5, 0.5, 1, 1]])])
    assert metric.result() == 0


def test_decode_gets_one_sample_without_its_batch_axis() -> None:
    seen = []
    metric = MeanAveragePrecision50(lambda outputs: seen.append([o.shape for o in outputs]) or [])
    metric.update([np.zeros((2, 3, 4)), np.zeros((2, 5))], [np.empty((0, 5))] * 2)
    assert seen == [[(3, 4), (5,)]] * 2


def test_a_decode_function_that_fails_or_returns_something_else() -> None:
    def bad(outputs: list[np.ndarray]) -> np.ndarray:
        return outputs[0][:, 99]

    def wrong(outputs: list[np.ndarray]) -> np.ndarray:
        return np.zeros((3, 4))

    with pytest.raises(InputMismatch, match=r"bad failed .*\[3, 4\].*IndexError"):
        MeanAveragePrecision50(bad).update([np.zeros((1, 3, 4))], [np.empty((0, 5))])
    with pytest.raises(InputMismatch, match=r"wrong returned an array of shape \[3, 4\]"):
        MeanAveragePrecision50(wrong).update([np.zeros((1, 3, 4))], [np.empty((0, 5))])


@pytest.mark.parametrize("label", [3, "0 1 1 1 1", np.zeros((2, 4))])
def test_labels_that_are_no_boxes(label: object) -> None:
    with pytest.raises(InputMismatch, match="class cx cy w h"):
        MeanAveragePrecision50(lambda outputs: []).update([np.zeros((1, 3))], [label])
