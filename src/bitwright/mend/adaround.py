"""Rounding learned layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitwright.calibrate.spec import LayerSpec
from bitwright.mend.bench import Bench
from bitwright.mend.layerwise import Changed, Problem, aimed, each_layer, mean_error, real, stored_bias
from bitwright.mend.learned_rounding import learned
from bitwright.mend.repair import Clock
from bitwright.mend.rounding import damped, refit
from bitwright.mend.solution import Solution


@dataclass(frozen=True, kw_only=True)
class AdaptiveRounding:
    """Learn for each weight whether it goes up or down (AdaRound), layer by layer on the integers that really arrive.

    The error is measured behind the activation, so what ReLU or a clip cuts off does not count.  With ``fit`` the
    weights may first move by more than a step, to where least squares want them (as in AdaQuant, Hubara et al. 2021,
    arXiv:2006.10518); ``drop`` learns around the inputs and not only at them (as in QDrop).  Written out in NumPy; it
    takes several times as long as ``reconstruct`` and is worth it for weights of few bits.

    Attributes:
        iterations: For each layer.
        batch: Places of an iteration.
        rate: Step size.
        drop: Share of inputs whose rounding error is replaced at random.
        fit: Damping of the least squares before, as a share of the mean diagonal; 0 leaves the weights where they are.
        rows: Places that are learned from.
        seed: Of the choice of places.
    """

    name: ClassVar[str] = "adaround"
    summary: ClassVar[str] = "Learn whether each weight is rounded up or down, layer by layer (AdaRound)."

    iterations: int = 600
    batch: int = 256
    rate: float = 0.02
    drop: float = 0.0
    fit: float = 0.3
    rows: int = 16384
    seed: int = 0

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""

        def change(current: Solution, spec: LayerSpec, problem: Problem) -> Changed | None:
            return self._layer(current, bench, spec, problem, clock)

        found, done = each_layer(solution, bench, clock, change, rows=self.rows, seed=self.seed)
        share = 100 * (1 - float(np.mean([one.error for one in done]))) if done else 0.0
        text = f"{len(done)} layers with learned rounding; each layer's error falls by {share:.0f} % on average"
        return found if done else solution, text if not clock.over else f"{text}; stopped by the clock"

    def _layer(
        self, solution: Solution, bench: Bench, spec: LayerSpec, problem: Problem, clock: Clock
    ) -> Changed | None:
        format = solution.formats.weights[spec.name]
        own = spec.name in solution.formats.biases
        first = problem.error(real(problem.stored, format, problem.weights[:, :, 0]))
        goal, x = aimed(problem), problem.inputs
        ideal = problem.weights
        if self.fit > 0:
            hessian = x.swapaxes(1, 2) @ x / x.shape[1]
            missing = (goal - x @ ideal.swapaxes(1, 2)).swapaxes(1, 2) @ x / x.shape[1]
            ideal = refit(ideal, damped(hessian, self.fit), missing)
        bias = ideal[:, :, 0]
        if own:
            bias = stored_bias(solution, bench.target, spec, format, bias)
            ideal = np.concatenate([bias[:, :, None], ideal[:, :, 1:]], axis=2)
        size = np.broadcast_to(format.scale, (bias.size,)).reshape(bias.shape)
        q = learned(
            problem.x[:, : problem.train], problem.wanted[:, : problem.train], ideal, size, (format.lo, format.hi),
            problem.bounds, steps=self.iterations, batch=self.batch, rate=self.rate, drop=self.drop,
            noise=float(solution.formats.activations[spec.tensors[0]].scale),
            rng=np.random.default_rng(self.seed), tell=lambda i: clock.over,
        )  # fmt: skip
        if not own:
            bias = mean_error(problem, goal, q * size[:, :, None])
        error = problem.error(real(q, format, bias))
        if not error < first * (1 - 1e-3):
            return None
        found = solution.with_layer(spec.name, bias=bias.reshape(-1)) if spec.op != "MatMul" else solution
        found = found.with_formats(found.formats, bench.target)
        if found.formats.weights[spec.name] != format:
            return None
        found = found.with_layer(spec.name, weights=q.reshape(spec.weights().shape))
        return Changed(solution=found, error=error / max(first, 1e-30))
