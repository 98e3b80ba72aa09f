"""Two quantized networks, tensor by tensor: formats, and what each is estimated to cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bitwright.quantized import Quantized, open_quantized
from bitwright.shown import Shown
from bitwright.tensors import TensorReport, tensor_reports

if TYPE_CHECKING:
    import os

ENOUGH_DB = 60.0
"""Above it nothing shows in a network of 8 bits: 100 dB are no better than 60 where differences are ranked."""


@dataclass(frozen=True, kw_only=True)
class TensorPair:
    """One tensor in both networks.

    Attributes:
        a: As the first network has it.
        b: As the second has it.
    """

    a: TensorReport
    b: TensorReport

    @property
    def same_format(self) -> bool:
        """Whether both store it alike."""
        return self.a.format == self.b.format

    @property
    def gain_db(self) -> float | None:
        """By how much the second stores it better, what is beyond ``ENOUGH_DB`` left out; None if unknown."""
        if self.a.sqnr_db is None or self.b.sqnr_db is None:
            return None
        return min(self.b.sqnr_db, ENOUGH_DB) - min(self.a.sqnr_db, ENOUGH_DB)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "tensor": self.a.tensor,
            "layer": self.a.layer,
            "kind": self.a.kind,
            "same_format": self.same_format,
            "gain_db": self.gain_db,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
        }


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two networks.

    Attributes:
        name: The network.
        target: Its target.
        schemes: Role → scheme.
        learnable_bytes: Bytes of weights and biases.
        integer_mac_share: 0 to 1.
        samples: Calibration samples.
        fingerprint: Of the float network.
    """

    name: str
    target: str
    schemes: dict[str, str]
    learnable_bytes: int
    integer_mac_share: float
    samples: int
    fingerprint: str

    @classmethod
    def of(cls, q: Quantized) -> Side:
        """What ``q`` says of itself."""
        return cls(
            name=q.name,
            target=q.program.target,
            schemes={str(k): str(v) for k, v in dict(q.provenance.get("schemes", {})).items()},
            learnable_bytes=q.program.learnable_bytes,
            integer_mac_share=q.program.integer_mac_share,
            samples=int(q.provenance.get("calibration_samples", 0)),
            fingerprint=str(q.provenance.get("fingerprint", "")),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "network": self.name,
            "target": self.target,
            "schemes": self.schemes,
            "learnable_bytes": self.learnable_bytes,
            "integer_mac_share": self.integer_mac_share,
            "calibration_samples": self.samples,
            "fingerprint": self.fingerprint,
        }


@dataclass(frozen=True, kw_only=True)
class NetworkComparison(Shown):
    """Two quantized networks.

    Attributes:
        a: The first.
        b: The second.
        tensors: In both, the largest difference of quality first; biases last, for what they lose counts beside the
            layer's output, not beside the bias, which may be next to nothing.
        only_a: Tensors that only the first holds in integers.
        only_b: Tensors that only the second does.
        notes: What limits the comparison, in sentences.
    """

    a: Side
    b: Side
    tensors: tuple[TensorPair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def different(self) -> int:
        """How many tensors have another format."""
        return sum(not pair.same_format for pair in self.tensors)

    @property
    def mean_gain_db(self) -> float | None:
        """Mean gain over the weights and activations where it is known."""
        gains = [pair.gain_db for pair in self.tensors if pair.gain_db is not None and pair.a.kind != "Bias"]
        return sum(gains) / len(gains) if gains else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "totals": {
                "tensors": len(self.tensors),
                "different_formats": self.different,
                "mean_gain_db": self.mean_gain_db,
                "better_in_b": sum((pair.gain_db or 0) > 0 for pair in self.tensors),
                "worse_in_b": sum((pair.gain_db or 0) < 0 for pair in self.tensors),
            },
            "tensors": [pair.to_json() for pair in self.tensors],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "notes": list(self.notes),
        }


def compare(a: Quantized | str | os.PathLike[str], b: Quantized | str | os.PathLike[str]) -> NetworkComparison:
    """Compare two quantized networks by what their files hold; nothing is run.

    The signal to noise of activations is estimated from the histograms of the calibration, that of weights and biases
    is exact.

    Args:
        a: A quantized network or its ``.bw`` file.
        b: Another.

    Raises:
        BadModelFile: if a file cannot be read.
        ModelError: if a float network is not in its file and cannot be found.
    """
    first, second = open_quantized(a), open_quantized(b)
    side_a, side_b = Side.of(first), Side.of(second)
    notes = []
    judges = [first.statistics, second.statistics]
    if side_a.fingerprint != side_b.fingerprint:
        notes.append("These are different float networks; tensors are paired by name.")
    elif judges[0] != judges[1]:
        # One measure for both: a tensor in one format must not look better for having been seen on other samples.
        best = max((s for s in judges if s is not None), key=lambda s: s.samples)
        judges = [best, best]
        notes.append(f"Activations of both are judged by one calibration, of {best.samples} samples.")
    for side, statistics in ((side_a, judges[0]), (side_b, judges[1])):
        if statistics is None:
            notes.append(f"{side.name} for {side.target} carries no calibration: its activations cannot be judged.")
    of_a, of_b = (
        {report.tensor: report for report in tensor_reports(q, statistics)}
        for q, statistics in zip((first, second), judges, strict=True)
    )
    pairs = [TensorPair(a=of_a[name], b=of_b[name]) for name in of_a if name in of_b]
    if not pairs:
        notes.append("They have no tensor in common.")
    return NetworkComparison(
        a=side_a,
        b=side_b,
        tensors=tuple(sorted(pairs, key=lambda pair: (pair.a.kind == "Bias", -_weight(pair)))),
        only_a=tuple(name for name in of_a if name not in of_b),
        only_b=tuple(name for name in of_b if name not in of_a),
        notes=tuple(notes),
    )


def _weight(pair: TensorPair) -> float:
    """How high a tensor stands: by its difference, known or at least in format."""
    if pair.gain_db is None:
        return 0.0 if pair.same_format else math.ulp(1.0)
    return abs(pair.gain_db)
