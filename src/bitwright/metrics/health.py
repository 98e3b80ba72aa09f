"""What the decisions of a network look like: always the same one, ties, saturation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.metrics.decision import Decider

__all__ = ["Health", "HealthWatch"]


@dataclass(frozen=True)
class Health:
    """Shares of all decisions, each 0 to 1.

    Attributes:
        favorite: The class decided most often.
        constant: Share of decisions for it.
        tied: Share with more than one highest score.
        saturated: Share whose highest score is the highest that the output's format can hold.
        classes: How many classes there are to decide between.
    """

    favorite: int
    constant: float
    tied: float
    saturated: float
    classes: int


class HealthWatch:
    """Collects ``Health`` batch by batch, in memory that does not grow with the samples.

    Args:
        decider: How the output holds scores.
        highest: The highest real value that the output's format can hold; None for floats.
    """

    def __init__(self, decider: Decider, highest: float | None = None) -> None:
        self.decider, self.highest = decider, highest
        self._decided: Counter[int] = Counter()
        self._tied = self._saturated = self._classes = 0

    def update(self, output: NDArray[Any], samples: int) -> None:
        """Take the output ``[n, ...]`` of one batch."""
        scores = self.decider.scores(output, samples)
        self._classes = scores.shape[1]
        best = scores.max(1)
        classes, counts = np.unique(scores.argmax(1), return_counts=True)
        self._decided.update(dict(zip(classes.tolist(), counts.tolist(), strict=True)))
        self._tied += int(((scores == best[:, None]).sum(1) > 1).sum())
        if self.highest is not None:
            self._saturated += int((best >= self.highest).sum())

    def merge(self, other: HealthWatch) -> None:
        """Add what another has seen."""
        self._decided.update(other._decided)
        self._tied += other._tied
        self._saturated += other._saturated
        self._classes = max(self._classes, other._classes)

    def result(self) -> Health:
        """The shares so far; all 0 before the first decision."""
        total = self._decided.total()
        if not total:
            return Health(0, 0.0, 0.0, 0.0, self._classes)
        # Of equally frequent classes the lowest, whatever order the batches came in.
        favorite, often = max(self._decided.items(), key=lambda item: (item[1], -item[0]))
        return Health(favorite, often / total, self._tied / total, self._saturated / total, self._classes)
