"""mse: mean squared error of a reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import InputMismatch, NoData
from bitwright.metrics.metric import Array, Labels, MeanMetric, Need, Unit

__all__ = ["MeanSquaredError", "squared_errors"]


class MeanSquaredError(MeanMetric):
    """The mean over samples of the mean squared difference between output and label.

    Where the data has no labels that are arrays of the output's size, the network's own input is what it should
    reconstruct (as it saw it, after mean and std).  Computed in float64.
    """

    name = "mse"
    better: Literal["higher", "lower"] = "lower"
    unit = Unit.VALUE
    needs: tuple[Need, ...] = ("inputs",)

    def __init__(self, *, output: int = 0) -> None:
        super().__init__()
        self.output = output

    def scores(
        self, outputs: Sequence[Array], labels: Labels | None, inputs: Array | None, floats: Sequence[Array] | None
    ) -> NDArray[np.float64]:
        """The mean squared error of each sample."""
        output = outputs[self.output]
        wanted = _arrays_like(labels, output)
        if wanted is None:
            if inputs is None:
                raise NoData(
                    "The metric mse needs what the network should reconstruct: labels that are arrays of the output's "
                    "size ('y' in an .npz), or the network's inputs."
                )
            wanted = inputs
        return squared_errors(output, wanted)


def _arrays_like(labels: Labels | None, output: Array) -> NDArray[np.float64] | None:
    if labels is None or any(label is None or np.size(label) * len(labels) != output.size for label in labels):  # type: ignore[arg-type]
        return None
    try:
        return np.stack([np.asarray(label, np.float64).reshape(-1) for label in labels])
    except (ValueError, TypeError):
        return None


def squared_errors(output: Array, wanted: Array) -> NDArray[np.float64]:
    """The mean squared difference of each sample, ``[n]``.

    Raises:
        InputMismatch: if the two differ in size.
    """
    n = len(wanted)
    if n == 0 or output.size != wanted.size:
        raise InputMismatch(
            f"A reconstruction of shape {list(output.shape)} cannot be compared with an input of shape "
            f"{list(wanted.shape)}: give labels that are arrays of the output's size, or use another metric."
        )
    error = output.reshape(n, -1).astype(np.float64) - wanted.reshape(n, -1)
    return np.asarray((error * error).mean(1))
