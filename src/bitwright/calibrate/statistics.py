"""What calibration knows of a tensor: values that can be added, exactly, in any order.

Every part is an integer count or an extreme, so ``a + b`` is exact, commutative and associative, and the sum over any
division of the data into batches, workers or files equals the whole.  That is also why some things are left out:
sums of floats (mean, variance) depend on the order of addition, and "how long ago did the range last grow" depends on
the order of the samples.  Moments are estimated from the histogram instead (:mod:`bitwright.calibrate.tensor_stats`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from bitwright.calibrate.tensor_stats import TensorStats
from bitwright.errors import CalibrationError, StaleCalibration, printable

if TYPE_CHECKING:
    from bitwright.calibrate.placing import Placed

__all__ = ["Statistics", "TensorStats"]


def _merged(a: Mapping[str, TensorStats], b: Mapping[str, TensorStats]) -> dict[str, TensorStats]:
    return {name: a.get(name, TensorStats()) + b.get(name, TensorStats()) for name in sorted({*a, *b})}


@dataclass(frozen=True)
class Statistics:
    """The statistics of a network's tensors over some samples.

    ``a + b`` adds the activations of two runs of one network over different samples; ``Statistics()`` is its identity.
    Weights and biases belong to the network, so they are kept, not added.  Adding the same samples twice counts them
    twice: which samples a run saw is not recorded, only the fingerprint of the source.

    Attributes:
        network: Fingerprint of the network, empty for the identity.
        data: Fingerprints of the sources, sorted, without repetition.
        samples: Number of samples seen.
        activations: By tensor name, graph inputs included.
        weights: By the name of the initializer.
        biases: By the name of the initializer.
        partial: True if the run that made it was stopped before its source ended.
        placed: Formats and ranges of another tool, which come before what was observed; None if there are none.
    """

    VERSION: ClassVar[int] = 1

    network: str = ""
    data: tuple[str, ...] = ()
    samples: int = 0
    activations: Mapping[str, TensorStats] = field(default_factory=dict)
    weights: Mapping[str, TensorStats] = field(default_factory=dict)
    biases: Mapping[str, TensorStats] = field(default_factory=dict)
    partial: bool = False
    placed: Placed | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", tuple(sorted(set(self.data))))
        for name in ("activations", "weights", "biases"):
            ordered = {key: getattr(self, name)[key] for key in sorted(getattr(self, name))}
            object.__setattr__(self, name, MappingProxyType(ordered))

    def __hash__(self) -> int:
        return hash((self.network, self.data, self.samples))

    def __getitem__(self, tensor: str) -> TensorStats:
        """The statistics of an activation, weight or bias.

        Raises:
            KeyError: if the tensor was not observed.
        """
        for part in (self.activations, self.weights, self.biases):
            if tensor in part:
                return part[tensor]
        raise KeyError(f"no statistics of tensor {printable(tensor)!r} were collected")

    def __contains__(self, tensor: object) -> bool:
        return tensor in self.activations or tensor in self.weights or tensor in self.biases

    def __iter__(self) -> Iterator[str]:
        yield from self.activations
        yield from self.weights
        yield from self.biases

    def __add__(self, other: object) -> Statistics:
        if not isinstance(other, Statistics):
            return NotImplemented
        if self.network and other.network:
            other.check(network=self.network)
        if self.placed is not None and other.placed is not None and self.placed != other.placed:
            raise CalibrationError(
                "These calibrations hold numbers from two different files of other tools, which cannot be added. Use one of "
                "them."
            )
        return Statistics(
            self.network or other.network,
            self.data + other.data,
            self.samples + other.samples,
            _merged(self.activations, other.activations),
            {**self.weights, **other.weights},
            {**self.biases, **other.biases},
            self.partial or other.partial,
            self.placed if self.placed is not None else other.placed,
        )

    def __radd__(self, other: object) -> Statistics:
        """So that ``sum(parts)`` works, which starts from the integer 0."""
        return self if other == 0 else NotImplemented

    def check(self, *, network: str | None = None, data: str | None = None) -> None:
        """Refuse to be used for another network, or as the statistics of another source of samples.

        Args:
            network: Fingerprint that the network must have, if it matters.
            data: Fingerprint that must be the only source of the statistics, if it matters.

        Raises:
            StaleCalibration: if a fingerprint differs.
        """
        if network is not None and network != self.network:
            raise StaleCalibration(
                f"These calibration statistics belong to another network (fingerprint {self.network[:12] or 'none'}, "
                f"this one has {network[:12]}): its structure or weights changed since. Calibrate again.",
                expected=network,
                found=self.network,
            )
        if data is not None and self.data != (data,):
            found = ", ".join(name[:12] for name in self.data)
            raise StaleCalibration(
                f"These calibration statistics were collected on other data (fingerprint {found or 'none'}, this "
                f"source has {data[:12]}). Calibrate again, or leave out the data to use them as they are.",
                expected=data,
                found=found,
            )
