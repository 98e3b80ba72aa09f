"""agreement: does the quantized network decide as the float network does?  Needs no labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bitwright.metrics.decision import Decider
from bitwright.metrics.metric import Array, Labels, MeanMetric, Need, Unit, checked_pairs, sample_count

__all__ = ["Agreement"]


class Agreement(MeanMetric):
    """The share of decisions (argmax, the first of equals) that are the float network's.

    A segmentation decides at every pixel and a language model at every token: there a sample's score is its share.  For
    an output that holds no classes it is the share of samples whose largest element is in the same place.
    """

    name = "agreement"
    needs: tuple[Need, ...] = ("floats",)

    def __init__(self, *, decider: Decider | None = None, output: int = 0) -> None:
        super().__init__()
        self.decider, self.output = decider or Decider(), output

    def scores(
        self, outputs: Sequence[Array], labels: Labels | None, inputs: Array | None, floats: Sequence[Array] | None
    ) -> NDArray[np.float64]:
        """1 where the decision is the same; the share of positions where there are several."""
        own, other = checked_pairs(outputs, floats, self.name)[self.output]
        n = sample_count([own], labels, floats)
        same = self.decider.decide(own, n) == self.decider.decide(other, n)
        if same.shape[1] > 1:
            self.unit = Unit.SHARE
        return np.asarray(same.mean(1))
