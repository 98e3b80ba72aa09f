"""auc: area under the receiver operating characteristic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import InputMismatch, NoData, printable
from bitwright.metrics.metric import Array, Labels, Need, Unit, labels_of
from bitwright.metrics.mse import squared_errors

__all__ = ["RocAuc"]


class RocAuc:
    """The probability that a sample of class 1 scores higher than one of class 0, a tie counting one half.

    Equal to the area under the ROC curve (Hanley and McNeil, Radiology 143, 1982).  The score of a sample is its output
    if that is one number, the second minus the first if it is two, and for a reconstruction the mean squared difference
    to its input (anomaly detection).  Memory: 9 bytes a sample.
    """

    name = "auc"
    better: Literal["higher", "lower"] = "higher"
    unit = Unit.SHARE

    def __init__(self, *, reconstruction: bool = False, offset: int = 0, output: int = 0) -> None:
        self.reconstruction, self.offset, self.output = reconstruction, offset, output
        self.needs: tuple[Need, ...] = ("labels", "inputs") if reconstruction else ("labels",)
        self._scores: list[NDArray[np.float64]] = []
        self._positive: list[NDArray[np.bool_]] = []

    @property
    def chance(self) -> float | None:
        """One half."""
        return 0.5

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
        self._positive.append(np.array([_is_positive(label) for label in labels], np.bool_))
        output = outputs[self.output]
        if self.reconstruction:
            if inputs is None:
                raise NoData("The metric auc of a reconstruction compares outputs with inputs, which were not given.")
            self._scores.append(squared_errors(output, inputs))
        else:
            self._scores.append(_scores(output.reshape(len(labels), -1)[:, self.offset :]))

    def result(self) -> float:
        """The area.

        Raises:
            NoData: if samples of both classes have not come.
        """
        scores, positive = self._all()
        if positive.all() or not positive.any():
            raise NoData(
                "The metric auc needs samples of both classes, 0 and 1, and only one of them came: add others."
            )
        return area(scores, positive, np.ones(len(scores)))

    def per_sample(self) -> None:
        """None: the figure is about pairs of samples."""

    def weighted(self, weights: NDArray[np.float64]) -> float | None:
        """The area of the weighted samples; None if a class has no weight."""
        scores, positive = self._all()
        if not weights[positive].any() or not weights[~positive].any():
            return None
        return area(scores, positive, weights)

    def merge(self, other: Self) -> None:
        """Append the other's scores."""
        self._scores += other._scores
        self._positive += other._positive

    def _all(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        if not self._scores:
            raise NoData("auc was asked for before any sample came: give samples of both classes.")
        self._scores, self._positive = [np.concatenate(self._scores)], [np.concatenate(self._positive)]
        return self._scores[0], self._positive[0]


def _is_positive(label: object) -> bool:
    value = np.asarray(label)
    if value.size != 1 or value.item() not in {0, 1}:
        raise InputMismatch(f"The label {printable(repr(label), 60)} is neither 0 nor 1, as auc needs.")
    return bool(value.item() == 1)


def _scores(output: Array) -> NDArray[np.float64]:
    values = output.astype(np.float64)
    match values.shape[1]:
        case 1:
            return np.asarray(values[:, 0])
        case 2:
            return np.asarray(values[:, 1] - values[:, 0])
    raise InputMismatch(
        f"The metric auc needs one or two output values a sample, and this network has {values.shape[1]}: use top1, or a "
        "metric of your own (module:function)."
    )


def area(scores: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    """The Mann-Whitney statistic of weighted samples, divided by its maximum, in O(n log n).

    Each group of equal scores wins against all negatives below it and half of those within it.
    """
    _, group = np.unique(scores, return_inverse=True)
    up = np.bincount(group, weights * positive)
    down = np.bincount(group, weights * ~positive)
    below = np.cumsum(down) - down
    return float((up * (below + down / 2)).sum() / (up.sum() * down.sum()))
