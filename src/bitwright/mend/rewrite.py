"""A pass over the float network as a repair: observed again, formats chosen anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitwright.calibrate.assign import assign
from bitwright.calibrate.spec import read_layers
from bitwright.mend.bench import Bench
from bitwright.mend.repair import Clock
from bitwright.mend.solution import Solution
from bitwright.passes._pass import Pass, run
from bitwright.passes.equalize import Equalize
from bitwright.passes.observed import collect


@dataclass(frozen=True, kw_only=True)
class EqualizeChannels:
    """Cross-layer equalization, clips included, weighed for the target; see :class:`bitwright.passes.equalize.Equalize`.

    Attributes:
        steps: Iterations of the search for factors.
    """

    name: ClassVar[str] = "equalize"
    summary: ClassVar[str] = Equalize.summary

    steps: int = 300

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        clock.tell("observing channels")
        return rewritten(solution, bench, Equalize(steps=self.steps))


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
