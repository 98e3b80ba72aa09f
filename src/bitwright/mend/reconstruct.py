"""Layer by layer, integers that make up for the errors of the layers before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.spec import LayerSpec
from bitwright.mend.bench import Bench
from bitwright.mend.layerwise import Changed, Problem, aimed, each_layer, real, stored_bias
from bitwright.mend.repair import Clock
from bitwright.mend.rounding import Compensation, best_steps, compensated, damped, descended, refit
from bitwright.mend.solution import Solution
from bitwright.number.format import Format
from bitwright.passes.equalization import FEW

if TYPE_CHECKING:
    from bitwright.targets.target import Target

Reals = NDArray[np.float64]

SETTLED = 0.01
"""Share of a layer's error that aiming anew must take away to be done once more."""

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
        few_exponents: ``exponents`` for weights of 6 bits and fewer.
        few_factors: ``factors`` for them; the step of each output is fitted to its integers as well.
        few_sweeps: ``sweeps`` for them.
        few_aims: How often real weights are fitted again, at most, before any is rounded: each fit puts other outputs on
            the other side of an activation's bound, where nothing is asked of them.
        turns: The same after rounding.
        seed: Of the choice of places.
    """

    name: ClassVar[str] = "reconstruct"
    summary: ClassVar[str] = "Fit and round weights layer by layer so that each makes up for earlier errors (GPTQ)."

    rows: int = 16384
    damping: tuple[float, ...] = (0.01, 0.3)
    exponents: tuple[int, ...] = (0, -1)
    factors: tuple[float, ...] = (0.8,)
    sweeps: int = 2
    few_exponents: tuple[int, ...] = (0, -1, 1)
    few_factors: tuple[float, ...] = (1.15, 0.87, 0.75, 0.65, 0.55)
    few_sweeps: int = 4
    few_aims: int = 6
    turns: int = 2
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
        first = problem.error(real(problem.stored, start, problem.weights[:, :, 0]))
        work = _Work.of(problem, self.damping)
        best: _Way | None = None
        few = start.bits <= FEW
        goal, fits = work.settled(self.few_aims if few else 0)
        ideals = [problem.weights, *fits]
        for formats in self._steps(solution, target, spec):
            ways = []
            for format in formats:
                for ideal in ideals:
                    bias = stored_bias(solution, target, spec, format, ideal[:, :, 0]) if own else None
                    ways.append(work.rounded(goal, format, _per_output(format, problem), ideal, bias))
            # A bias without a format of its own binds no output to another.
            for way in ways if own else [_joined(start, ways)]:
                if best is None or way.error < best.error:
                    best = way
        assert best is not None  # the step that is there is always tried
        best = work.polished(goal, best, sweeps=self.few_sweeps if few else self.sweeps, own=own, scaled=few)
        for _ in range(self.turns if few else 0):
            # Many outputs are on the other side of an activation's bound than with float weights: aim anew.
            goal = aimed(problem, best.weights)
            found = []
            for ideal in work.fitted(goal):
                bias = stored_bias(solution, target, spec, best.format, ideal[:, :, 0]) if own else None
                found.append(work.rounded(goal, best.format, best.size, ideal, bias))
            again = min(found, key=lambda way: way.error) if own else _joined(best.format, found)
            again = work.polished(goal, again, sweeps=self.few_sweeps, own=own, scaled=True)
            if not again.error < best.error:
                break
            best = again
        if not best.error < first * (1 - 1e-3):
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
        few = start.bits <= FEW
        if start.exponent is None:
            moves = (1.0, *(self.few_factors if few else self.factors))
        else:
            moves = tuple(2.0**move for move in (self.few_exponents if few else self.exponents))
        tried = [replace(start, scale=start.scale * move) for move in moves]
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
    def weights(self) -> Reals:
        """Real, with the bias in front, ``[groups, out, 1 + k]``."""
        return np.concatenate([self.bias[:, :, None], self.q * self.size[:, :, None]], axis=2)

    @property
    def error(self) -> float:
        return float(self.errors.mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """What all ways of a layer have in common.

    Attributes:
        problem: The layer.
        inputs: Rows to learn from, ``[groups, rows, 1 + k]``.
        average: Of the inputs, ``[groups, k, 1]``.
        hessian: Their second moments, ``[groups, 1 + k, 1 + k]``.
        metric: The same with a little damping, for compensation, which needs no more whatever the fit has.
        plan: Of compensation.
        damping: See :class:`Reconstruct`.
    """

    problem: Problem
    inputs: Reals
    average: Reals
    hessian: Reals
    metric: Reals
    plan: Compensation
    damping: tuple[float, ...]

    @classmethod
    def of(cls, problem: Problem, damping: tuple[float, ...]) -> _Work:
        x = problem.inputs
        hessian = x.swapaxes(1, 2) @ x / x.shape[1]
        metric = damped(hessian, damping[0])
        return cls(
            problem=problem,
            inputs=x,
            average=x[:, :, 1:].mean(axis=1)[:, :, None],
            hessian=hessian,
            metric=metric,
            plan=Compensation.of(metric, given=True),
            damping=damping,
        )

    def fitted(self, goal: Reals) -> list[Reals]:
        """Real weights for ``goal`` ``[groups, rows, out]``, one for each damping."""
        x, weights = self.inputs, self.problem.weights
        missing = (goal - x @ weights.swapaxes(1, 2)).swapaxes(1, 2) @ x / x.shape[1]
        return [refit(weights, damped(self.hessian, share), missing) for share in self.damping]

    def settled(self, aims: int) -> tuple[Reals, list[Reals]]:
        """What the outputs are fitted to, and :meth:`fitted` to it, after so many aims as they gain."""
        goal = aimed(self.problem)
        fits = self.fitted(goal)
        errors = [self.problem.error(fit) for fit in fits] if aims else []
        for _ in range(aims):
            again = aimed(self.problem, fits[int(np.argmin(errors))])
            found = self.fitted(again)
            now = [self.problem.error(fit) for fit in found]
            if not min(now) < (1 - SETTLED) * min(errors):
                break
            goal, fits, errors = again, found, now
        return goal, fits

    def rounded(self, goal: Reals, format: Format, size: Reals, ideal: Reals, bias: Reals | None) -> _Way:
        """``ideal`` rounded; without a ``bias`` that is stored so, the best one."""
        first = ideal[:, :, 0] if bias is None else bias
        q = compensated(ideal, self.plan, size, format.lo, format.hi, first=first)
        return self.way(goal, format, size, q, ideal, bias)

    def way(
        self, goal: Reals, format: Format, size: Reals, q: NDArray[np.int64], ideal: Reals, bias: Reals | None
    ) -> _Way:
        if bias is None:
            bias = goal.mean(axis=1) - ((q * size[:, :, None]) @ self.average)[:, :, 0]
        return _Way.of(self.problem, format, size, q, bias, ideal)

    def polished(self, goal: Reals, way: _Way, *, sweeps: int, own: bool, scaled: bool) -> _Way:
        """``way`` or a better one: each weight is looked at once more, and steps that are ``scaled`` in turns with them."""
        bias = way.bias if own else None
        if not scaled:
            q = self._descended(way, bias, sweeps)
            further = self.way(goal, way.format, way.size, q, way.ideal, bias)
            further = further if own else _joined(way.format, [way, further])
            return further if further.error < way.error else way
        for _ in range(sweeps):
            q, size, format = self._descended(way, bias, 1), way.size, way.format
            if not own and format.exponent is None and format.axis is not None:
                size = best_steps(q, way.ideal, self.metric, size)
                format = replace(format, scale=size.reshape(-1))
            further = self.way(goal, format, size, q, way.ideal, bias)
            further = further if own else _joined(format, [way, further])
            if not further.error < way.error:
                break
            way = further
        return way

    def _descended(self, way: _Way, bias: Reals | None, sweeps: int) -> NDArray[np.int64]:
        lo, hi = way.format.lo, way.format.hi
        return descended(way.q, way.ideal, self.metric, way.size, lo, hi, first=bias, sweeps=sweeps)


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
