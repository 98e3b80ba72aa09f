"""top1, top5: is the label among the k highest scores?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import InputMismatch, printable
from bitwright.metrics.decision import Decider
from bitwright.metrics.metric import Array, Labels, MeanMetric, Unit, labels_of

__all__ = ["TopK"]


class TopK(MeanMetric):
    """The share of labels that are among the ``k`` highest scores.

    Of equal scores the lower class index ranks first (as a stable descending sort orders them), which matters for
    integers: they tie.  A NaN is not a score, so a label whose own score is NaN is never found, and NaN outranks none.

    With several positions a sample (a language model's tokens) the score of a sample is its share of right positions.
    """

    def __init__(self, k: int = 1, *, decider: Decider | None = None, output: int = 0) -> None:
        super().__init__()
        self.k, self.decider, self.output = k, decider or Decider(), output
        self.name = f"top{k}"
        self._classes: int | None = None

    @property
    def chance(self) -> float | None:
        """``k`` of the classes, once an output has shown how many there are."""
        return None if self._classes is None else min(1.0, self.k / self._classes)

    def scores(
        self, outputs: Sequence[Array], labels: Labels | None, inputs: Array | None, floats: Sequence[Array] | None
    ) -> NDArray[np.float64]:
        """1 where the label was found; the share of positions where there are several."""
        labels = labels_of(labels, self.name)
        scores = self.decider.scores(outputs[self.output], len(labels))
        _, self._classes, positions = scores.shape
        if positions > 1:
            self.unit = Unit.SHARE
        wanted = _class_indices(labels, positions, self._classes, self.decider.offset)
        return np.asarray(found(scores, wanted, self.k).mean(1))


def found(scores: NDArray[Any], labels: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Whether each label ranks under the first ``k``.

    Args:
        scores: ``[samples, classes, positions]``.
        labels: ``[samples, positions]``.
        k: How many ranks count.

    Returns:
        ``[samples, positions]``.
    """
    own = np.take_along_axis(scores, labels[:, None], 1)
    before = np.arange(scores.shape[1])[None, :, None] < labels[:, None]
    rank = ((scores > own) | ((scores == own) & before)).sum(1)
    return np.asarray((rank < k) & ~np.isnan(own[:, 0]))


def _class_indices(labels: Labels, positions: int, classes: int, offset: int) -> NDArray[np.int64]:
    try:
        given = np.stack([np.asarray(label) for label in labels]).reshape(len(labels), positions)
        whole = given.astype(np.int64)
        if not np.array_equal(whole, given):
            raise ValueError
    except (ValueError, TypeError) as error:
        what = "a class index" if positions == 1 else f"{positions} class indices"
        raise InputMismatch(
            f"The label {printable(repr(labels[0]), 60)} is not {what}: top-k needs {what} for each sample."
        ) from error
    wrong = (whole < 0) | (whole >= classes)
    if wrong.any():
        raise InputMismatch(
            f"The label {whole[wrong][0]} is not a class of this network, whose output has the classes 0 to {classes - 1}"
            f" (after an offset of {offset}): labels and network do not belong together, or offset under [output] of "
            "the input contract is wrong."
        )
    return whole
