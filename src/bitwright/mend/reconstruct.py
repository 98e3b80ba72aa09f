"""Layer by layer, integers that make up for the errors of the layers before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.spec import LayerSpec
from bitwright.mend.bench import Bench
from bitwright.mend.layerwise import Changed, Problem, aimed, each_layer, mean_error, real, stored_bias
from bitwright.mend.repair import Clock
from bitwright.mend.rounding import compensated, damped, descended, refit
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
    rounding them column by column passes each error on to the columns after it, and going through the columns again
    (coordinate descent) finds what is better still.  Of several ways the one with the least error on samples that were
    not learned from is kept, for each output by itself where nothing ties outputs together.

    Attributes:
        rows: Places that are learned from.
        damping: Shares of the mean diagonal that are added to the second moments; each is tried.
        exponents: Steps around the chosen one that are tried, as logarithms to base 2.
        factors: The same for steps that need not be powers of two.
        sweeps: How often each weight is looked at once more, after all have been rounded.
        seed: Of the choice of places.
    """

    name: ClassVar[str] = "reconstruct"
    summary: ClassVar[str] = "Fit and round weights layer by layer so that each makes up for earlier errors (GPTQ)."

    rows: int = 16384
    damping: tuple[float, ...] = (0.01, 0.3)
    exponents: tuple[int, ...] = (0, -1)
    factors: tuple[float, ...] = (0.8,)
    sweeps: int = 2
    seed: int = 0

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""

        def change(current: Solution, spec: LayerSpec, problem: Problem) -> Changed | None:
            return self.layer(current, bench.target, spec, problem)

        found, done = each_layer(solution, bench, clock, change, rows=self.rows, seed=self.seed, largest=LARGEST)
        share = 100 * (1 - float(np.mean([one.error for one in done]))) if done else 0.0
        text = (
            f"{len(done)} layers fitted and rounded with compensation, {sum(bool(one.text) for one in done)} with "
            f"another weight step; each layer's error falls by {share:.0f} % on average"
        )
        return found if done else solution, text if not clock.over else f"{text}; stopped by the clock"

    def layer(self, solution: Solution, target: Target, spec: LayerSpec, problem: Problem) -> Changed | None:
        """The best way for one layer, if it beats what is there."""
        start = solution.formats.weights[spec.name]
        own = spec.name in solution.formats.biases
        first = best_error = problem.error(real(problem.stored, start, problem.weights[:, :, 0]))
        best: _Way | None = None
        goal = aimed(problem)
        x = problem.inputs
        hessian = x.swapaxes(1, 2) @ x / x.shape[1]
        # Compensation itself needs little damping, whatever the fit has.
        metric = damped(hessian, self.damping[0])
        missing = (goal - x @ problem.weights.swapaxes(1, 2)).swapaxes(1, 2) @ x / x.shape[1]
        ideals = [problem.weights, *(refit(problem.weights, damped(hessian, d), missing) for d in self.damping)]
        for formats in self._steps(solution, target, spec):
            ways = []
            for format in formats:
                size = _per_output(format, problem)
                for ideal in ideals:
                    bias = stored_bias(solution, target, spec, format, ideal[:, :, 0]) if own else ideal[:, :, 0]
                    q = compensated(ideal, metric, size, format.lo, format.hi, first=bias)
                    if not own:
                        bias = mean_error(problem, goal, q * size[:, :, None])
                    ways.append(_Way.of(problem, format, size, q, bias, ideal))
            # A bias without a format of its own binds no output to another.
            for way in ways if own else [_joined(start, ways)]:
                if way.error < best_error * (1 - 1e-3):
                    best_error, best = way.error, way
        if best is not None and self.sweeps:
            first_bias = best.bias if own else None
            lo, hi = best.format.lo, best.format.hi
            q = descended(best.q, best.ideal, metric, best.size, lo, hi, first=first_bias, sweeps=self.sweeps)
            bias = best.bias if own else mean_error(problem, goal, q * best.size[:, :, None])
            further = _Way.of(problem, best.format, best.size, q, bias, best.ideal)
            further = further if own else _joined(best.format, [best, further])
            best = further if further.error < best.error else best
        if best is None:
            return None
        format, q, bias = best.format, best.q, best.bias
        result = solution.with_layer(spec.name, bias=bias.reshape(-1)) if spec.op != "MatMul" else solution
        result = result.with_formats(result.formats.with_weight(spec.name, format), target)
        if result.formats.weights[spec.name] != format:
            return None
        result = result.with_layer(spec.name, weights=q.reshape(spec.weights().shape))
        text = "another step" if format != start else ""
        return Changed(solution=result, error=best.error / max(first, 1e-30), text=text)

    def _steps(self, solution: Solution, target: Target, spec: LayerSpec) -> list[list[Format]]:
        """Formats to try: alternatives, each a list of those among which every output may choose for itself."""
        start = solution.formats.weights[spec.name]
        if start.exponent is None:
            moved = [replace(start, scale=start.scale * factor) for factor in (1.0, *self.factors)]
            found = [f for f in moved if f is moved[0] or _allowed(solution, target, spec, f)]
            return [found] if start.axis is not None else [[format] for format in found]
        tried = [replace(start, scale=start.scale * 2.0**move) for move in self.exponents]
        found = [f for f in tried if f == start or _allowed(solution, target, spec, f)]
        return [found] if start.axis is not None else [[format] for format in found]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Way:
    """Integers and bias for a layer.

    Attributes:
        format: Of the weights.
        size: Step of each output, ``[groups, out]``.
        q: ``[groups, out, k]``.
        bias: Real, ``[groups, out]``.
        ideal: The real weights that ``q`` stands for, ``[groups, out, 1 + k]``.
        errors: Of each output on the rows that choose, ``[groups, out]``.
    """

    format: Format
    size: Reals
    q: NDArray[np.int64]
    bias: Reals
    ideal: Reals
    errors: Reals

    @classmethod
    def of(cls, problem: Problem, format: Format, size: Reals, q: NDArray[np.int64], bias: Reals, ideal: Reals) -> _Way:
        errors = problem.errors(np.concatenate([bias[:, :, None], q * size[:, :, None]], axis=2))
        return cls(format=format, size=size, q=q, bias=bias, ideal=ideal, errors=errors)

    @property
    def error(self) -> float:
        return float(self.errors.mean())


def _joined(start: Format, ways: list[_Way]) -> _Way:
    """The best way of each output; their formats differ in the steps of channels only."""
    choice = np.argmin(np.stack([way.errors for way in ways]), axis=0)  # [groups, out]

    def pick(values: list[Any]) -> Any:
        stacked = np.stack(values)
        at = choice.reshape(1, *choice.shape, *[1] * (stacked.ndim - 3))
        return np.take_along_axis(stacked, at, axis=0)[0]

    size = pick([way.size for way in ways])
    format = ways[0].format if start.axis is None else replace(start, scale=size.reshape(-1))
    return _Way(
        format=format,
        size=size,
        q=pick([way.q for way in ways]),
        bias=pick([way.bias for way in ways]),
        ideal=pick([way.ideal for way in ways]),
        errors=pick([way.errors for way in ways]),
    )


def _per_output(format: Format, problem: Problem) -> Reals:
    shape = problem.weights.shape[:2]
    return np.asarray(np.broadcast_to(format.scale, (shape[0] * shape[1],)).reshape(shape), np.float64)


def _allowed(solution: Solution, target: Target, spec: LayerSpec, format: Format) -> bool:
    """Whether the target's limits let the layer have this weight format with everything else as it is."""
    legal = solution.with_formats(solution.formats.with_weight(spec.name, format), target).formats
    return legal.weights[spec.name] == format and legal.activations == solution.formats.activations
