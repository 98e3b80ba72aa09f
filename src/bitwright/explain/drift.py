"""Were the calibration samples enough, and were they like these?

If calibration and validation samples come from the same source, a tensor's largest value is as likely to be in any of
the samples.  So among ``n`` validation and ``m`` calibration samples it is among the former with the chance ``n/(n+m)``,
whatever the distribution.  If many more tensors leave their calibrated range, the ranges were still growing when
calibration ended, or the samples were others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bitwright.calibrate.statistics import Statistics
from bitwright.explain.split import chosen
from bitwright.explain.subject import Subject
from bitwright.number.format import Format

if TYPE_CHECKING:
    from collections.abc import Mapping

TOO_NARROW = 2.0
TOO_WIDE = 4.0
"""A format is stale if the data at hand ask for a step so many times coarser, or finer."""
GROWN = 1.4
"""And its range must really have grown by so much: a step of a power of two may double for a trifle."""
UNLIKE = 0.5
"""Input ranges shifted or scaled by as much (of a standard deviation, or of one octave) were prepared otherwise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drift:
    """Calibration against the samples at hand.

    Attributes:
        calibrated: Calibration samples.
        seen: Samples at hand.
        narrow: Tensor → how many times coarser its step would be with these samples.
        wide: Tensor → how many times finer.
        beyond: Share of the tensors whose largest magnitude here is above that of calibration.
        expected: The share that chance explains.
        growth: Median over the tensors of largest magnitude here to that of calibration.
        input_shift: Difference of the means of the first input, in standard deviations of calibration.
        input_ratio: Standard deviation of the first input here over that in calibration.
    """

    calibrated: int
    seen: int
    narrow: Mapping[str, float]
    wide: Mapping[str, float]
    beyond: float
    expected: float
    growth: float
    input_shift: float
    input_ratio: float

    @property
    def inputs_differ(self) -> bool:
        """Whether the inputs themselves are prepared otherwise, not only other pictures."""
        ratio = self.input_ratio
        scaled = ratio <= 0 or abs(math.log2(ratio)) > 2 * UNLIKE
        return scaled or abs(self.input_shift) > 2 * UNLIKE

    @property
    def significant(self) -> bool:
        """Whether more tensors leave their range than chance and a wide margin explain."""
        return self.beyond > self.expected + 0.25

    def numbers(self) -> dict[str, Any]:
        """For reports."""
        return {
            "calibration_samples": self.calibrated,
            "samples": self.seen,
            "tensors_beyond_range": self.beyond,
            "tensors_beyond_range_expected": self.expected,
            "range_growth": self.growth,
            "input_mean_shift": self.input_shift,
            "input_deviation_ratio": self.input_ratio,
            "formats_too_narrow": len(self.narrow),
            "formats_too_wide": len(self.wide),
        }


def drift_of(subject: Subject, here: Statistics) -> Drift:
    """Compare the calibration of ``subject`` with the statistics of the samples at hand, of the same network."""
    before = subject.statistics
    narrow: dict[str, float] = {}
    wide: dict[str, float] = {}
    growth, beyond = list[float](), 0
    for tensor, stats in here.activations.items():
        old = before.activations.get(tensor)
        if old is None or not old.finite or not stats.finite or tensor in subject.spec.integer:
            continue
        if old.absmax > 0:
            growth.append(stats.absmax / old.absmax)
            beyond += stats.absmax > old.absmax
        ratio = step(chosen(subject, tensor, stats)) / step(chosen(subject, tensor, old))
        # The step in use may be another than the scheme's: after repairs it is judged by itself.
        used = subject.formats.activations.get(tensor)
        if used is None:
            continue
        grown = stats.absmax / max(old.absmax, 1e-30)
        if ratio >= TOO_NARROW and grown >= GROWN and reach(used) < stats.absmax:
            narrow[tensor] = ratio
        elif ratio <= 1 / TOO_WIDE and reach(used) >= TOO_WIDE * stats.absmax:
            wide[tensor] = 1 / ratio
    shift, scaled = _inputs(before, here, subject)
    return Drift(
        calibrated=before.samples,
        seen=here.samples,
        narrow=narrow,
        wide=wide,
        beyond=beyond / max(1, len(growth)),
        expected=here.samples / max(1, here.samples + before.samples),
        growth=float(np.median(growth)) if growth else 1.0,
        input_shift=shift,
        input_ratio=scaled,
    )


def _inputs(before: Statistics, here: Statistics, subject: Subject) -> tuple[float, float]:
    first = next((t for t in subject.spec.inputs if t not in subject.spec.integer), None)
    if first is None or first not in before.activations or first not in here.activations:
        return 0.0, 1.0
    (mean, variance), (now, other) = (part.activations[first].moments() for part in (before, here))
    deviation = math.sqrt(variance) or 1.0
    return (now - mean) / deviation, math.sqrt(other) / deviation


def step(format: Format) -> float:
    """The (largest) step."""
    return float(np.max(format.scale))


def reach(format: Format) -> float:
    """The largest magnitude that the format holds, half a step allowed."""
    low, high = (float(np.max(np.abs(v))) for v in format.real_range)
    return max(low, high) + step(format) / 2
