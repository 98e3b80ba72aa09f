"""Going through a network layer by layer with the integers that really arrive at each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.spec import LayerSpec, activation_bounds
from bitwright.mend.bench import Bench, in_batches, quantized_inputs
from bitwright.mend.blocks import Block
from bitwright.mend.patches import Places, patches
from bitwright.mend.repair import Clock
from bitwright.mend.solution import Solution
from bitwright.mend.walk import Values, advance, layers, still_needed
from bitwright.number.format import Format
from bitwright.passes.equalization import FEW
from bitwright.passes.linear import read_linear
from bitwright.passes.moved import Moved, between
from bitwright.program.forms import Contract
from bitwright.program.program import Program, Step

if TYPE_CHECKING:
    from bitwright.network.network import Network
    from bitwright.targets.target import Target

Reals = NDArray[np.float64]

CHECKED = 0.25
"""Share of the samples that choose between ways, and are not learned from."""
FEWEST = 2048
NEAR = 0.05
"""Share of an activation's range by which its bounds may move and still be the same."""
PER_WEIGHT = 24
"""Places for each weight of an output: enough for a fit, and a depthwise layer needs few."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """One linear layer: rows of integer inputs, real wanted outputs, and what is chosen so far.

    Attributes:
        x: Real inputs with a leading 1 for the bias, ``[groups, rows, 1 + k]``.
        wanted: Float outputs before the activation, ``[groups, rows, out]``.
        bounds: Of the activation.
        train: Number of leading rows to learn from; the others choose.
        weights: Float weights with the bias in front, ``[groups, out, 1 + k]``.
        stored: The integers that the weights are now, ``[groups, out, k]``.
    """

    x: NDArray[np.float32]
    wanted: NDArray[np.float32]
    bounds: tuple[float, float]
    train: int
    weights: Reals
    stored: NDArray[np.int64]

    @property
    def inputs(self) -> Reals:
        """Rows to learn from, ``[groups, train, 1 + k]``."""
        return self.x[:, : self.train].astype(np.float64)

    def error(self, weights: Reals) -> float:
        """Mean squared error after the activation, on the rows that choose."""
        return float(self.errors(weights).mean())

    def errors(self, weights: Reals) -> Reals:
        """The same of each output, ``[groups, out]``."""
        rest = slice(self.train, None)
        made = self.x[:, rest] @ weights.swapaxes(1, 2).astype(np.float32)
        off = np.clip(made, *self.bounds) - np.clip(self.wanted[:, rest], *self.bounds)
        return np.asarray(np.mean(np.square(off), axis=1, dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What became of one layer.

    Attributes:
        solution: With the layer changed.
        error: The layer's error, as a share of what it was.
        text: What else is worth counting.
    """

    solution: Solution
    error: float
    text: str = ""


Change = Callable[[Solution, LayerSpec, Problem], Changed | None]
Refine = Callable[[Solution, Block, Values], Solution]
"""Gives another solution for a block whose layers have all been changed, from the integers that come into it."""


def each_layer(
    solution: Solution,
    bench: Bench,
    clock: Clock,
    change: Change,
    *,
    rows: int,
    seed: int,
    largest: int | None = None,
    original: bool = True,
    blocks: Sequence[Block] = (),
    refine: Refine | None = None,
) -> tuple[Solution, list[Changed]]:
    """Let ``change`` mend every linear layer in order, each on what the integer layers before it give.

    Args:
        solution: Where to begin.
        bench: The samples.
        clock: When time is up, the layers that are left stay as they are.
        change: Gives the solution with another layer, or None.
        rows: Places of the output that are looked at, at most.
        seed: Of the choice of places.
        largest: Layers with more weights of one output are left alone, and those with as many second moments in
            many groups (averages that have become depthwise layers).
        original: Whether layers should give what they gave in the network as it was, or what they give now.
        blocks: Pieces of the network.
        refine: Called after the last layer of each, before the layers behind it see what it gives.
    """
    begins = {block.layers[0].name for block in blocks}
    ends = {block.layers[-1].name: block for block in blocks}
    incoming: tuple[int, Values] = (0, {})
    specs = {layer.name: layer for layer in solution.spec.layers}
    wanted = Wanted(solution, bench, rows, np.random.default_rng(seed), largest, original=original)
    program = solution.program(bench.target)
    values = quantized_inputs(program, bench.network.inputs, bench.fit)
    done: list[Changed] = []
    total = len(layers(program))
    for i in range(total):
        name, steps = layers(program)[i]
        if clock.over:
            break
        clock.tell(f"layer {i + 1} of {total}, {name}")
        spec = specs.get(name)
        if name in begins:
            incoming = (i, dict(values))
        found = None
        if spec is not None and wanted.has(spec, steps):
            found = change(solution, spec, problem_of(solution, spec, program, steps, values, wanted))
        if found is not None:
            solution = found.solution
            done.append(found)
            program = solution.program(bench.target)
            steps = layers(program)[i][1]
        values |= advance(program, steps, values)
        if name in ends and refine is not None:
            refined = refine(solution, ends[name], incoming[1])
            if refined is not solution:
                solution, program = refined, refined.program(bench.target)
                values = incoming[1]
                for _, again in layers(program)[incoming[0] : i + 1]:
                    values |= advance(program, again, values)
        values = still_needed(program, sum(len(s) for _, s in layers(program)[: i + 1]), values)
    return solution, done


def aimed(problem: Problem, weights: Reals | None = None) -> Reals:
    """Wanted outputs of the rows to learn from; beyond the activation's bounds, what ``weights`` make is as good."""
    made = problem.inputs @ (problem.weights if weights is None else weights).swapaxes(1, 2)
    wanted = problem.wanted[:, : problem.train].astype(np.float64)
    lo, hi = problem.bounds
    same = ((wanted <= lo) & (made <= lo)) | ((wanted >= hi) & (made >= hi))
    return np.where(same, made, np.where(wanted < lo, lo, np.where(wanted > hi, hi, wanted)))


def mean_error(problem: Problem, goal: Reals, weights: Reals) -> Reals:
    """The bias ``[groups, out]`` that takes the mean error of real ``weights`` ``[groups, out, k]`` away."""
    return np.asarray((goal - problem.inputs[:, :, 1:] @ weights.swapaxes(1, 2)).mean(axis=1))


def real(q: NDArray[np.int64], format: Format, bias: Reals) -> Reals:
    """Real weights with the bias in front."""
    size = np.broadcast_to(format.scale, (q.shape[0] * q.shape[1],)).reshape(q.shape[:2])
    return np.concatenate([bias[:, :, None], q * size[:, :, None]], axis=2)


def stored_bias(solution: Solution, target: Target, spec: LayerSpec, format: Format, bias: Reals) -> Reals:
    """The bias as a target with a format for it stores it."""
    trial = solution.with_layer(spec.name, bias=bias.reshape(-1))
    trial = trial.with_formats(trial.formats.with_weight(spec.name, format), target)
    own = trial.formats.biases[spec.name]
    rounding = target.bias_rule(spec.op, **spec.facts).rounding
    return own.dequantize(own.quantize(bias.reshape(-1), rounding)).reshape(bias.shape)


def problem_of(
    solution: Solution,
    spec: LayerSpec,
    program: Program,
    steps: list[Step],
    values: dict[str, NDArray[Any]],
    wanted: Wanted,
) -> Problem:
    """What arrives at a linear layer and what should leave it."""
    step = next(s for s in steps if isinstance(s.form, Contract))
    form = step.form
    assert isinstance(form, Contract)  # chosen so
    stored = program.tensors[form.weight]
    places, rows = wanted.of(spec)
    scale = float(program.buffers[step.inputs[0]].format.scale)
    x = patches(form, values[step.inputs[0]], places, stored.shape[2:]) * np.float32(scale)
    groups, count = form.groups, len(stored)
    bias = solution.bias(spec)
    bias = np.zeros(count) if bias is None else np.asarray(bias)
    weights = spec.weights().reshape(groups, count // groups, -1)
    return Problem(
        x=np.concatenate([np.ones((*x.shape[:2], 1), np.float32), x], axis=2),
        wanted=rows.reshape(-1, groups, count // groups).transpose(1, 0, 2),
        bounds=spec.clamp or (-np.inf, np.inf),
        train=places.shape[1] * (len(places) - max(1, round(CHECKED * len(places)))),
        weights=np.concatenate([bias.reshape(groups, -1, 1), weights], axis=2),
        stored=np.asarray(stored, np.int64).reshape(weights.shape),
    )


def inside(asked: Reals, before: tuple[float, float] | None, now: tuple[float, float] | None, origin: Moved) -> Reals:
    """Outputs where the bounds that an activation had before are the narrower ones, kept within these.

    Args:
        asked: Outputs before the activation, moved, ``[rows, out]``.
        before: Bounds of the activation in the network as it was.
        now: The bounds that it has.
        origin: How its channels have moved.
    """
    if before is None:
        return asked
    lo, hi = now or (-np.inf, np.inf)
    with np.errstate(invalid="ignore"):  # a channel without a scale has no bound
        low, high = (end * origin.scale + origin.shift for end in before)
        # Where both are nearly the same, the new bound does what the old one did, and nothing need be asked.
        near = NEAR * np.where(np.isfinite(high - low), high - low, origin.scale)
    low, high = np.where(low > lo + near, low, -np.inf), np.where(high < hi - near, high, np.inf)
    return np.asarray(np.clip(asked, low, high))


def _moments(spec: LayerSpec) -> int:
    """Numbers in the second moments of the inputs, of all groups together."""
    groups = int(spec.attributes.get("group", 1)) if spec.op in ("Conv", "ConvTranspose") else 1
    return groups * int(np.prod(spec.weights().shape[1:])) ** 2


class Wanted:
    """What every linear layer should give before its activation, at chosen places.

    With ``original`` that is what the layer gave in the network as it was, moved as passes have moved its channels since:
    then a layer is asked to make up not only for rounding, but also for bounds of ReLU6 before it that stayed while
    channels moved, and, with weights of few bits, for its own.  Else it is what the layer gives now.
    """

    def __init__(
        self,
        solution: Solution,
        bench: Bench,
        rows: int,
        rng: np.random.Generator,
        largest: int | None,
        *,
        original: bool = True,
    ) -> None:
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
            if largest is not None and _moments(spec) > largest**2:
                continue
            size = int(np.prod(shape[2:]))
            useful = max(FEWEST, PER_WEIGHT * int(np.prod(spec.weights().shape[1:])))
            each = min(size, max(1, -(-min(rows, useful) // count)))
            picked = [np.sort(rng.choice(size, each, replace=False)) for _ in range(count)]
            self._tensor[spec.name], self._places[spec.name] = tensor, np.stack(picked)
        origins = _origins(solution, bench.network) if original else {}
        self._rows = self._run(bench.network, [name for name in self._tensor if name in origins], bench)
        few = {
            name for name in self._rows if solution.formats.weights[name].bits <= FEW
        }  # with more, no gain was found
        before = _bounds(bench.network) if few else {}
        now = {spec.name: spec.clamp for spec in solution.spec.layers}
        for name, values in self._rows.items():
            asked = values * origins[name].scale + origins[name].shift
            if name in few:
                asked = inside(asked, before.get(self._tensor[name]), now[name], origins[name])
            self._rows[name] = np.asarray(asked, np.float32)
        self._rows |= self._run(net, [name for name in self._tensor if name not in origins], bench)

    def _run(self, net: Network, names: list[str], bench: Bench) -> dict[str, NDArray[np.float32]]:
        if not names:
            return {}
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
        """Whether the layer can be looked at."""
        return spec.name in self._tensor and sum(isinstance(s.form, Contract) for s in steps) == 1

    def of(self, spec: LayerSpec) -> tuple[Places, NDArray[np.float32]]:
        """Places ``[n, p]`` and float outputs ``[n * p, out]``."""
        return self._places[spec.name], self._rows[spec.name]


def _bounds(net: Network) -> dict[str, tuple[float, float] | None]:
    """Output of a layer before its activation → bounds of that."""
    known = [layer for layer in net.layers() if layer.main.outputs]
    return {str(layer.main.outputs[0].name): activation_bounds(net, layer) for layer in known}


def _origins(solution: Solution, before: Network) -> dict[str, Moved]:
    """Layer → how its outputs have moved since the network was ``before``.

    Only of layers that are linear in both networks and have as many outputs; what others gave is not known.
    """
    first = {str(node.outputs[0].name): node for node in before.nodes() if node.outputs}
    found: dict[str, Moved] = {}
    for spec in solution.spec.layers:
        node = first.get(str(spec.layer.main.outputs[0].name))
        if not spec.is_linear or node is None:
            continue
        old, new = read_linear(before, node), read_linear(solution.network, spec.layer.main)
        if old is None or new is None or old.outputs != new.outputs:
            continue
        moved = between(node, spec.layer.main, new.outputs)
        if moved is not None:
            found[spec.name] = moved
    return found
