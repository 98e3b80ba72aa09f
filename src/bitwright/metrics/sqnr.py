"""sqnr: how much louder the outputs are than their quantization error.  Needs no labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import NoData
from bitwright.metrics.metric import Array, Labels, Need, Unit, checked_pairs, sample_count

__all__ = ["OutputSqnr"]


class OutputSqnr:
    """Signal to quantization noise ratio of all outputs, ``10 log10(sum(f^2) / sum((q - f)^2))``, in dB.

    Sums run over every element of every output and sample, in float64.  Equal outputs give infinity.  Memory: 16 bytes
    a sample, for the bootstrap.
    """

    name = "sqnr"
    better: Literal["higher", "lower"] = "higher"
    unit = Unit.DECIBEL
    needs: tuple[Need, ...] = ("floats",)

    def __init__(self) -> None:
        self._sums: list[NDArray[np.float64]] = []  # [n, 2]: signal and noise energy of each sample

    @property
    def chance(self) -> float | None:
        """An output that is always 0 has the noise of its signal: 0 dB."""
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
        pairs = checked_pairs(outputs, floats, self.name)
        sums = np.zeros((sample_count(outputs, labels, floats), 2))
        for q, f in pairs:
            signal = np.asarray(f, np.float64).reshape(len(sums), -1)
            noise = np.asarray(q, np.float64).reshape(len(sums), -1) - signal
            sums[:, 0] += (signal * signal).sum(1)
            sums[:, 1] += (noise * noise).sum(1)
        self._sums.append(sums)

    def result(self) -> float:
        """The ratio in dB.

        Raises:
            NoData: if nothing came.
        """
        sums = self._all()
        if not len(sums):
            raise NoData("sqnr was asked for before any sample came: give at least one sample.")
        return decibel(*sums.sum(0))

    def per_sample(self) -> None:
        """None: the float network's own ratio is infinite, so there is nothing to pair."""

    def weighted(self, weights: NDArray[np.float64]) -> float:
        """The ratio of the weighted energies."""
        return decibel(*(weights @ self._all()))

    def merge(self, other: Self) -> None:
        """Append the other's energies."""
        self._sums += other._sums

    def _all(self) -> NDArray[np.float64]:
        self._sums = [np.concatenate(self._sums)] if self._sums else [np.empty((0, 2))]
        return self._sums[0]


def decibel(signal: float, noise: float) -> float:
    """``10 log10(signal / noise)``; infinity without noise, minus infinity without signal."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
