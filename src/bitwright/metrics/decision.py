"""From an output to decisions: which class, at which position, and was it a tie?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.errors import InputMismatch

__all__ = ["Decider"]

IMAGE_AXES = 4
SEQUENCE_AXES = 3


@dataclass(frozen=True)
class Decider:
    """How an output holds scores of classes.

    Attributes:
        task: Task of the input contract.  ``segmentation`` decides at every pixel, ``language model`` at every token,
            all others once for each sample.
        layout: ``NHWC`` puts the classes of a segmentation last, anything else second.
        offset: Index of the first class in the output.
    """

    task: str = "classification"
    layout: str = "NCHW"
    offset: int = 0

    def scores(self, output: NDArray[Any], samples: int) -> NDArray[Any]:
        """``output`` as ``[samples, classes, positions]``.

        Raises:
            InputMismatch: if the output does not divide into that many samples, or holds fewer classes than the offset.
        """
        if samples == 0 or output.size % samples:
            raise InputMismatch(f"An output of shape {list(output.shape)} cannot be that of {samples} samples.")
        classes = output.reshape(samples, -1, 1)
        if self.task == "segmentation" and output.ndim == IMAGE_AXES:
            classes = np.moveaxis(output, -1, 1) if self.layout == "NHWC" else output
            classes = classes.reshape(samples, classes.shape[1], -1)
        elif self.task == "language model" and output.ndim == SEQUENCE_AXES:
            classes = np.moveaxis(output, -1, 1)
        if classes.shape[1] <= self.offset:
            raise InputMismatch(
                f"The input contract says that classes start at {self.offset}, but an output of shape "
                f"{list(output.shape)} has {classes.shape[1]} values for each decision: correct offset under [output]."
            )
        return classes[:, self.offset :]

    def decide(self, output: NDArray[Any], samples: int) -> NDArray[np.intp]:
        """The class at each position, ``[samples, positions]``; of equal scores the first class wins."""
        return np.asarray(self.scores(output, samples).argmax(1))
