"""map50: mean average precision of a detector at an overlap of one half."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import InputMismatch, NoData, printable
from bitwright.metrics.metric import Array, Labels, Need, Unit, labels_of

__all__ = ["Decode", "MeanAveragePrecision50"]

Decode = Callable[[list[Array]], Any]
"""From the outputs of one sample (no batch axis) to boxes ``[m, 6]``: x1 y1 x2 y2 relative to the image, score, class."""

OVERLAP = 0.5
TABLE_AXES, BOX_NUMBERS, LABEL_NUMBERS = 2, 6, 5


@dataclass(frozen=True, eq=False)
class _Image:
    """What one image adds: its detections after suppression, and how many objects of each class it shows."""

    classes: NDArray[np.int64]
    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    objects: dict[int, int]


class MeanAveragePrecision50:
    """The mean over the classes present in the labels of the average precision at IoU >= 0.5.

    Detections above ``confidence`` are thinned class by class by greedy non-maximum suppression (a box goes if it
    overlaps a better one by more than ``suppress``).  In order of score over all images, a detection is a hit if the
    object of its class that it overlaps most is overlapped by at least one half and was not hit before.  The average
    precision is the area under the precision envelope at all points of recall (Everingham et al., IJCV 111, 2015,
    all points, as PASCAL VOC since 2010).  Detections of classes that no label has count nowhere.

    A label is an array ``[objects, 5]``: class, and center x, center y, width, height relative to the image.

    Memory: the detections that survive, 17 bytes each.
    """

    name = "map50"
    better: Literal["higher", "lower"] = "higher"
    unit = Unit.SHARE
    needs: tuple[Need, ...] = ("labels",)

    def __init__(self, decode: Decode, *, confidence: float = 0.01, suppress: float = 0.45) -> None:
        self.decode, self.confidence, self.suppress = decode, confidence, suppress
        self._images: list[_Image] = []

    @property
    def chance(self) -> float | None:
        """A detector that guesses finds next to nothing."""
        return 0.0

    def update(
        self,
        outputs: Sequence[Array],
        labels: Labels | None = None,
        *,
        inputs: Array | None = None,
        floats: Sequence[Array] | None = None,
    ) -> None:
        """Take one batch: see ``Metric.update``."""
        labels = labels_of(labels, self.name)
        for index, label in enumerate(labels):
            # A batch of one may belong to a network whose outputs have no batch axis to index.
            sample = [o[index] if o.shape[:1] == (len(labels),) else o for o in outputs]
            self._images.append(self._match(self._boxes(sample), _objects(label)))

    def _boxes(self, sample: list[Array]) -> NDArray[np.float64]:
        name = printable(getattr(self.decode, "__name__", repr(self.decode)), 60)
        try:
            boxes = np.asarray(self.decode(sample), np.float64)
        except Exception as error:
            shapes = [list(o.shape) for o in sample]
            raise InputMismatch(
                f"The decode function {name} failed on the outputs of one sample, of shapes {shapes}: "
                f"{type(error).__name__}: {printable(error)}. It gets a list of arrays without a batch axis."
            ) from error
        if boxes.size == 0:
            return np.empty((0, BOX_NUMBERS))
        if boxes.ndim != TABLE_AXES or boxes.shape[1] != BOX_NUMBERS:
            raise InputMismatch(
                f"The decode function {name} returned an array of shape {list(boxes.shape)}: return boxes [m, 6] of x1 y1 "
                "x2 y2 (relative to the image), score, class."
            )
        kept = boxes[boxes[:, 4] > self.confidence]
        return suppressed(kept, self.suppress)

    def _match(self, boxes: NDArray[np.float64], objects: NDArray[np.float64]) -> _Image:
        hits = np.zeros(len(boxes), bool)
        numbers = objects[:, 0].astype(np.int64)
        corners = np.concatenate([objects[:, 1:3] - objects[:, 3:5] / 2, objects[:, 1:3] + objects[:, 3:5] / 2], axis=1)
        for number in np.unique(numbers):
            own = corners[numbers == number]
            found = np.zeros(len(own), bool)
            for at in np.flatnonzero(boxes[:, 5].astype(np.int64) == number):
                overlap = iou(boxes[at : at + 1, :4], own)[0]
                best = int(overlap.argmax())
                if overlap[best] >= OVERLAP and not found[best]:
                    found[best] = hits[at] = True
        classes, counts = np.unique(numbers, return_counts=True)
        return _Image(
            boxes[:, 5].astype(np.int64), boxes[:, 4], hits, dict(zip(classes.tolist(), counts.tolist(), strict=True))
        )

    def result(self) -> float:
        """The mean over classes.

        Raises:
            NoData: if no label has an object.
        """
        value = self.weighted(np.ones(len(self._images)))
        if value is None:
            raise NoData("The metric map50 needs labels with objects ('class cx cy w h;...'), and none came.")
        return value

    def per_sample(self) -> None:
        """None: the order of scores runs over all images."""

    def weighted(self, weights: NDArray[np.float64]) -> float | None:
        """The mean over classes of the weighted precision; None if no object has weight."""
        objects: dict[int, float] = {}
        for image, weight in zip(self._images, weights.tolist(), strict=True):
            if weight:
                for number, count in image.objects.items():
                    objects[number] = objects.get(number, 0.0) + weight * count
        if not objects:
            return None
        classes, scores, hits = (
            np.concatenate([getattr(image, part) for image in self._images]) for part in ("classes", "scores", "hits")
        )
        weight = np.repeat(weights, [len(image.scores) for image in self._images])
        order = np.argsort(-scores, kind="stable")
        order = order[weight[order] > 0]
        classes, hits, weight = classes[order], hits[order], weight[order]
        precisions = []
        for number, total in objects.items():
            own = classes == number
            precisions.append(average_precision(hits[own], weight[own], total))
        return float(np.mean(precisions))

    def merge(self, other: Self) -> None:
        """Append the other's images."""
        self._images += other._images


def _objects(label: object) -> NDArray[np.float64]:
    try:
        objects = np.asarray(label, np.float64)
    except (ValueError, TypeError):
        objects = np.empty((1, 1))
    if objects.size == 0:
        return np.empty((0, LABEL_NUMBERS))
    if objects.ndim != TABLE_AXES or objects.shape[1] != LABEL_NUMBERS:
        raise InputMismatch(
            f"The label {printable(repr(label), 60)} is not of the form [objects, 5] (class cx cy w h, relative to the "
            'image), as map50 needs: set task = "detection" under [output] of the input contract, or correct the labels.'
        )
    return objects


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes x1 y1 x2 y2: ``[m, 4]`` and ``[n, 4]`` give ``[m, n]``; 0 for empty boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = np.prod(np.maximum(high - low, 0), axis=2)
    total = np.prod(a[:, 2:] - a[:, :2], axis=1)[:, None] + np.prod(b[:, 2:] - b[:, :2], axis=1)[None] - inside
    return np.asarray(inside / np.maximum(total, 1e-9))


def suppressed(boxes: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: ``[m, 6]``.
        threshold: A box goes if it overlaps a better one of its class by more than this.

    Returns:
        The boxes kept: by class, and by falling score within it (the first of equals stays first).
    """
    boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    kept: list[NDArray[np.float64]] = []
    for number in np.unique(boxes[:, 5]):
        rest = boxes[boxes[:, 5] == number]
        while len(rest):
            kept.append(rest[0])
            rest = rest[1:][iou(rest[:1, :4], rest[1:, :4])[0] <= threshold]
    return np.array(kept).reshape(-1, BOX_NUMBERS)


def average_precision(hits: NDArray[np.bool_], weights: NDArray[np.float64], objects: float) -> float:
    """The area under the envelope of precision over recall.

    Args:
        hits: Whether each detection, by falling score, is right, ``[m]``.
        weights: How often each counts, positive, ``[m]``.
        objects: How many there are to be found.
    """
    gained = weights * hits
    precision = np.cumsum(gained) / np.cumsum(weights)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((gained / objects * envelope).sum())
