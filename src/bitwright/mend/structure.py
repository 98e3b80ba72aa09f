"""Repairs that change the network's structure: passes over it, judged like any other repair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.mend.bench import Bench, surely_better
from bitwright.mend.repair import Clock
from bitwright.mend.rewrite import kept_around, rewritten, settled
from bitwright.mend.solution import Solution
from bitwright.passes._pass import Pass
from bitwright.passes.absorb_bias import AbsorbBias
from bitwright.passes.dead_channels import DeadChannels
from bitwright.passes.requantize_average import RequantizeAverage
from bitwright.passes.requantize_join import RequantizeJoin
from bitwright.passes.split_channels import SplitChannels
from bitwright.passes.split_concat import SplitConcat
from bitwright.passes.unfold_scale import UnfoldScale


@dataclass(frozen=True, kw_only=True)
class AbsorbHighBias:
    """See :class:`bitwright.passes.absorb_bias.AbsorbBias`: constants of channels far above zero become biases.

    Attributes:
        sigmas: Deviations below the mean that are kept.
        settle: Whether biases are corrected afterwards.
    """

    name: ClassVar[str] = AbsorbBias.name
    summary: ClassVar[str] = AbsorbBias.summary

    sigmas: float = 3.0
    settle: bool = True

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        return settled(solution, bench, clock, AbsorbBias(sigmas=self.sigmas), settle=self.settle)


@dataclass(frozen=True, kw_only=True)
class ClearDeadChannels:
    """See :class:`bitwright.passes.dead_channels.DeadChannels`: what is always zero must not stretch a range.

    Attributes:
        settle: Whether biases are corrected afterwards.
    """

    name: ClassVar[str] = DeadChannels.name
    summary: ClassVar[str] = DeadChannels.summary

    settle: bool = True

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        return settled(solution, bench, clock, DeadChannels(), settle=self.settle)


@dataclass(frozen=True, kw_only=True)
class RequantizeAverages:
    """See :class:`bitwright.passes.requantize_average.RequantizeAverage`: depthwise layers in the place of pooling.

    Its weights cost memory, so it must gain more than chance explains, and more than ``margin``.  Everything else stays
    as earlier repairs have left it.

    Attributes:
        share: Weights that may be added, as a share of those that the network has.
        margin: dB that it must gain.
    """

    name: ClassVar[str] = RequantizeAverage.name
    summary: ClassVar[str] = RequantizeAverage.summary

    share: float = 0.25
    margin: float = 0.3

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        return _worth(solution, bench, RequantizeAverage(share=self.share), self.margin)


@dataclass(frozen=True, kw_only=True)
class RequantizeJoins:
    """See :class:`bitwright.passes.requantize_join.RequantizeJoin`: copies with the step of a sum or concatenation.

    Copies cost a layer each, so they must gain more than chance explains, and more than ``margin``.  Everything else
    stays as earlier repairs have left it.

    Attributes:
        ratio: How many times larger than a tensor the largest input of the join must be.
        margin: dB that they must gain together.
    """

    name: ClassVar[str] = RequantizeJoin.name
    summary: ClassVar[str] = RequantizeJoin.summary

    ratio: float = 2.0
    margin: float = 0.3

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        return _worth(solution, bench, RequantizeJoin(ratio=self.ratio), self.margin)


def _worth(solution: Solution, bench: Bench, change: Pass, margin: float) -> tuple[Solution, str]:
    """``solution`` with a pass that adds layers, if it gains more than ``margin`` dB; all else stays as it is."""
    found, text = rewritten(solution, bench, change)
    if found is solution:
        return solution, text
    found = kept_around(found, solution, bench)
    gain = bench.heights(found) - bench.heights(solution)
    text = f"{text}; {gain.mean():+.2f} dB on the samples to learn from"
    return (found, text) if surely_better(gain, margin) else (solution, f"{text} are not worth the layers")


@dataclass(frozen=True, kw_only=True)
class SplitConcatenation:
    """See :class:`bitwright.passes.split_concat.SplitConcat`: inputs of unlike ranges keep steps of their own.

    Attributes:
        ratio: How far the largest magnitudes of the inputs must be apart.
        settle: Whether biases are corrected afterwards.
    """

    name: ClassVar[str] = SplitConcat.name
    summary: ClassVar[str] = SplitConcat.summary

    ratio: float = 4.0
    settle: bool = True

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        return settled(solution, bench, clock, SplitConcat(ratio=self.ratio), settle=self.settle)


@dataclass(frozen=True, kw_only=True)
class SplitOutliers:
    """See :class:`bitwright.passes.split_channels.SplitChannels`: channels with outlying weights are written twice.

    Attributes:
        ratio: A channel is an outlier if its largest weight is so many times the median over channels.
        share: Channels that may be added to a layer, as a share of those it has.
        settle: Whether biases are corrected afterwards.
    """

    name: ClassVar[str] = SplitChannels.name
    summary: ClassVar[str] = SplitChannels.summary

    ratio: float = 3.0
    share: float = 0.1
    settle: bool = True

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        return settled(solution, bench, clock, SplitChannels(ratio=self.ratio, share=self.share), settle=self.settle)


@dataclass(frozen=True, kw_only=True)
class UnfoldBatchNorm:
    """See :class:`bitwright.passes.unfold_scale.UnfoldScale`: scales of channels as a depthwise layer of one tap.

    Attributes:
        ratio: How far the ranges of channels must be apart, largest over median.
        settle: Whether biases are corrected afterwards.
    """

    name: ClassVar[str] = UnfoldScale.name
    summary: ClassVar[str] = UnfoldScale.summary

    ratio: float = 8.0
    settle: bool = True

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        return settled(solution, bench, clock, UnfoldScale(ratio=self.ratio), settle=self.settle)
