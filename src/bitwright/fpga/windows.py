"""Windows of sums of products: weights over the bytes of a pixel, and transposed convolutions as several windows."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga.config import ProcessorConfig
from bitwright.fpga.jobs import ConvJob, Place, Window, together, whole
from bitwright.fpga.layout import HOLE, Layout
from bitwright.fpga.phases import transposed
from bitwright.program.forms import Axis

Int8 = NDArray[np.int8]

MOST_WORDS = 4095
"""Words of a pixel that an instruction can count."""


def spread_weights(place: Place, weight: NDArray[Any]) -> Int8:
    """Weights ``[O, C, kh, kw]`` over channels → ``[O, kh, kw, bytes]`` over the bytes of a pixel."""
    where = np.asarray(place.layout.channels)
    taken = np.where((where >= 0)[None, :, None, None], weight[:, np.maximum(where, 0)], 0)
    return np.ascontiguousarray(taken.transpose(0, 2, 3, 1).astype(np.int8))


def flattened(place: Place) -> Place | None:
    """A tensor as one pixel whose channels are the elements in the order of flattening, if it lies in one piece."""
    layout = place.layout
    words = layout.height * layout.width * layout.words
    if place != whole(place.storage, layout) or words > MOST_WORDS:
        return None
    where = np.asarray(layout.channels)
    pixels = np.arange(layout.height * layout.width)[:, None]
    element = np.where(where == HOLE, HOLE, where * len(pixels) + pixels)
    return whole(place.storage, Layout(1, 1, tuple(element.reshape(-1).tolist()), layout.icp))


def phased(job: ConvJob, axes: tuple[Axis, Axis], config: ProcessorConfig) -> ConvJob:
    """A transposed convolution as ordinary ones, one for each phase of the rows and columns of its output.

    Where all phases read the same pixels (the stride is the window), they can also be one convolution with more output
    channels whose shares are stored apart; whichever takes fewer cycles.

    Args:
        job: With the weights ``[O, kh, kw, bytes]`` of all taps and the place of the whole output.
        axes: Rows and columns, spread.
        config: The processor.
    """
    layout = job.out.layout
    rows, columns = (transposed(axis, n) for axis, n in zip(axes, (layout.height, layout.width), strict=True))
    made: list[ConvJob] = []
    for row, column in product(rows, columns):
        weights = job.weights[:, list(row.taps)][:, :, list(column.taps)]
        if not weights.size:  # positions that no input reaches: the bias alone
            weights = np.zeros((len(weights), row.axis.taps, column.axis.taps, job.weights.shape[3]), np.int8)
        place = job.out.every((row.first, column.first), (row.step, column.step), (row.count, column.count))
        window = Window(row.axis, column.axis)
        made.append(replace(job, out=place, weights=np.ascontiguousarray(weights), window=window))
    stacked = _stacked(made, config)
    return stacked if stacked is not None else together(made)


def _stacked(jobs: list[ConvJob], config: ProcessorConfig) -> ConvJob | None:
    """Convolutions that read the same as one, if that is possible and not slower."""
    first = jobs[0]
    same = all(job.window == first.window and job.out.layout == first.out.layout for job in jobs)
    if not same or len(jobs) == 1:
        return None
    size = len(first.out.layout.channels)
    weights = np.zeros((size * len(jobs), *first.weights.shape[1:]), np.int8)
    bias = np.zeros(size * len(jobs), np.int64)
    for at, job in enumerate(jobs):
        weights[at * size : at * size + len(job.weights)] = job.weights
        bias[at * size : at * size + len(job.bias)] = job.bias
    words = first.source.layout.words
    steps = first.window.rows.taps * first.window.columns.taps * words
    load = config.pp * words * config.beats_per_word
    apart = len(jobs) * max(-(-len(first.weights) // config.ocp) * steps, load)
    if max(-(-len(weights) // config.ocp) * steps, load) > apart:
        return None
    return replace(first, weights=weights, bias=bias, apart=tuple(job.out for job in jobs))
