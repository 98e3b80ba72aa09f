"""Layer by layer, integers that make up for the errors of the layers before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.spec import LayerSpec
from bitwright.mend.bench import Bench, in_batches, quantized_inputs
from bitwright.mend.patches import Places, patches
from bitwright.mend.rounding import compensated, damped, refit
from bitwright.mend.solution import Solution
from bitwright.mend.walk import advance, layers, still_needed
from bitwright.number.format import Format
from bitwright.program.forms import Contract
from bitwright.program.program import Program, Step

if TYPE_CHECKING:
    from bitwright.network.network import Network
    from bitwright.targets.target import Target

Reals = NDArray[np.float64]

LARGEST = 2400
"""Weights of one output beyond which the inverse takes too long; such layers get a bias only."""
CHECKED = 0.25
"""Share of the samples that choose between ways, and are not learned from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Problem:
    """One linear layer: rows of integer inputs, real wanted outputs, and what is chosen so far.

    Attributes:
        x: Real inputs with a leading 1 for the bias, ``[groups, rows, 1 + k]``.
        wanted: Float outputs before the activation, ``[groups, rows, out]``.
        bounds: Of the activation.
        train: Number of leading rows to learn from; the others choose.
        weights: Float weights with the bias in front, ``[groups, out, 1 + k]``.
    """

    x: NDArray[np.float32]
    wanted: NDArray[np.float32]
    bounds: tuple[float, float]
    train: int
    weights: Reals

    def error(self, weights: Reals) -> float:
        """Mean squared error after the activation, on the rows that choose."""
        rest = slice(self.train, None)
        made = self.x[:, rest] @ weights.swapaxes(1, 2).astype(np.float32)
        return float(np.mean((np.clip(made, *self.bounds) - np.clip(self.wanted[:, rest], *self.bounds)) ** 2))


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

    rows: int = 4096
    damping: tuple[float, ...] = (0.01, 0.3)
    exponents: tuple[int, ...] = (0, -1)
    seed: int = 0

    def apply(
        self, solution: Solution, bench: Bench, tick: Callable[[str], None] | None = None
    ) -> tuple[Solution, str]:
        """The solution with other constants, and what was done in a sentence."""
        rng = np.random.default_rng(self.seed)
        specs = {layer.name: layer for layer in solution.spec.layers}
        wanted = _Wanted(solution, bench, self.rows, rng)
        program = solution.program(bench.target)
        values = quantized_inputs(program, bench.network.inputs, bench.fit)
        changed = finer = 0
        before = after = 0.0
        for i, (name, _) in enumerate(layers(program)):
            steps = layers(program)[i][1]
            spec = specs.get(name)
            if tick is not None:
                tick(name)
            found = None
            if spec is not None and wanted.has(spec, steps):
                found = self._layer(solution, bench, spec, program, steps, values, wanted)
            if found is not None:
                solution, gain, moved = found
                changed, finer = changed + 1, finer + moved
                before, after = before + 1, after + gain
                program = solution.program(bench.target)
                steps = layers(program)[i][1]
            values |= advance(program, steps, values)
            values = still_needed(program, sum(len(s) for _, s in layers(program)[: i + 1]), values)
        share = 100 * (1 - after / before) if before else 0.0
        text = (
            f"{changed} layers fitted and rounded with compensation, {finer} with another weight step; each layer's "
            f"error falls by {share:.0f} % on average"
        )
        return solution, text

    def _layer(
        self,
        solution: Solution,
        bench: Bench,
        spec: LayerSpec,
        program: Program,
        steps: list[Step],
        values: dict[str, NDArray[Any]],
        wanted: _Wanted,
    ) -> tuple[Solution, float, int] | None:
        """The solution with the best way for one layer, its error against plain rounding's, and whether steps moved."""
        step = next(s for s in steps if isinstance(s.form, Contract))
        form = step.form
        assert isinstance(form, Contract)
        problem = _problem(solution, spec, program, step, form, values, wanted)
        own = spec.name in solution.formats.biases
        start = solution.formats.weights[spec.name]
        plain_q = np.asarray(program.tensors[form.weight], np.int64).reshape(problem.weights[:, :, 1:].shape)
        plain = _real(plain_q, start, problem.weights[:, :, 0])
        best_error = first_error = problem.error(plain)
        best: tuple[Format, NDArray[np.int64], Reals] | None = None
        target_values = _aimed(problem)
        x = problem.x[:, : problem.train].astype(np.float64)
        hessian = x.swapaxes(1, 2) @ x / x.shape[1]
        for fit in (None, *self.damping):
            wide = damped(hessian, self.damping[0] if fit is None else fit)
            goal = problem.weights
            if fit is not None:
                rest = (target_values - x @ goal.swapaxes(1, 2)).swapaxes(1, 2) @ x / x.shape[1]
                goal = refit(goal, wide, rest)
            # GPTQ itself needs little damping, whatever the fit had.
            metric = damped(hessian, self.damping[0])
            for move in self.exponents if start.exponent is not None else (0,):
                format = replace(start, scale=start.scale * 2.0**move)
                if move and not _allowed(solution, bench.target, spec, format):
                    continue
                size = _per_output(format, problem)
                bias = goal[:, :, 0]
                if own:
                    bias = _stored_bias(solution, bench.target, spec, format, bias)
                q = compensated(goal, metric, size, format.lo, format.hi, first=bias)
                if not own:
                    made = x[:, :, 1:] @ (q * size[:, :, None]).swapaxes(1, 2)
                    bias = _mean_bias(problem, target_values, made, bias)
                error = problem.error(_real(q, format, bias))
                if error < best_error * (1 - 1e-3):
                    best_error, best = error, (format, q, bias)
        if best is None:
            return None
        format, q, bias = best
        result = solution.with_layer(spec.name, bias=bias.reshape(-1)) if spec.op != "MatMul" else solution
        result = result.with_formats(result.formats.with_weight(spec.name, format), bench.target)
        if result.formats.weights[spec.name] != format:
            return None
        weights = q.reshape(program.tensors[form.weight].shape)
        result = result.with_layer(spec.name, weights=weights)
        return result, best_error / max(first_error, 1e-30), int(format != start)


def _mean_bias(problem: _Problem, aimed: Reals, made: Reals, bias: Reals) -> Reals:
    """The bias that takes away the mean error of ``made``, which has none."""
    return np.asarray((aimed - made).mean(axis=1)) if aimed.shape[1] else bias


def _aimed(problem: _Problem) -> Reals:
    """Wanted outputs of the rows to learn from; beyond the activation's bounds, what is made is as good."""
    x = problem.x[:, : problem.train].astype(np.float64)
    made = x @ problem.weights.swapaxes(1, 2)
    wanted = problem.wanted[:, : problem.train].astype(np.float64)
    lo, hi = problem.bounds
    same = ((wanted <= lo) & (made <= lo)) | ((wanted >= hi) & (made >= hi))
    return np.where(same, made, np.where(wanted < lo, lo, np.where(wanted > hi, hi, wanted)))


def _per_output(format: Format, problem: _Problem) -> Reals:
    shape = problem.weights.shape[:2]
    return np.asarray(np.broadcast_to(format.scale, (shape[0] * shape[1],)).reshape(shape), np.float64)


def _real(q: NDArray[np.int64], format: Format, bias: Reals) -> Reals:
    """Real weights with the bias in front."""
    size = np.broadcast_to(format.scale, (q.shape[0] * q.shape[1],)).reshape(q.shape[:2])
    return np.concatenate([bias[:, :, None], q * size[:, :, None]], axis=2)


def _stored_bias(solution: Solution, target: Target, spec: LayerSpec, format: Format, bias: Reals) -> Reals:
    """The bias as a target with a format for it stores it."""
    trial = solution.with_layer(spec.name, bias=bias.reshape(-1))
    trial = trial.with_formats(trial.formats.with_weight(spec.name, format), target)
    own = trial.formats.biases[spec.name]
    rounding = target.bias_rule(spec.op, **spec.facts).rounding
    return own.dequantize(own.quantize(bias.reshape(-1), rounding)).reshape(bias.shape)


def _allowed(solution: Solution, target: Target, spec: LayerSpec, format: Format) -> bool:
    """Whether the target's limits let the layer have this weight format with everything else as it is."""
    legal = solution.with_formats(solution.formats.with_weight(spec.name, format), target).formats
    return legal.weights[spec.name] == format and legal.activations == solution.formats.activations


def _problem(
    solution: Solution,
    spec: LayerSpec,
    program: Program,
    step: Step,
    form: Contract,
    values: dict[str, NDArray[Any]],
    wanted: _Wanted,
) -> _Problem:
    stored = program.tensors[form.weight]
    places, rows = wanted.of(spec)
    taps = stored.shape[2:]
    scale = float(program.buffers[step.inputs[0]].format.scale)
    x = patches(form, values[step.inputs[0]], places, taps) * np.float32(scale)
    ones = np.ones((*x.shape[:2], 1), np.float32)
    groups, count = form.groups, len(stored)
    weights = spec.weights().reshape(groups, count // groups, -1)
    bias = solution.bias(spec)
    bias = np.zeros(count) if bias is None else np.asarray(bias)
    full = np.concatenate([bias.reshape(groups, -1, 1), weights], axis=2)
    outputs = rows.reshape(-1, groups, count // groups).transpose(1, 0, 2)
    train = places.shape[1] * (len(places) - max(1, round(CHECKED * len(places))))
    bounds = spec.clamp or (-np.inf, np.inf)
    return _Problem(x=np.concatenate([ones, x], axis=2), wanted=outputs, bounds=bounds, train=train, weights=full)


class _Wanted:
    """Float outputs of every linear layer before its activation, at chosen places."""

    def __init__(self, solution: Solution, bench: Bench, rows: int, rng: np.random.Generator) -> None:
        net = solution.network
        count = bench.fitted
        self._tensor: dict[str, str] = {}
        self._places: dict[str, Places] = {}
        for spec in solution.spec.layers:
            if not spec.is_linear or spec.reason or spec.name not in solution.formats.weights:
                continue
            tensor = str(spec.layer.main.outputs[0].name)
            shape = net.shape(tensor) if net.has_shape(tensor) else ()
            if len(shape) < 2 or (spec.op == "MatMul" and len(shape) > 2):
                continue
            if int(np.prod(spec.weights().shape[1:])) > LARGEST:
                continue
            size = int(np.prod(shape[2:]))
            each = min(size, max(1, -(-rows // count)))
            picked = [np.sort(rng.choice(size, each, replace=False)) for _ in range(count)]
            self._tensor[spec.name], self._places[spec.name] = tensor, np.stack(picked)
        self._rows = self._run(net, bench)

    def _run(self, net: Network, bench: Bench) -> dict[str, NDArray[np.float32]]:
        names = list(self._tensor)
        tensors = [self._tensor[name] for name in names]
        session = net.session(tensors)
        found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        done = 0
        for feeds in in_batches(net, bench.fit):
            arrays = session.run(tensors, dict(feeds))
            for name, array in zip(names, arrays, strict=True):
                for i, sample in enumerate(array):
                    flat = sample.reshape(len(sample), -1)
                    found[name].append(flat[:, self._places[name][done + i]].T)
            done += len(next(iter(feeds.values())))
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def has(self, spec: LayerSpec, steps: list[Step]) -> bool:
        return spec.name in self._tensor and sum(isinstance(s.form, Contract) for s in steps) == 1

    def of(self, spec: LayerSpec) -> tuple[Places, NDArray[np.float32]]:
        return self._places[spec.name], self._rows[spec.name]
