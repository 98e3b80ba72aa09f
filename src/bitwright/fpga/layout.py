"""How a tensor lies in external memory: pixel after pixel, channels innermost and padded to whole words.

A channel may lie anywhere and a place may be empty, so that concatenations, slices and shuffles of channels are a
matter of names: who reads the tensor sorts his weights instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

HOLE = -1


@dataclass(frozen=True)
class Columns:
    """Neighboring columns gathered into one pixel, so that few input channels fill the array's width.

    Attributes:
        taps: Columns gathered.
        stride: Columns from one pixel to the next.
        dilation: Columns from one tap to the next.
        before: Columns of zeros on the left.
        width: Pixels.
    """

    taps: int
    stride: int
    dilation: int
    before: int
    width: int

    def gather(self, x: NDArray[Any]) -> NDArray[Any]:
        """``[channels, height, width]`` → ``[taps * channels, height, self.width]``."""
        at = np.arange(self.width) * self.stride + np.arange(self.taps)[:, None] * self.dilation - self.before
        inside = (at >= 0) & (at < x.shape[2])
        seen = np.where(inside[:, None, None, :], x[:, :, np.clip(at, 0, x.shape[2] - 1)].transpose(2, 0, 1, 3), 0)
        return np.asarray(seen.reshape(-1, x.shape[1], self.width))


@dataclass(frozen=True)
class Layout:
    """Where the elements of a tensor ``[channels, height, width]`` are.

    Attributes:
        height: Rows.
        width: Pixels of a row.
        channels: Channel of each byte of a pixel, or ``HOLE``; a whole number of words.
        icp: Bytes of a word.
        columns: Gathering of columns that comes first, if any; then channels are ``tap * channels + channel``.
    """

    height: int
    width: int
    channels: tuple[int, ...]
    icp: int
    columns: Columns | None = None

    @property
    def words(self) -> int:
        """Words of a pixel."""
        return len(self.channels) // self.icp

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor."""
        return self.height * self.width * len(self.channels)

    def pack(self, x: NDArray[np.int8]) -> NDArray[np.uint8]:
        """The bytes ``[height, width, words * icp]`` of ``x``, ``[channels, height, width]``; holes are 0."""
        source = x if self.columns is None else self.columns.gather(x)
        where = np.asarray(self.channels)
        taken = np.where((where >= 0)[:, None, None], source[np.maximum(where, 0)], 0)
        return np.ascontiguousarray(taken.transpose(1, 2, 0).astype(np.int8)).view(np.uint8)

    def unpack(self, data: NDArray[np.uint8], count: int) -> NDArray[np.int8]:
        """The inverse of :meth:`pack` for ``count`` channels; without gathered columns."""
        pixels = data.reshape(self.height, self.width, len(self.channels)).view(np.int8)
        where = {channel: at for at, channel in reversed(list(enumerate(self.channels))) if channel != HOLE}
        return np.ascontiguousarray(pixels[:, :, [where[c] for c in range(count)]].transpose(2, 0, 1))


def padded(count: int, icp: int) -> tuple[int, ...]:
    """Channels ``0 .. count - 1`` in order, then holes up to a whole word."""
    return (*range(count), *([HOLE] * (-count % icp)))


def spatial(shape: Sequence[int]) -> tuple[int, int, int]:
    """``(channels, height, width)`` of a tensor ``[1, channels, ...]`` with up to two more axes."""
    channels, *rest = shape[1:]
    height, width = {0: (1, 1), 1: (1, *rest), 2: tuple(rest)}[len(rest)]
    return channels, height, width
