"""Samples in memory as a source of batches, for observing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from bitwright.calibrate.observe import observe
from bitwright.data.batch import Batch
from bitwright.mend.bench import in_batches

if TYPE_CHECKING:
    from bitwright.calibrate.statistics import Statistics
    from bitwright.network.network import Network


@dataclass(frozen=True, eq=False)
class InMemory:
    """Arrays ``[n, ...]`` by input name; see :class:`bitwright.calibrate.observe.Batches`."""

    network: Network
    arrays: Mapping[str, NDArray[Any]]

    @property
    def fingerprint(self) -> str:
        """Nothing tells them apart from others."""
        return ""

    def batches(self, size: int = 16) -> Iterator[Batch]:
        """``size`` samples at a time."""
        done = 0
        for feeds in in_batches(self.network, self.arrays, size):
            count = len(next(iter(feeds.values())))
            indices = tuple(range(done, done + count))
            yield Batch(dict(feeds), None, indices, tuple(map(str, indices)))
            done += count


def observed(network: Network, arrays: Mapping[str, NDArray[Any]]) -> Statistics:
    """The statistics of a network over samples in memory."""
    return observe(network, InMemory(network, arrays))
