"""What the processor is given to do: the steps of a program as window jobs, and what stays on the host, with the reason.

A job reads one tensor (a sum or product: two) through a sliding window and writes one.  Everything that a program's
forms say is put into these few: a dense layer is a window as large as its input, a slice or a shuffle of channels is a
convolution with weights of 0 and 1, and a flattening is a way of looking at a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bitwright.fpga.epilogue import Finish
from bitwright.fpga.isa import Mode
from bitwright.fpga.layout import Layout
from bitwright.program.forms import Axis
from bitwright.program.program import Step

Int8 = NDArray[np.int8]


@dataclass(frozen=True)
class Place:
    """Where a tensor is.

    Attributes:
        storage: Name of the piece of external memory.
        layout: How it lies there.
        pixel_words: Words from one pixel to the next; more than the layout's in a concatenation.
        row_words: Words from one row to the next.
        first_word: The first word of the first pixel.
    """

    storage: str
    layout: Layout
    pixel_words: int
    row_words: int
    first_word: int = 0

    @property
    def end_word(self) -> int:
        """One word past the last one."""
        rows, pixels = self.layout.height - 1, self.layout.width - 1
        return self.first_word + rows * self.row_words + pixels * self.pixel_words + self.layout.words

    @property
    def span_bytes(self) -> int:
        """From the first word to the last, with what lies between pixels: what is read to have it."""
        return (self.end_word - self.first_word) * self.layout.icp

    def every(self, first: tuple[int, int], step: tuple[int, int], count: tuple[int, int]) -> Place:
        """``count`` rows and columns of it from ``first`` on, ``step`` apart."""
        return replace(
            self,
            layout=replace(self.layout, height=count[0], width=count[1]),
            pixel_words=self.pixel_words * step[1],
            row_words=self.row_words * step[0],
            first_word=self.first_word + first[0] * self.row_words + first[1] * self.pixel_words,
        )


def whole(storage: str, layout: Layout) -> Place:
    """A tensor that has its storage for itself."""
    return Place(storage, layout, layout.words, layout.width * layout.words)


@dataclass(frozen=True)
class Window:
    """A sliding window over rows and columns."""

    rows: Axis
    columns: Axis


POINT = Window(Axis(), Axis())


@dataclass(frozen=True, kw_only=True)
class ConvJob:
    """Sums of products on the array, one word of inputs after the other.

    Attributes:
        name: For people.
        layer: Layer of the network.
        macs: Multiply-accumulates that the network asks for.
        steps: Steps of the program.
        source: Tensor read.
        out: Tensor written.
        weights: ``[outputs, kh, kw, input bytes]`` over the bytes of a source pixel.
        bias: ``[outputs]``.
        window: Stride, dilation and padding; its taps are those of ``weights``.
        finish: Sum → result.
        pool: Window of a maximum that follows at once, or None.
        pool_of: Size ``(height, width)`` of what the maximum reads.
        pool_finish: Clamp after the maximum.
        apart: Where the words of a result go if not all to ``out``: in equal shares to these, one after the other.
        also: Further convolutions of the same step, which write elsewhere and read nothing of each other.
    """

    name: str
    layer: str
    macs: int
    steps: tuple[str, ...]
    source: Place
    out: Place
    weights: Int8
    bias: NDArray[np.int64]
    window: Window
    finish: Finish
    pool: Window | None = None
    pool_of: tuple[int, int] = (0, 0)
    pool_finish: Finish | None = None
    apart: tuple[Place, ...] = ()
    also: tuple[ConvJob, ...] = ()

    @property
    def pieces(self) -> tuple[ConvJob, ...]:
        """This one and the others of its step."""
        return (self, *self.also)

    @property
    def sources(self) -> tuple[Place, ...]:
        """What is read."""
        return (self.source,)

    @property
    def written(self) -> tuple[Place, ...]:
        """What is written."""
        return self.apart or (self.out,)

    @property
    def result_words(self) -> int:
        """Words of a pixel of results."""
        return sum(place.layout.words for place in self.written)

    @property
    def dense(self) -> bool:
        """Every output sees every input: a dense layer, or what is one."""
        whole = (self.source.layout.height, self.source.layout.width) == self.weights.shape[1:3]
        return whole and self.out.layout.height == self.out.layout.width == 1


@dataclass(frozen=True, kw_only=True)
class VecJob:
    """A window of the vector unit.

    Attributes:
        name: For people.
        layer: Layer of the network.
        macs: Multiply-accumulates that the network asks for.
        steps: Steps of the program.
        sources: One tensor, or two for sums and products.
        out: Tensor written.
        mode: How taps combine.
        window: Of the one tensor.
        fill: What is outside of the tensor.
        coefficients: For each row of taps, or each tensor.
        weights: ``[kh, kw, bytes]`` over the bytes of a source pixel, for ``Mode.CHANNEL``.
        bias: ``[bytes]``, for ``Mode.CHANNEL``.
        finish: Result of the combination → output.
        table: 256 results in order of the unsigned code, or None.
        copies: Where the same results are written too.
        also: Further windows of the same step, which write elsewhere and read nothing of each other.
    """

    name: str
    layer: str
    macs: int
    steps: tuple[str, ...]
    sources: tuple[Place, ...]
    out: Place
    mode: Mode
    window: Window = POINT
    fill: int = 0
    coefficients: tuple[int, ...] = (1,)
    weights: Int8 | None = None
    bias: NDArray[np.int64] | None = None
    finish: Finish
    table: Int8 | None = None
    copies: tuple[Place, ...] = ()
    also: tuple[VecJob, ...] = ()

    @property
    def pieces(self) -> tuple[VecJob, ...]:
        """This one and the others of its step."""
        return (self, *self.also)

    @property
    def written(self) -> tuple[Place, ...]:
        """What is written."""
        return (self.out, *self.copies)


J = TypeVar("J", ConvJob, VecJob)


def together(jobs: Sequence[J]) -> J:
    """One job of several that write apart."""
    return replace(jobs[0], also=tuple(jobs[1:]))


@dataclass(frozen=True, kw_only=True)
class HostJob:
    """A step that runs on the host, in the same integers.

    Attributes:
        step: The step.
        reason: Why.
        reads: Buffers that must be fetched from the processor.
        writes: Buffers that must be sent to it.
        macs: Multiply-accumulates.
    """

    step: Step
    reason: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    macs: int


Job = ConvJob | VecJob | HostJob


@dataclass(frozen=True)
class Graph:
    """A program for the processor.

    Attributes:
        jobs: In order of execution.
        places: Buffer → where it is, for those in external memory.
        inputs: Buffer of the program's input → places that the host fills.
    """

    jobs: tuple[Job, ...]
    places: Mapping[str, Place]
    inputs: Mapping[str, tuple[Place, ...]]
