"""miou: mean intersection over union of a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import InputMismatch, NoData, printable
from bitwright.metrics.metric import Array, Labels, Need, Unit, labels_of

__all__ = ["MeanIou"]

IMAGE_AXES = 4
MAP_AXES = 3


class MeanIou:
    """The mean over the classes present in the labels of intersection / union, counted in pixels over all samples.

    (Everingham et al., IJCV 111, 2015.)  A label is an image ``[h, w]`` of class indices; pixels of
    ``ignore``, and of classes that the network does not have, count nowhere.  The prediction is the highest score of
    ``[n, classes, h, w]`` (``[n, h, w, classes]`` in the layout NHWC, the first of equals), or an output ``[n, h, w]`` of
    class indices itself; it is taken to the label's size by nearest neighbour, row ``i * h_prediction // h_label``.

    Memory: three numbers for each class and sample, for the bootstrap.
    """

    name = "miou"
    better: Literal["higher", "lower"] = "higher"
    unit = Unit.SHARE
    needs: tuple[Need, ...] = ("labels",)

    def __init__(self, *, layout: str = "NCHW", ignore: int = 255, offset: int = 0, output: int = 0) -> None:
        self.layout, self.ignore, self.offset, self.output = layout, ignore, offset, output
        self._counts: list[NDArray[np.int64]] = []  # [3, classes]: intersection, predicted, labelled

    @property
    def chance(self) -> float | None:
        """Unknown: it depends on how much of the images each class fills."""
        return None

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
        predictions, classes = self._predictions(outputs[self.output])
        for prediction, label in zip(predictions, labels, strict=True):
            wanted = np.asarray(label)
            if wanted.ndim == MAP_AXES and 1 in (wanted.shape[0], wanted.shape[-1]):
                wanted = wanted.reshape(wanted.shape[1:] if wanted.shape[0] == 1 else wanted.shape[:-1])
            if wanted.ndim != MAP_AXES - 1 or wanted.dtype.kind not in "ui":
                raise InputMismatch(
                    f"A label of {printable(wanted.dtype)}{list(wanted.shape)} is no image [h, w] of class indices, as "
                    "miou needs."
                )
            self._counts.append(pixel_counts(resized(prediction, wanted.shape), wanted, classes, self.ignore))

    def _predictions(self, output: Array) -> tuple[NDArray[np.int64], int | None]:
        """Class indices ``[n, h, w]`` and the number of classes, None if the output does not show it."""
        if output.ndim == MAP_AXES:
            return output.astype(np.int64) - self.offset, None
        axis = -1 if self.layout == "NHWC" else 1
        if output.ndim != IMAGE_AXES or output.shape[axis] - self.offset < 2:
            raise InputMismatch(
                f"An output of shape {list(output.shape)} holds no scores of two or more classes for each pixel, as miou "
                'needs: check layout in the input contract ("NHWC" if classes come last), or use a metric of your own '
                "(module:function)."
            )
        scores = output[:, self.offset :] if axis == 1 else output[..., self.offset :]
        return scores.argmax(axis), scores.shape[axis]

    def result(self) -> float:
        """The mean over classes.

        Raises:
            NoData: if no pixel with a label came.
        """
        counts = self._all().sum(0)
        if not counts[2].any():
            raise NoData("The metric miou needs pixels with a label other than the ignored one, and none came.")
        return mean_iou(counts)

    def per_sample(self) -> NDArray[np.float64]:
        """The mean over the classes present in each single image; 1 for an image without a labelled pixel."""
        return np.array([mean_iou(c) if c[2].any() else 1.0 for c in self._all()])

    def weighted(self, weights: NDArray[np.float64]) -> float | None:
        """The mean over classes of the weighted counts; None if no labelled pixel has weight."""
        counts = np.tensordot(weights, self._all(), 1)
        return mean_iou(counts) if counts[2].any() else None

    def merge(self, other: Self) -> None:
        """Append the other's counts."""
        self._counts += other._counts

    def _all(self) -> NDArray[np.int64]:
        """``[samples, 3, classes]``, short ones filled with 0."""
        classes = max((c.shape[1] for c in self._counts), default=1)
        result = np.zeros((len(self._counts), 3, classes), np.int64)
        for row, counts in zip(result, self._counts, strict=True):
            row[:, : counts.shape[1]] = counts
        return result


def resized(prediction: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """``prediction`` ``[h, w]`` at another size by nearest neighbour: row ``i`` shows row ``i * h // shape[0]``."""
    if prediction.shape == shape:
        return prediction
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape, prediction.shape, strict=True))
    return np.asarray(prediction[rows][:, columns])


def pixel_counts(prediction: NDArray[Any], label: NDArray[Any], classes: int | None, ignore: int) -> NDArray[np.int64]:
    """Pixels of each class in the intersection, in the prediction and in the label, ``[3, classes]``.

    Without ``classes``, as many as it takes.
    """
    counted = label != ignore
    if classes is not None:
        counted &= label < classes
    predicted, wanted = prediction[counted].astype(np.int64), label[counted].astype(np.int64)
    if min(predicted.min(initial=0), wanted.min(initial=0)) < 0:
        raise InputMismatch("A class index is negative: check the labels, and offset in the input contract.")
    length = classes or int(max(predicted.max(initial=0), wanted.max(initial=0))) + 1
    return np.stack([np.bincount(c, minlength=length) for c in (wanted[predicted == wanted], predicted, wanted)])


def mean_iou(counts: NDArray[Any]) -> float:
    """The mean over the classes that have labelled pixels.

    Args:
        counts: Intersection, predicted and labelled pixels, ``[3, classes]``.
    """
    inside, predicted, wanted = counts.astype(np.float64)
    present = wanted > 0
    return float((inside[present] / (predicted + wanted - inside)[present]).mean())
