"""Biases that take away the mean error that integers bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.calibrate.spec import LayerSpec
from bitwright.mend.bench import Bench
from bitwright.mend.layerwise import Changed, Problem, aimed, each_layer, mean_error, real, stored_bias
from bitwright.mend.repair import Clock
from bitwright.mend.solution import Solution


@dataclass(frozen=True, kw_only=True)
class CorrectBias:
    """Shift each bias by the mean of what its layer gets wrong, weights as they are.

    Nagel et al. 2019 (arXiv:1906.04721, section 4.2), empirically: the mean is that between the float network and the
    integers that really arrive, layer after layer, so what earlier layers shift is taken back too.  Outputs that an
    activation cuts off on both sides do not count.  A layer whose error on other samples does not fall keeps its bias.

    Attributes:
        original: Whether the mean is that of the network as it was.  Else it is that of the network as passes have left
            it: where equalization has moved channels past the bound of a ReLU6, few large values differ, and a
            bias cannot make up for them; it takes weights (``reconstruct``), and after these it is asked for.
        rows: Places that are looked at.
        seed: Of the choice of places.
    """

    name: ClassVar[str] = "correct-bias"
    summary: ClassVar[str] = "Shift biases by the mean error of the integer outputs, layer after layer."

    original: bool = False
    rows: int = 4096
    seed: int = 0

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""

        def change(current: Solution, spec: LayerSpec, problem: Problem) -> Changed | None:
            if spec.op == "MatMul":
                return None
            format = current.formats.weights[spec.name]
            before = real(problem.stored, format, problem.weights[:, :, 0])
            first = problem.error(before)
            bias = mean_error(problem, aimed(problem), before[:, :, 1:])
            found = current.with_layer(spec.name, bias=bias.reshape(-1))
            found = found.with_formats(found.formats, bench.target)
            if spec.name in found.formats.biases:
                bias = stored_bias(found, bench.target, spec, format, bias)
            error = problem.error(real(problem.stored, format, bias))
            if found.formats.weights[spec.name] != format or not error < first * (1 - 1e-3):
                return None
            return Changed(solution=found, error=error / max(first, 1e-30))

        found, done = each_layer(solution, bench, clock, change, rows=self.rows, seed=self.seed, original=self.original)
        share = 100 * (1 - float(np.mean([one.error for one in done]))) if done else 0.0
        text = f"{len(done)} biases shifted; the error of their layers falls by {share:.0f} % on average"
        return found if done else solution, text if not clock.over else f"{text}; stopped by the clock"
