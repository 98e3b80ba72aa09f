"""Block by block, integers that make up for what happens further on in the block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bitwright.calibrate.spec import LayerSpec
from bitwright.mend.bench import Bench, run_float, surely_better
from bitwright.mend.blocks import Block, carried_back, contraction, find_blocks
from bitwright.mend.layerwise import Changed, Problem, each_layer, real, stored_bias
from bitwright.mend.patches import patches
from bitwright.mend.reconstruct import LARGEST, Reconstruct
from bitwright.mend.repair import Clock
from bitwright.mend.rounding import compensated, damped, descended
from bitwright.mend.solution import Solution
from bitwright.mend.walk import Values, advance, layers
from bitwright.number.format import Rounding
from bitwright.program.program import Program, Step

Reals = NDArray[np.float64]

MOST_VALUES = 1.2e8
"""Values of a block that are held at once: of large maps, fewer samples are looked at."""
FEWEST = 16
CHECKED = 0.25
"""Share of the samples that choose, and are not learned from."""
FEWEST_ROWS = 2048
ROWS_PER_WEIGHT = 24
INVERTED = 1200
"""Weights of one output up to which rounding begins anew with compensation; beyond, weights only move on."""


@dataclass(frozen=True, kw_only=True)
class ReconstructBlocks:
    """Move weights to where the error at the end of their block is least, and round them there.

    Each layer is first fitted by itself, as ``reconstruct`` does.  But a layer's own error says nothing about what the layers behind it make of it.  Here the error at the end of a block
    (a residual block, a fire module) is carried back to the sums of each of its layers.  With the second moments of the
    layer's inputs ``A`` and those of slopes ``B`` (from random signs carried back), ``-B⁻¹ G A⁻¹`` is the step of Gauss
    and Newton for its weights (the Kronecker factors of Martens and Grosse 2015, arXiv:1503.05671); it is rounded like
    any layer, by compensation and coordinate descent.  Blocks as in BRECQ (Li et al. 2021, arXiv:2102.05426), but no
    gradients of a learned rounding: each try is run in integers, and kept if the block's end is nearer to the float
    network on samples that were not learned from.

    Attributes:
        layers: Layers with weights that a block has at least.
        images: Samples that are looked at, at most.
        rows: Places of a layer's output that are learned from, at most.
        rounds: How often each block is gone through; it ends early when nothing is found.
        reach: Shares of the step that are tried.
        damping: Share of the mean diagonals that is added to both moments.
        layer_damping: ``damping`` of ``reconstruct``.
        drop: Share of the values coming into a block that are exact at random, while it is learned (the idea of QDrop,
            Wei et al. 2022, arXiv:2203.05740): what is learned then is not only for the errors of these samples.
        sure: Standard errors that the gain at a block's end must be away from none.
        probes: Random signs for each sample.
        largest: Layers with more weights of one output are left alone.
        seed: Of places, signs and dropped errors.
    """

    name: ClassVar[str] = "reconstruct-blocks"
    summary: ClassVar[str] = (
        "Move and round weights so that the ends of blocks of layers are right (after BRECQ, QDrop)."
    )

    layers: int = 2
    images: int = 256
    rows: int = 16384
    rounds: int = 2
    reach: tuple[float, ...] = (1.0, 0.4)
    damping: float = 0.03
    layer_damping: tuple[float, ...] = (0.01, 0.3)
    drop: float = 0.5
    sure: float = 2.0
    probes: int = 2
    largest: int = LARGEST
    seed: int = 0

    def apply(self, solution: Solution, bench: Bench, clock: Clock) -> tuple[Solution, str]:
        """See :class:`bitwright.mend.repair.Repair`."""
        rng = np.random.default_rng(self.seed)
        count = min(self.images, bench.fitted)
        blocks = find_blocks(solution.spec, fewest=self.layers)
        if count < 2 or not blocks:
            return solution, "no block of several layers lies between tensors that everything passes through"
        samples = {name: x[:count] for name, x in bench.fit.items()}
        single = Reconstruct(rows=self.rows, damping=self.layer_damping, seed=self.seed)
        shares: list[float] = []
        moved = 0

        def change(current: Solution, spec: LayerSpec, problem: Problem) -> Changed | None:
            return single.layer(current, bench.target, spec, problem)

        def refine(current: Solution, block: Block, values: Values) -> Solution:
            nonlocal moved
            each = sum(prod(current.spec.shapes[t]) for layer in block.layers for t in layer.outputs)
            few = min(count, max(FEWEST, int(MOST_VALUES / each)))
            taken = ({name: x[:few] for name, x in part.items()} for part in (values, samples))
            here = _Here.of(current, bench, block, *taken)
            for _ in range(self.rounds if here is not None else 0):
                assert here is not None  # no rounds otherwise
                here, changed = _mended(self, here, bench, rng, clock)
                moved += changed
                if not changed or clock.over:
                    break
            if here is None:
                return current
            shares.append(here.error / max(here.first, 1e-30))
            return here.solution

        found, done = each_layer(
            solution, bench, clock, change, rows=self.rows, seed=self.seed, largest=self.largest,
            blocks=blocks, refine=refine,
        )  # fmt: skip
        share = 100 * (1 - float(np.mean(shares))) if shares else 0.0
        text = (
            f"{len(done)} layers fitted, {moved} changes more in {len(shares)} blocks; the error at their ends falls by "
            f"{share:.1f} % on average"
        )
        return found if done or moved else solution, text if not clock.over else f"{text}; stopped by the clock"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Here:
    """One block and all that is known where it stands.

    Attributes:
        solution: As it is now.
        block: The block.
        source: Integers that come in, ``[n, ...]``.
        exact: The integers that the float network's values would be there.
        wanted: What should go out, ``[n, ...]`` in real units.
        outside: Values of other buffers that the block's steps read (none but the source, as a rule).
        train: Samples to learn from; the others choose.
        first: Mean squared error of the block's end before, on those that choose.
        errors: The same now, of each of them.
    """

    solution: Solution
    block: Block
    source: NDArray[np.integer]
    exact: NDArray[np.integer]
    wanted: NDArray[np.float32]
    outside: Mapping[str, NDArray[np.integer]]
    train: int
    first: float
    errors: Reals

    @property
    def error(self) -> float:
        """Mean squared error of the block's end now."""
        return float(self.errors.mean())

    @classmethod
    def of(
        cls,
        solution: Solution,
        bench: Bench,
        block: Block,
        values: Values,
        samples: Mapping[str, NDArray[np.floating]],
    ) -> _Here | None:
        """None where the block is not a piece of the program with integers at both ends."""
        program = solution.program(bench.target)
        names = {b.tensor: b.name for b in reversed(tuple(program.buffers.values())) if b.tensor}
        inside = [t for spec in block.layers for t in spec.outputs]
        steps = [name for name, _ in layers(program)]
        if any(t not in names for t in (block.source, *inside)) or names[block.source] not in values:
            return None
        if any(steps.count(spec.name) != 1 for spec in block.layers):
            return None
        tensors = list(dict.fromkeys((block.source, block.output)))
        arrays = dict(zip(tensors, run_float(solution.network, tensors, samples), strict=True))
        format = program.buffers[names[block.source]].format
        made = cls(
            solution=solution,
            block=block,
            source=values[names[block.source]],
            exact=format.quantize(arrays[block.source], Rounding.HALF_EVEN),
            wanted=arrays[block.output].astype(np.float32),
            outside={name: value for name, value in values.items() if name != names[block.source]},
            train=len(arrays[block.source]) - max(1, round(CHECKED * len(arrays[block.source]))),
            first=0.0,
            errors=np.zeros(1),
        )
        errors = made.errors_of(solution, bench)
        return replace(made, first=float(errors.mean()), errors=errors)

    def run(
        self, program: Program, rows: slice, source: NDArray[np.integer]
    ) -> tuple[dict[str, NDArray[np.integer]], dict[str, list[Step]]]:
        """All tensors of the block by name for some samples, and the steps of its layers."""
        steps = {name: items for name, items in layers(program) if name in {s.name for s in self.block.layers}}
        names = {b.tensor: b.name for b in reversed(tuple(program.buffers.values())) if b.tensor}
        given = {name: value[rows] for name, value in self.outside.items()} | {names[self.block.source]: source[rows]}
        made = advance(program, [step for items in steps.values() for step in items], given)
        found = {self.block.source: source[rows]}
        for spec in self.block.layers:
            found |= {t: made[names[t]] for t in spec.outputs}
        return found, steps

    def errors_of(self, solution: Solution, bench: Bench) -> Reals:
        """Mean squared error at the block's end of each sample that chooses."""
        rows = slice(self.train, None)
        program = solution.program(bench.target)
        made, _ = self.run(program, rows, self.source)
        format = solution.formats.activations[self.block.output]
        off = format.dequantize(made[self.block.output]) - self.wanted[rows]
        return np.asarray(np.mean(np.square(off).reshape(len(off), -1), axis=1))


def _mended(
    options: ReconstructBlocks, here: _Here, bench: Bench, rng: np.random.Generator, clock: Clock
) -> tuple[_Here, int]:
    """The block with those of its layers changed that make its end better, and how many did."""
    changed = 0
    for spec in here.block.linear:
        if clock.over:
            break
        weights = spec.weights()
        if int(np.prod(weights.shape[1:])) > options.largest:
            continue
        for trial in _tries(options, here, bench, spec, rng):
            errors = here.errors_of(trial, bench)
            gain = here.errors - errors
            if surely_better(gain, 1e-3 * here.error, options.sure):
                here = replace(here, solution=trial, errors=errors)
                changed += 1
                break
    return here, changed


def _tries(
    options: ReconstructBlocks, here: _Here, bench: Bench, spec: LayerSpec, rng: np.random.Generator
) -> Iterator[Solution]:
    """Solutions with other integers for one layer, those that promise most first."""
    solution, rows = here.solution, slice(0, here.train)
    program = solution.program(bench.target)
    source = here.source
    if options.drop > 0:
        source = np.where(rng.random(source.shape) < options.drop, here.exact, source).astype(source.dtype)
    values, steps = here.run(program, rows, source)
    format = solution.formats.activations[here.block.output]
    error = (format.dequantize(values[here.block.output]) - here.wanted[rows]).astype(np.float32)
    form = contraction(steps[spec.name])
    stored = np.asarray(program.tensors[form.weight], np.int64)
    groups = form.groups
    codes = stored.reshape(groups, len(stored) // groups, -1)
    slope = carried_back(here.block, program, steps, values, error)[spec.name]
    size = int(np.prod(slope.shape[2:]))
    useful = min(options.rows, max(FEWEST_ROWS, ROWS_PER_WEIGHT * codes.shape[2]))
    each = min(size, -(-useful // here.train))
    places = np.stack([np.sort(rng.choice(size, each, replace=False)) for _ in range(here.train)])
    weight_format = solution.formats.weights[spec.name]
    scale = np.float32(solution.formats.activations[spec.tensors[0]].scale)
    inner = patches(form, values[spec.tensors[0]], places, stored.shape[2:]) * scale
    x = np.concatenate([np.ones((*inner.shape[:2], 1), np.float32), inner], axis=2)
    pull = _at(slope, places, groups).swapaxes(1, 2) @ x / x.shape[1]
    curve = np.zeros((groups, codes.shape[1], codes.shape[1]))
    for _ in range(options.probes):
        signs = rng.choice(np.asarray([-1.0, 1.0], np.float32), error.shape)
        u = _at(carried_back(here.block, program, steps, values, signs)[spec.name], places, groups)
        curve += u.swapaxes(1, 2) @ u / (options.probes * u.shape[1])
    moments = damped((x.swapaxes(1, 2) @ x / x.shape[1]).astype(np.float64), options.damping)
    if not np.any(curve) or not np.any(pull):
        return
    step = -np.linalg.solve(damped(curve, options.damping), pull.astype(np.float64))
    step = np.linalg.solve(moments, step.swapaxes(1, 2)).swapaxes(1, 2)
    bias = solution.bias(spec)
    bias = np.asarray(np.zeros(len(stored)) if bias is None else bias, np.float64).reshape(groups, -1)
    now = real(codes, weight_format, bias)
    per_output = np.broadcast_to(weight_format.scale, (len(stored),)).reshape(groups, -1).astype(np.float64)
    lo, hi = weight_format.lo, weight_format.hi
    own = spec.name in solution.formats.biases
    for share in options.reach:
        ideal = now + share * step
        first = ideal[:, :, 0]
        if own:
            first = stored_bias(solution, bench.target, spec, weight_format, first)
        starts = [codes]
        if codes.shape[2] <= INVERTED and share == max(options.reach):
            starts.append(compensated(ideal, moments, per_output, lo, hi, first=first))
        for start in starts:
            q = descended(start, ideal, moments, per_output, lo, hi, first=first, sweeps=1)
            trial = solution.with_layer(spec.name, bias=first.reshape(-1))
            trial = trial.with_formats(trial.formats, bench.target)
            if (
                trial.formats.weights[spec.name] == weight_format
                and trial.formats.activations == here.solution.formats.activations
            ):
                yield trial.with_layer(spec.name, weights=q.reshape(spec.weights().shape))


def _at(slope: NDArray[np.float32], places: NDArray[np.int64], groups: int) -> NDArray[np.float32]:
    """``slope`` ``[n, out, ...]`` at ``places`` ``[n, p]`` as ``[groups, n * p, out / groups]``."""
    flat = slope.reshape(*slope.shape[:2], -1)
    picked = np.take_along_axis(flat, places[:, None, :], 2).swapaxes(1, 2)  # [n, p, out]
    return np.ascontiguousarray(picked.reshape(-1, groups, flat.shape[1] // groups).transpose(1, 0, 2))
