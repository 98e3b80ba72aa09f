"""A pass over the float network as a repair: observed again, formats chosen anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.calibrate.assign import assign
from bitwright.calibrate.spec import read_layers
from bitwright.mend.bench import Bench
from bitwright.mend.biases import CorrectBias
from bitwright.mend.repair import Clock
from bitwright.mend.schemes import TrySchemes
from bitwright.mend.solution import Solution
from bitwright.passes._pass import Pass, run
from bitwright.passes.equalize import Equalize
from bitwright.passes.observed import collect


@dataclass(frozen=True, kw_only=True)
class EqualizeChannels:
    """Cross-layer equalization, clips included, weighed for the target; see :class:`bitwright.passes.equalize.Equalize`.

    Other ranges may want another scheme, so the usual ones are tried, and biases are corrected: the network is judged by
    its integers, and clipped or shifted values would hide what was gained.

    Attributes:
        steps: Iterations of the search for factors.
        settle: Whether schemes are tried and biases corrected.
        seed: Of the places that are looked at for that.
    """

    name: ClassVar[str] = "equalize"
    summary: ClassVar[str] = Equalize.summary

    steps: int = 300
    settle: bool = True
    seed: int = 0

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        clock.tell("observing channels")
        found, text = rewritten(solution, bench, Equalize(steps=self.steps))
        if found is solution or not self.settle:
            return found, text
        found, chosen = TrySchemes().apply(found, bench, clock)
        found, shifted = CorrectBias(seed=self.seed).apply(found, bench, clock)
        return found, f"{text}; {chosen}; {shifted}"


def rewritten(solution: Solution, bench: Bench, change: Pass) -> tuple[Solution, str]:
    """``solution`` with its network changed by a pass; weights and biases of earlier repairs are given up."""
    net = solution.network
    needs = change.needs(net)
    observed = collect(net, needs, bench.batches(), count=bench.fitted)
    network, (done,) = run(net, [change], observed, bench.target)
    first = done.notes[0].text if done.notes else "nothing to do"
    if not done.modified:
        return solution, first
    statistics = bench.observe(network)
    spec = read_layers(network, bench.target)
    formats = assign(spec, statistics, bench.target, solution.schemes)
    made = Solution(network=network, spec=spec, statistics=statistics, schemes=solution.schemes, formats=formats)
    return made, first
