"""Layer by layer, integers that make up for the errors of the layers before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.spec import LayerSpec
from bitwright.mend.bench import Bench
from bitwright.mend.layerwise import Changed, Problem, aimed, each_layer, mean_error, real, stored_bias
from bitwright.mend.repair import Clock
from bitwright.mend.rounding import compensated, damped, refit
from bitwright.mend.solution import Solution
from bitwright.number.format import Format

if TYPE_CHECKING:
    from bitwright.targets.target import Target

Reals = NDArray[np.float64]

LARGEST = 2400
"""Weights of one output beyond which the inverse takes too long; such layers get a bias only."""


@dataclass(frozen=True, kw_only=True)
class Reconstruct:
    """Fit each layer's weights and bias to the integers that really arrive, and round with compensation.

    Going through the network in order, each linear layer gets the integer inputs that the layers before it make, and
    the float outputs that it should give.  Least squares (kept near the float weights) give the best real weights;
    rounding them column by column passes each error on to the columns after it.  Of several ways the one with the
    least error on samples that were not learned from is kept, and plain rounding is always one of them.

    Attributes:
        rows: Places that are learned from.
        damping: Shares of the mean diagonal that are added to the second moments; each is tried.
        exponents: Steps around the chosen one that are tried, as logarithms to base 2.
        seed: Of the choice of places.
    """

    name: ClassVar[str] = "reconstruct"
    summary: ClassVar[str] = "Fit and round weights layer by layer so that each makes up for earlier errors (GPTQ)."

    rows: int = 16384
    damping: tuple[float, ...] = (0.01, 0.3)
    exponents: tuple[int, ...] = (0, -1)
    seed: int = 0

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""

        def change(current: Solution, spec: LayerSpec, problem: Problem) -> Changed | None:
            return self._layer(current, bench.target, spec, problem)

        found, done = each_layer(solution, bench, clock, change, rows=self.rows, seed=self.seed, largest=LARGEST)
        share = 100 * (1 - float(np.mean([one.error for one in done]))) if done else 0.0
        text = (
            f"{len(done)} layers fitted and rounded with compensation, {sum(bool(one.text) for one in done)} with "
            f"another weight step; each layer's error falls by {share:.0f} % on average"
        )
        return found if done else solution, text if not clock.over else f"{text}; stopped by the clock"

    def _layer(self, solution: Solution, target: Target, spec: LayerSpec, problem: Problem) -> Changed | None:
        """The best way for one layer, if it beats what is there."""
        start = solution.formats.weights[spec.name]
        own = spec.name in solution.formats.biases
        first = best_error = problem.error(real(problem.stored, start, problem.weights[:, :, 0]))
        best: tuple[Format, NDArray[np.int64], Reals] | None = None
        goal = aimed(problem)
        x = problem.inputs
        hessian = x.swapaxes(1, 2) @ x / x.shape[1]
        # Compensation itself needs little damping, whatever the fit has.
        metric = damped(hessian, self.damping[0])
        missing = (goal - x @ problem.weights.swapaxes(1, 2)).swapaxes(1, 2) @ x / x.shape[1]
        for fit in (None, *self.damping):
            ideal = problem.weights if fit is None else refit(problem.weights, damped(hessian, fit), missing)
            for move in self.exponents if start.exponent is not None else (0,):
                format = replace(start, scale=start.scale * 2.0**move)
                if move and not _allowed(solution, target, spec, format):
                    continue
                size = _per_output(format, problem)
                bias = ideal[:, :, 0]
                if own:
                    bias = stored_bias(solution, target, spec, format, bias)
                q = compensated(ideal, metric, size, format.lo, format.hi, first=bias)
                if not own:
                    bias = mean_error(problem, goal, q * size[:, :, None])
                error = problem.error(real(q, format, bias))
                if error < best_error * (1 - 1e-3):
                    best_error, best = error, (format, q, bias)
        if best is None:
            return None
        format, q, bias = best
        result = solution.with_layer(spec.name, bias=bias.reshape(-1)) if spec.op != "MatMul" else solution
        result = result.with_formats(result.formats.with_weight(spec.name, format), target)
        if result.formats.weights[spec.name] != format:
            return None
        result = result.with_layer(spec.name, weights=q.reshape(spec.weights().shape))
        return Changed(
            solution=result, error=best_error / max(first, 1e-30), text="another step" if format != start else ""
        )


def _per_output(format: Format, problem: Problem) -> Reals:
    shape = problem.weights.shape[:2]
    return np.asarray(np.broadcast_to(format.scale, (shape[0] * shape[1],)).reshape(shape), np.float64)


def _allowed(solution: Solution, target: Target, spec: LayerSpec, format: Format) -> bool:
    """Whether the target's limits let the layer have this weight format with everything else as it is."""
    legal = solution.with_formats(solution.formats.with_weight(spec.name, format), target).formats
    return legal.weights[spec.name] == format and legal.activations == solution.formats.activations
