"""What passes ask to see of the data: extremes and energy of every channel, and a few of its values, in one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.passes._pass import Needs

if TYPE_CHECKING:
    from bitwright.network.network import Network

ROWS = 1024
"""Values of each channel that are kept."""


@dataclass(frozen=True, eq=False)
class ChannelStats:
    """What the channels (axis 1) of a tensor held over all samples.

    Attributes:
        lo: Smallest value, float32 ``[channels]``.
        hi: Largest value, float32 ``[channels]``.
        mean: float64 ``[channels]``.
        energy: Mean of the squares, float64 ``[channels]``.
        places: Values of one channel in one sample.
    """

    lo: NDArray[np.float32]
    hi: NDArray[np.float32]
    mean: NDArray[np.float64]
    energy: NDArray[np.float64]
    places: int

    @property
    def absmax(self) -> NDArray[np.float64]:
        """Largest magnitude, ``[channels]``."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi)).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Observed:
    """What was seen.

    Attributes:
        channels: Tensor → its channels.
        samples: Tensor → about :data:`ROWS` places of it, evenly spread over the samples, float32 ``[rows, channels]``.
        count: Number of samples.
    """

    channels: Mapping[str, ChannelStats] = field(default_factory=dict)
    samples: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    count: int = 0


class _Tally:
    """Running sums of one tensor."""

    def __init__(self) -> None:
        self.lo: NDArray[Any] | None = None
        self.hi: NDArray[Any] = np.zeros(0)
        self.sum: NDArray[Any] = np.zeros(0)
        self.squares: NDArray[Any] = np.zeros(0)
        self.count = self.places = 0

    def add(self, x: NDArray[np.float32]) -> None:
        flat = x.reshape(*x.shape[:2], -1)
        axes = (0, 2)
        lo, hi, total = flat.min(axes), flat.max(axes), flat.sum(axes, dtype=np.float64)
        squares = np.einsum("ncp,ncp->c", flat, flat).astype(np.float64)
        if self.lo is None:
            self.lo, self.hi, self.sum, self.squares = lo, hi, total, squares
        else:
            self.lo, self.hi = np.minimum(self.lo, lo), np.maximum(self.hi, hi)
            self.sum, self.squares = self.sum + total, self.squares + squares
        self.places = flat.shape[2]
        self.count += flat.shape[0] * flat.shape[2]

    def value(self) -> ChannelStats:
        assert self.lo is not None
        return ChannelStats(self.lo, self.hi, self.sum / self.count, self.squares / self.count, self.places)


def collect(net: Network, needs: Needs, batches: Iterable[Mapping[str, NDArray[Any]]], *, count: int) -> Observed:
    """Run ``net`` over batches and keep what ``needs`` asks for.

    Args:
        net: The float network.
        needs: What is wanted; ``statistics`` are given as ``channels``.
        batches: Arrays by input name.
        count: Number of samples in all, which says how many places of each are kept.
    """
    wanted = [t for t in dict.fromkeys((*needs.statistics, *needs.channels, *needs.samples)) if t]
    inner = [t for t in wanted if t not in net.inputs]
    session = net.session(inner)
    tallies = {t: _Tally() for t in dict.fromkeys((*needs.statistics, *needs.channels))}
    rows: dict[str, list[NDArray[np.float32]]] = {t: [] for t in needs.samples}
    done = 0
    for feeds in batches:
        arrays = dict(feeds)
        if inner:
            arrays.update(zip(inner, session.run(inner, dict(feeds)), strict=True))
        for tensor in wanted:
            x = np.asarray(arrays[tensor], np.float32)
            if tensor in tallies:
                tallies[tensor].add(x)
            if tensor in rows:
                rows[tensor].extend(_places(x, count, done))
        done += len(next(iter(feeds.values())))
    return Observed(
        {t: tally.value() for t, tally in tallies.items()},
        {t: np.concatenate(parts) for t, parts in rows.items()},
        done,
    )


def _places(x: NDArray[np.float32], count: int, first: int) -> Iterator[NDArray[np.float32]]:
    """Some places of each sample of ``x [n, channels, ...]``: other ones in each, the same ones every time."""
    flat = x.reshape(*x.shape[:2], -1)
    size = flat.shape[2]
    each = min(size, max(1, ROWS // max(count, 1)))
    for i, sample in enumerate(flat):
        at = np.random.default_rng(first + i).choice(size, each, replace=False)
        yield sample[:, np.sort(at)].T
