"""What a metric is: fed with batches, asked for one figure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import InputMismatch, NoData, printable

__all__ = ["Array", "Labels", "MeanMetric", "Metric", "Need", "Unit", "checked_pairs", "labels_of", "sample_count"]

Array = NDArray[Any]
Labels = Sequence[object] | Array
Need = Literal["labels", "floats", "inputs"]


class Unit(StrEnum):
    """How the figure is printed, and what can be said about it."""

    PROPORTION = "proportion"
    """A share of independent yes-or-no decisions, printed in percent; Wilson interval and McNemar's test apply."""
    SHARE = "share"
    """Between 0 and 1, printed in percent, but not a count of independent decisions."""
    VALUE = "value"
    """Any number."""
    DECIBEL = "dB"


@runtime_checkable
class Metric(Protocol):
    """One figure over all samples, of one network.  Write ``update``, ``result`` and the rest follows from their laws.

    The float and the quantized network each get their own instance, and the same samples in the same order.

    Attributes:
        name: What reports call it.
        better: Whether a larger or a smaller figure is better.
        unit: How it is printed and tested.
        needs: What ``update`` cannot do without.
        chance: The figure of a network that guesses; None where nobody can say.

    Laws, tested on every metric: ``merge`` gives what one instance fed with all batches gives; the size of the batches
    does not matter; ``weighted`` with whole numbers gives what a data set with each sample repeated that often gives.
    """

    name: str
    better: Literal["higher", "lower"]
    unit: Unit
    needs: tuple[Need, ...]

    @property
    def chance(self) -> float | None:
        """The figure of a network that guesses, or None."""
        ...

    def update(
        self,
        outputs: Sequence[Array],
        labels: Labels | None = None,
        *,
        inputs: Array | None = None,
        floats: Sequence[Array] | None = None,
    ) -> None:
        """Take one batch.

        Args:
            outputs: An array for each output of the network, ``[n, ...]``, in real units.
            labels: What is true, one for each of the ``n`` samples.
            inputs: What the network was given, ``[n, ...]``.
            floats: The outputs of the float network for the same samples, shaped as ``outputs``.

        Raises:
            NoData: if something is missing that the metric needs.
            InputMismatch: if shapes or labels do not fit.
        """
        ...

    def result(self) -> float:
        """The figure over everything so far.

        Raises:
            NoData: if nothing came.
        """
        ...

    def per_sample(self) -> NDArray[np.float64] | None:
        """A score for each sample in order, ``[samples]``, if the figure can be compared sample by sample."""
        ...

    def weighted(self, weights: NDArray[np.float64]) -> float | None:
        """The figure as if sample ``i`` had come ``weights[i]`` times, ``[samples]``: what a bootstrap asks for.

        None if the metric cannot tell.
        """
        ...

    def merge(self, other: Self) -> None:
        """Take what ``other`` has seen, as if its samples had come after the own ones."""
        ...


class MeanMetric(ABC):
    """A metric that is the plain mean of one score for each sample.  Memory: 8 bytes a sample."""

    name: str
    better: Literal["higher", "lower"] = "higher"
    unit: Unit = Unit.PROPORTION
    needs: tuple[Need, ...] = ("labels",)

    def __init__(self) -> None:
        self._scores: list[NDArray[np.float64]] = []

    @property
    def chance(self) -> float | None:
        """The figure of a network that guesses: unknown unless a metric says otherwise."""
        return None

    @abstractmethod
    def scores(
        self, outputs: Sequence[Array], labels: Labels | None, inputs: Array | None, floats: Sequence[Array] | None
    ) -> NDArray[np.float64]:
        """A score for each sample of one batch, ``[n]``."""

    def update(
        self,
        outputs: Sequence[Array],
        labels: Labels | None = None,
        *,
        inputs: Array | None = None,
        floats: Sequence[Array] | None = None,
    ) -> None:
        """Take one batch: see ``Metric.update``."""
        self._scores.append(self.scores(outputs, labels, inputs, floats))

    def result(self) -> float:
        """The mean score.

        Raises:
            NoData: if nothing came.
        """
        return float(np.mean(required(self.per_sample(), self.name)))

    def per_sample(self) -> NDArray[np.float64]:
        """The scores, ``[samples]``."""
        self._scores = [np.concatenate(self._scores)] if self._scores else [np.empty(0)]
        return self._scores[0]

    def weighted(self, weights: NDArray[np.float64]) -> float:
        """The weighted mean of the scores."""
        return float(weights @ self.per_sample() / weights.sum())

    def merge(self, other: Self) -> None:
        """Append the other's scores."""
        self._scores += other._scores


def required(scores: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """``scores`` if there is any.

    Raises:
        NoData: if not.
    """
    if not len(scores):
        raise NoData(f"{name} was asked for before any sample came: give at least one sample.")
    return scores


def sample_count(outputs: Sequence[Array], labels: Labels | None, floats: Sequence[Array] | None = None) -> int:
    """How many samples a batch holds.

    The labels tell, for a network may have an output whose first axis is not the batch (then a batch is one sample).
    """
    if not outputs:
        raise InputMismatch("The network has no output, so there is nothing to measure.")
    if labels is not None:
        return len(labels)
    return int((floats or outputs)[0].shape[0]) if outputs[0].ndim else 1


def labels_of(labels: Labels | None, name: str) -> Labels:
    """``labels`` if every sample has one.

    Raises:
        NoData: if not; it says which metrics need none.
    """
    if labels is None or any(label is None for label in labels):
        raise NoData(
            f"The metric {printable(name)} compares outputs with labels, and the data has none (or not for every sample): "
            "give labels (class-named folders, a CSV 'file,label', an .npz with 'y'), or choose --metric agreement or "
            "sqnr, which compare with the float network and need none."
        )
    return labels


def checked_pairs(outputs: Sequence[Array], floats: Sequence[Array] | None, name: str) -> list[tuple[Array, Array]]:
    """Each output beside the float network's.

    Raises:
        NoData: if the float network's outputs were not given.
        InputMismatch: if the two networks differ in number or shape of outputs.
    """
    if floats is None:
        raise NoData(f"The metric {printable(name)} compares with the float network, whose outputs were not given.")
    shapes, expected = [o.shape for o in outputs], [f.shape for f in floats]
    if shapes != expected:
        raise InputMismatch(
            f"The outputs of the two networks differ in shape, {shapes} and {expected}: they are not the same network."
        )
    return list(zip(outputs, floats, strict=True))
