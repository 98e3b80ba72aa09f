"""What a contraction multiplies its weights with, at chosen places of its output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitwright.program.forms import Contract
from bitwright.simulate.reference import placed

Places = NDArray[np.int64]


def output_sizes(form: Contract, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Spatial shape of the output for an input of ``shape`` ``[n, channels, *size]``."""
    return tuple(axis.outputs(n) for axis, n in zip(form.axes, shape[2:], strict=True))


def patches(form: Contract, x: NDArray[np.integer], places: Places, taps: tuple[int, ...]) -> NDArray[np.float32]:
    """Inputs of the chosen outputs.

    Args:
        form: The contraction.
        x: Integers ``[n, channels, *size]``.
        places: Flat positions in the output, ``[n, p]``.
        taps: Kernel shape.

    Returns:
        ``[groups, n * p, channels / groups * taps]``: input less zero point, in the order of the weights.
    """
    n, channels = x.shape[:2]
    sizes = output_sizes(form, x.shape)
    at = np.stack(np.unravel_index(places, sizes), axis=-1) if sizes else np.zeros((*places.shape, 0), np.int64)
    kernel = np.stack(np.unravel_index(np.arange(int(np.prod(taps))), taps), axis=-1) if taps else np.zeros((1, 0), int)
    found = []
    for sample, where in zip(x, at, strict=True):
        padded = placed(sample[None], form.axes, form.input_zero)[0]
        flat = padded.reshape(channels, -1)
        index = np.zeros((len(where), len(kernel)), np.int64)
        for d, axis in enumerate(form.axes):
            index = index * padded.shape[1 + d] + where[:, None, d] * axis.stride + kernel[None, :, d] * axis.dilation
        found.append((flat[:, index] - form.input_zero).astype(np.float32))  # [channels, p, taps]
    stacked = np.stack(found)  # [n, channels, p, taps]
    grouped = stacked.reshape(n, form.groups, channels // form.groups, *stacked.shape[2:])
    return np.ascontiguousarray(grouped.transpose(1, 0, 3, 2, 4)).reshape(form.groups, n * at.shape[1], -1)
