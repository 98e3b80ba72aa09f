"""Which way from ranges to formats gives the best integers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bitwright.calibrate.assign import assign
from bitwright.calibrate.scheme import load
from bitwright.lower import Constants
from bitwright.mend.bench import Bench
from bitwright.mend.repair import Clock
from bitwright.mend.solution import Solution


@dataclass(frozen=True, kw_only=True)
class TrySchemes:
    """Try the usual schemes for activations and weights, and take those whose integer outputs are best.

    Weights and biases of earlier repairs belong to the formats that they were made for, and are given up.

    Attributes:
        names: Schemes to try for each of the two roles.
    """

    name: ClassVar[str] = "schemes"
    summary: ClassVar[str] = "Try the usual calibration schemes and take the one whose integer outputs are best."

    names: tuple[str, ...] = ("minmax", "mse", "percentile{p=99.99}")

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        given = solution
        solution = replace(given, constants=Constants())
        best, height = solution, bench.trial(solution)
        chosen: dict[str, str] = {}
        for role in ("activation", "weight"):
            base = best.schemes
            for name in self.names:
                if clock.over:
                    break
                clock.tell(f"{role} {name}")
                schemes = replace(base, **{role: load(name)})
                formats = assign(solution.spec, solution.statistics, bench.target, schemes)
                trial = replace(solution, schemes=schemes).with_formats(formats, bench.target)
                score = bench.trial(trial)
                if score > height + 0.1:
                    best, height, chosen[role] = trial, score, name
        taken = ", ".join(f"{role}s by {name}" for role, name in chosen.items())
        return best if chosen else given, taken or "no scheme is better than the one in use"
